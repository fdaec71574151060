"""Which class is each pixel of a street, and which kind of doubt is left: of the image, or of the network?

The segmentation of "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal,
2017, on small frames. Run: python experiments/kendall_2017_segmentation/run.py
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from frames import CLASSES, PLACES, VOID, camvid, confusion, intersection_over_union, place
from pictures import draw_by_class, draw_maps, draw_precision
from records import Experiment, Record, markdown, run
from unet import UNet, train

import caveat
from caveat.layers import LogitsAndLogVarianceHead
from caveat.losses import attenuated_cross_entropy
from caveat.measures import entropy_by_class, mean_by_predicted_class
from caveat.metrics import detection, expected_calibration_error, negative_log_likelihood, risk_coverage
from caveat.samplers import deterministic

SEEN, DRAWS, NOISES = 10_000, 20, 8  # frames that training sees in all; passes; samples of the logits' noise
WIDTHS, RATE = (16, 32, 64, 64), 0.2
# A part is one network: whether it has a head for noise, and how many of the frames it is trained on.
PARTS = {"plain": (False, 1), "noise": (True, 1), "noise, half": (True, 2), "noise, quarter": (True, 4)}
METHODS = {"baseline": "plain", "aleatoric": "noise", "epistemic": "plain", "both": "noise"}
FRACTIONS = np.linspace(0.02, 1, 50)
MEASURES: dict[str, Callable[[Any], Tensor]] = {
    "entropy": caveat.predictive_entropy,
    "aleatoric": caveat.expected_entropy,
    "epistemic": caveat.mutual_information,
}


class Expected(nn.Module):
    """Log of the class probabilities, expected over the noise on the logits: (B, C, H, W).

    The noise is the same at each pixel and in each call, so that this is one function; it comes in mirrored pairs.
    """

    def __init__(self, network: nn.Module, samples: int = 10) -> None:
        super().__init__()
        self.network = network
        half = torch.randn(samples // 2, 1, VOID, 1, 1, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", torch.cat([half, -half]))

    def forward(self, x: Tensor) -> Tensor:
        logits, log_variance = self.network(x)
        log_p = (logits + (0.5 * log_variance).exp() * self.noise).log_softmax(2)
        return log_p.logsumexp(0) - np.log(len(self.noise))


def compute(part: str, smoke: bool) -> Record:
    """Train one network; read it with and without draws."""
    if smoke:
        return [of_network(*PARTS[own], 8, 32, 60, 2) for own in ("noise", part)][-1]
    return of_network(*PARTS[part], 1, SEEN, 1, DRAWS, keep=part == "noise")


def of_network(
    with_noise: bool, share: int, thin: int, seen: int, every: int, draws: int, *, keep: bool = False
) -> Record:
    """The scores of a network that is trained on each `share`-th frame."""
    x, y = camvid("train", share * thin)
    layer = functools.partial(nn.Conv2d, kernel_size=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = LogitsAndLogVarianceHead(WIDTHS[0], VOID, layer=layer) if with_noise else layer(WIDTHS[0], VOID)
        network = UNet(head, WIDTHS, RATE)
    noisy = functools.partial(attenuated_cross_entropy, samples=NOISES, ignore_index=VOID)
    plain = functools.partial(nn.functional.cross_entropy, ignore_index=VOID)
    train(network, noisy if with_noise else plain, x, y, images=seen, seed=0, learning_rate=1e-2)
    readable = Expected(network).eval() if with_noise else network
    output = caveat.Logits(class_dim=1)
    single, many = deterministic(readable, output=output), caveat.mc_dropout(readable, output=output)
    found: Record = {"frames": len(x)}
    x, y = camvid("test", every)
    predict = functools.partial(in_batches, many, draws)
    for name, pred in (("deterministic", in_batches(single, 1, x)), ("draws", predict(x))):
        found[name] = scores(pred, y)
    found["draws"] |= by_class(pred, y) | by_frame(pred, y)
    found["places"] = {name: doubts(predict(place(name, 6 * every)), network, draws, name, every) for name in PLACES}
    if keep:
        np.savez_compressed(Path(__file__).parent / "maps.npz", **maps(predict))
    return found


def in_batches(sampler: Any, draws: int, x: Tensor) -> Any:
    """The predictive of all frames."""
    first, *others = caveat.predict_batches(sampler, x.split(20), draws)
    return first.concatenate(*others)


def scores(pred: Any, y: Tensor) -> Record:
    """Of all labeled pixels of all frames."""
    seen = y != VOID
    p, labels, said = pred.mean[seen], y[seen], pred.mean.argmax(-1)
    wrong = (said[seen] != labels).double()
    found: Record = {
        "mIoU": intersection_over_union(confusion(said, y)).nanmean(),
        "accuracy": 1 - wrong.mean(),
        "NLL": negative_log_likelihood(p, labels),
        "ECE": expected_calibration_error(p, labels),
    }
    found = {name: round(float(value), 4) for name, value in found.items()}
    for name, measure in MEASURES.items():
        unsure = measure(pred)[seen].double()
        if float(unsure.max()) > 1e-6:  # without draws there is no mutual information
            found[f"precision by {name}"] = precision(unsure, wrong)
            found[f"AUROC of errors by {name}"] = round(float(detection(unsure, wrong.bool()).auroc), 4)
    return found


def precision(unsure: Tensor, wrong: Tensor) -> list[float]:
    """The share that is right among the surest, at each of FRACTIONS."""
    curve = risk_coverage(unsure, wrong)
    return np.interp(FRACTIONS, curve.coverage.numpy(), 1 - curve.risk.numpy()).round(4).tolist()


def by_class(pred: Any, y: Tensor) -> Record:
    """IoU of each class, its term of the entropy over all pixels, and each measure where it is predicted; nats."""
    said = pred.mean.argmax(-1)
    seen = y != VOID
    found: Record = {"IoU": clean(intersection_over_union(confusion(said, y)))}
    found["share of pixels"] = clean(torch.stack([(y[seen] == k).double().mean() for k in range(VOID)]))
    found["entropy terms"] = clean(entropy_by_class(pred).double().mean((0, 1, 2)))
    for name, measure in MEASURES.items():
        values = measure(pred).double()
        found[f"{name} by class"] = clean(torch.stack([values[said == k].mean() for k in range(VOID)]))
        found[f"{name} overall"] = round(float(values.mean()), 5)
    return found


def by_frame(pred: Any, y: Tensor) -> Record:
    """Each frame's mean entropy, over all and by class, its accuracy, and how a class's entropy there ranks its IoU."""
    said, unsure = pred.mean.argmax(-1), caveat.predictive_entropy(pred).double()
    counts = torch.stack([confusion(a, b) for a, b in zip(said, y, strict=True)])
    found: Record = {
        "entropy of frames": clean(unsure.mean((1, 2))),
        "accuracy of frames": clean(counts.diagonal(dim1=1, dim2=2).sum(1) / counts.sum((1, 2))),
    }
    iou = torch.stack([intersection_over_union(own) for own in counts])
    entropy = mean_by_predicted_class(pred).double()
    found["entropy by class, mean of frames"] = clean(entropy.nanmean(0))
    found["frames with a pixel of the class"] = (~entropy.isnan()).sum(0).tolist()
    # A class of a frame counts if it is there or said in at least 25 pixels, and said at all.
    size = counts.sum(1) + counts.sum(2) - counts.diagonal(dim1=1, dim2=2)
    told = (size >= 25) & ~entropy.isnan()
    accuracies = torch.tensor(found["accuracy of frames"])
    found["rank correlation of frames"] = rank_correlation(unsure.mean((1, 2)), accuracies)
    found["rank correlation of classes in frames"] = rank_correlation(entropy[told], iou[told])
    each = [rank_correlation(entropy[:, k][told[:, k]], iou[:, k][told[:, k]]) for k in range(VOID)]
    found["rank correlation by class"] = each
    return found


def rank_correlation(a: Tensor, b: Tensor) -> float | None:
    """Spearman's; None of fewer than ten."""
    ranks = torch.stack([values.double().argsort().argsort().double() for values in (a, b)])
    return round(float(torch.corrcoef(ranks)[0, 1]), 4) if len(a) >= 10 else None


def doubts(pred: Any, network: nn.Module, draws: int, name: str, every: int) -> Record:
    """Means over pixels of the three entropies, nats; of a network with noise also the variances of its logits."""
    found = {kind: float(measure(pred).double().mean()) for kind, measure in MEASURES.items()}
    if isinstance(network.head, LogitsAndLogVarianceHead):
        sampler = caveat.mc_dropout(network, output=caveat.MeanAndLogVariance())
        logits = in_batches(sampler, draws, place(name, 6 * every))
        found["aleatoric logit variance"] = float(logits.aleatoric_variance.double().mean())
        found["epistemic logit variance"] = float(logits.epistemic_variance.double().mean())
    return {kind: round(value, 5) for kind, value in found.items()}


def maps(predict: Callable[[Tensor], Any]) -> dict[str, np.ndarray]:
    """What is shown: two frames, the second at night, and a photograph of something else."""
    found: dict[str, np.ndarray] = {}
    x, y = camvid("test", 3)
    none = torch.full_like(y[0], VOID)
    shown = {
        "a frame": (x[20], y[20]),
        "another": (x[60], y[60]),
        "the first at night": (place("night", 3)[20], y[20]),
        "ImageNet": (place("ImageNet", 3)[33], none),
    }
    for name, (image, truth) in shown.items():
        pred = predict(image[None])
        found[f"{name}: image"] = (255 * image).byte().numpy()
        found[f"{name}: classes"] = torch.stack([truth, pred.mean.argmax(-1)[0]]).byte().numpy()
        doubt = torch.stack([MEASURES[kind](pred)[0] for kind in ("aleatoric", "epistemic")])
        found[f"{name}: doubt"] = doubt.half().numpy()
    return found


def clean(values: Tensor) -> list[float | None]:
    return [round(v, 4) if v == v else None for v in values.tolist()]


# ------------------------------------------------------------------------------------------------ what is told of it


def method(parts: dict[str, Record], name: str) -> Record | None:
    """The scores of one of the paper's four."""
    record = parts.get(METHODS[name])
    return None if record is None else record["deterministic" if name in ("baseline", "aleatoric") else "draws"]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """What the claims are about."""
    found: dict[str, float] = {}
    for name in METHODS:
        own = method(parts, name)
        if own is not None:
            found |= {f"{key}, {name}": own[key] for key in ("mIoU", "accuracy", "NLL", "ECE")}
            curve = own["precision by entropy"]
            found[f"precision of the surer half by entropy, {name}"] = float(np.interp(0.5, FRACTIONS, curve))
            rises = np.flatnonzero(np.diff(curve) > 1e-3)
            found[f"largest fraction retained at which precision rises, {name}"] = max(
                (float(FRACTIONS[k + 1]) for k in rises), default=0.0
            )
    if "noise" in parts:
        own = parts["noise"]["draws"]
        found["entropy overall, both"] = own["entropy overall"]
        found["sum of the classes' terms over the entropy, both"] = sum(own["entropy terms"]) / own["entropy overall"]
        found["rank correlation of classes in frames, both"] = own["rank correlation of classes in frames"] or 0.0
    for part, record in parts.items():
        home = record["places"]["CamVid"]
        found |= {f"{kind} at home, {part}": value for kind, value in home.items()}
        for place_, own in record["places"].items():
            if place_ != "CamVid" and part in ("plain", "noise"):
                found |= {f"{kind}, {place_} over home, {part}": own[kind] / home[kind] for kind in home if home[kind]}
    return found


def table(parts: dict[str, Record]) -> str:
    """Four methods; data and places; classes."""
    keys = ("mIoU", "accuracy", "NLL", "ECE")
    rows: list[list[str]] = []
    for name in METHODS:
        own = method(parts, name)
        if own is not None:
            at = np.interp((0.9, 0.5, 0.1), FRACTIONS, own["precision by entropy"])
            rows.append([name, *(f"{own[key]:.3f}" for key in keys), *(f"{share:.3f}" for share in at)])
    lines = [markdown(["", *keys, "precision of the surest 90 %", "50 %", "10 %"], rows), ""]
    kinds = [*MEASURES, "aleatoric logit variance", "epistemic logit variance"]
    rows = [
        [f"{record['frames']} ({part})", name, f"{record['draws']['mIoU']:.3f}" if name == "CamVid" else "",
         *(f"{own[kind]:.3f}" if kind in own else "" for kind in kinds)]
        for part, record in parts.items() for name, own in record["places"].items()
    ]  # fmt: skip
    lines += [markdown(["trained on frames", "tested on", "mIoU", *kinds], rows), ""]
    return "\n".join([*lines, *by_class_table(parts["noise"]["draws"])] if "noise" in parts else lines)


def by_class_table(own: Record) -> list[str]:
    """The entropies as RelayNet's MC-dropout variant reports them: by class, over all, and frame by frame."""
    of_frames = "entropy by class, mean of frames"
    columns = ("share of pixels", "IoU", "entropy terms", *(f"{kind} by class" for kind in MEASURES), of_frames,
               "rank correlation by class")  # fmt: skip
    rows = [[name, *(told(own[column][k]) for column in columns)] for k, name in enumerate(CLASSES)]
    overall = {kind: told(own[f"{kind} overall"]) for kind in MEASURES}
    rows.append(["all", "", told(own["mIoU"]), overall["entropy"], *overall.values(), overall["entropy"], ""])
    head = ["both: class", *columns[:2], "-p log p, all pixels", *(f"{kind}, its pixels" for kind in MEASURES),
            "entropy, its pixels, mean of frames", "entropy in a frame against IoU there"]  # fmt: skip
    frames, classes = (own[f"rank correlation of {kind}"] for kind in ("frames", "classes in frames"))
    line = (
        f"Rank correlations of both: a frame's mean entropy against its accuracy {told(frames)}"
        f" ({len(own['entropy of frames'])} frames); a class's entropy there against its IoU {told(classes)}."
    )
    return [markdown(head, rows), "", line]


def told(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Precision against the share kept, maps, and doubt by class."""
    curves = {name: (FRACTIONS, own["precision by entropy"]) for name in METHODS if (own := method(parts, name))}
    both = method(parts, "both")
    assert both is not None
    by_measure = {name: (FRACTIONS, both[f"precision by {name}"]) for name in MEASURES}
    draw_precision(curves, by_measure, folder / "precision.png")
    with np.load(folder / "maps.npz") as file:
        draw_maps(dict(file), CLASSES, folder / "maps.png")
    draw_by_class(both, CLASSES, folder / "classes.png")


if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, list(PARTS), compute, numbers, table, draw))
