"""Calibration as torchmetrics objects, batch by batch: a network trained on few digits, in one pass and drawn from."""

import torch
import torchmetrics
from sklearn.datasets import load_digits
from torch import nn

import caveat
from caveat.interop import torchmetrics_metric
from caveat.metrics import ReliabilityBins, RunningMean, brier_score, negative_log_likelihood

EPOCHS = 40


def main() -> None:
    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels))
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    train, test = (x[:400], y[:400]), (x[400:], y[400:])
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10))
    caveat.fit(model, nn.CrossEntropyLoss(), train, epochs=EPOCHS, seed=0, progress=False)

    samplers = {
        "one pass": caveat.deterministic(model, output=caveat.Logits()),
        "MC dropout": caveat.mc_dropout(model, output=caveat.Logits()),
    }
    for name, sampler in samplers.items():
        metrics = torchmetrics.MetricCollection(
            {
                "ECE": torchmetrics_metric(ReliabilityBins.of(10)),
                "Brier score": torchmetrics_metric(RunningMean(brier_score)),
                "NLL": torchmetrics_metric(RunningMean(negative_log_likelihood)),
            }
        )
        for batch, truth in zip(test[0].split(200), test[1].split(200), strict=True):
            metrics.update(caveat.predict(sampler, batch), truth)
        print(f"{name:10}", {key: round(float(value), 4) for key, value in metrics.compute().items()})


if __name__ == "__main__":
    main()
