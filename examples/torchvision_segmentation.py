"""A torchvision segmentation network with dropout in its head: class probabilities and uncertainty for each pixel."""

import torch
from torchvision.models.segmentation import fcn_resnet50

import caveat


def main() -> None:
    torch.manual_seed(0)
    network = fcn_resnet50(weights=None, weights_backbone=None, num_classes=4, aux_loss=True).eval()
    images = torch.rand(2, 3, 64, 64)

    audit = caveat.audit(network, images)  # the dropout of the auxiliary head is there too; nothing reads it
    print("\n".join(f"{site.path}: rate {site.rate}" for site in audit if site.live))

    sampler = caveat.mc_dropout(network, output=caveat.Logits(class_dim=1, select="out"))
    pred = caveat.predict(sampler, images, n=20, seed=0)
    information = caveat.mutual_information(pred)
    print(f"probabilities {tuple(pred.mean.shape)}: batch, height, width, class")
    print(f"mutual information {tuple(information.shape)}, a mean of {float(information.mean()):.4f} nats a pixel")
    print("in all, an image:", [round(float(one), 4) for one in caveat.predictive_entropy(pred).mean((1, 2))])


if __name__ == "__main__":
    main()
