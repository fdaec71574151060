"""Which networks are too sure of themselves, and does one number mend it? Depth, width, batch norm, weight decay.

After "On Calibration of Modern Neural Networks", Guo, Pleiss, Sun and Weinberger, 2017: sections 3 and 5.
Run: python experiments/guo_2017_calibration/run.py
"""

from __future__ import annotations

import functools
import io
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from networks import Settings, logits, train
from pictures import draw_factors, draw_reliability
from records import Experiment, Record, data, markdown, plus_minus, run

from caveat.calibrate import (
    fit_dirichlet,
    fit_isotonic,
    fit_matrix_scaling,
    fit_platt,
    fit_temperature,
    fit_vector_scaling,
)
from caveat.metrics import accuracy, expected_calibration_error, negative_log_likelihood, reliability_bins

SEEDS, TRAINED_ON, HELD_OUT, TESTED_ON = 3, 10_000, 5_000, 10_000
BASE = Settings()
PLAIN = replace(BASE, shortcuts=False)
NETWORKS: dict[str, Settings] = {
    "base": BASE,
    "depth 14": replace(BASE, depth=2),
    "depth 26": replace(BASE, depth=4),
    "width 8": replace(BASE, width=8),
    "width 32": replace(BASE, width=32),
    "decay 0": replace(BASE, weight_decay=0.0),
    "decay 5e-3": replace(BASE, weight_decay=5e-3),
    "decay 2e-2": replace(BASE, weight_decay=2e-2),
    "plain, batch norm": PLAIN,
    "plain, no norm": replace(PLAIN, batch_norm=False),
    "plain, no norm, 36 epochs": replace(PLAIN, batch_norm=False, epochs=36),
}
# A factor, and the networks along it with what its axis says.
SWEEPS: dict[str, dict[str, str]] = {
    "depth (layers)": {"base": "8", "depth 14": "14", "depth 26": "26"},
    "width (channels of the first stage)": {"width 8": "8", "base": "16", "width 32": "32"},
    "weight decay": {"decay 0": "0", "base": "5e-4", "decay 5e-3": "5e-3", "decay 2e-2": "2e-2"},
    "batch normalization": {
        "plain, no norm": "without",
        "plain, no norm, 36 epochs": "without,\n3 x the epochs",
        "plain, batch norm": "with",
    },
}
MAPS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "temperature": fit_temperature,
    "vector": fit_vector_scaling,
    "matrix": fit_matrix_scaling,
    "Dirichlet": fit_dirichlet,
    "isotonic": fit_isotonic,
    "Platt": fit_platt,
}
SHOWN = "width 32, seed 0"  # its reliability is drawn


@functools.cache
def images(part: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """CIFAR-10 images (N, 3, 32, 32), standardized by the training images, and labels."""
    from PIL import Image

    with np.load(data("cifar10", f"{part}.npz")) as file:
        jpeg, offsets, labels = file["jpeg"], file["offsets"], file["labels"]
    files = (jpeg[offsets[row] : offsets[row + 1]].tobytes() for row in range(start, stop))
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in files])
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)))
    x = torch.from_numpy(pixels).movedim(-1, 1).float() / 255
    return (x - mean) / deviation, torch.from_numpy(labels[start:stop]).long()


def compute(part: str, smoke: bool) -> Record:
    """Train one network, then calibrate it on images that it has not seen, in six ways."""
    name, seed = part.split(", seed ")
    if smoke:
        kinds = [replace(NETWORKS[kind], epochs=1) for kind in ("plain, no norm", name)]
        return [measured(kind, int(seed), 500, 500, 500) for kind in kinds][-1]
    found = measured(NETWORKS[name], int(seed), TRAINED_ON, HELD_OUT, TESTED_ON)
    if part != SHOWN:
        for way in ("none", *MAPS):
            del found[way]["bins"]
    return found


def measured(settings: Settings, seed: int, trained_on: int, held_out: int, tested_on: int) -> Record:
    x, y = images("train", 0, trained_on)
    net = train(settings, x, y, seed=seed)
    training_error = float((logits(net, x).argmax(-1) != y).double().mean())
    x, labels = images("train", trained_on, trained_on + held_out)
    held = logits(net, x)
    x, y = images("test", 0, tested_on)
    z = logits(net, x)
    fitted = {name: fit(held, labels) for name, fit in MAPS.items()}
    found: Record = {"training error": round(training_error, 4)}
    found["T"] = round(float(fitted["temperature"].temperature), 4)
    for name, to_probabilities in {"none": lambda scores: scores.softmax(-1), **fitted}.items():
        found[name] = scores_of(to_probabilities(z), y)
    found["floor"] = floor(fitted["temperature"](z), seed)
    return found


def scores_of(p: Tensor, y: Tensor) -> Record:
    """Error, NLL and ECE, and the bins of the reliability diagram."""
    nll = float(negative_log_likelihood(p, y))
    bins = reliability_bins(p, y)
    return {
        "error": round(1 - float(accuracy(p, y)), 4),
        "NLL": round(nll, 4) if math.isfinite(nll) else None,  # isotonic maps say that a class is impossible
        "ECE": round(float(expected_calibration_error(p, y)), 4),
        "bins": [bins.count[0].int().tolist(), *(clean(v[0]) for v in (bins.confidence, bins.accuracy))],
    }


def clean(values: Tensor) -> list[float]:
    return [round(v, 4) for v in values.nan_to_num(0.0).tolist()]


def floor(p: Tensor, seed: int) -> float:
    """The ECE of labels that are drawn from the probabilities themselves: what is measured of perfect calibration."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(p, 20, replacement=True, generator=generator).T
    return round(float(np.mean([float(expected_calibration_error(p, row)) for row in labels])), 4)


# ------------------------------------------------------------------------------------------------ what is told of it


def column(parts: dict[str, Record], network: str, read: Callable[[Record], Any]) -> list[Any]:
    """One number of each seed."""
    return [read(record) for part, record in parts.items() if part.split(", seed ")[0] == network]


def ece(record: Record, way: str = "none") -> float:
    return record[way]["ECE"]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds; of each factor the ECE of its largest value above that of its smallest."""
    found: dict[str, float] = {}
    present = [name for name in NETWORKS if column(parts, name, ece)]
    for name in present:
        found[f"ECE, {name}"] = float(np.mean(column(parts, name, ece)))
        found[f"error, {name}"] = float(np.mean(column(parts, name, lambda record: record["none"]["error"])))
    for factor, along in SWEEPS.items():
        first, last = next(iter(along)), list(along)[-1]
        if first in present and last in present:
            found[f"ECE rises with {factor}"] = found[f"ECE, {last}"] - found[f"ECE, {first}"]
    for way in MAPS:
        found[f"ECE after {way}, mean of all networks"] = float(np.mean([ece(r, way) for r in parts.values()]))
        found[f"ECE after {way}, worst network"] = max(ece(record, way) for record in parts.values())
    found["ECE, mean of all networks"] = float(np.mean([ece(record) for record in parts.values()]))
    found["ECE of perfect calibration"] = float(np.mean([record["floor"] for record in parts.values()]))
    return found


def table(parts: dict[str, Record]) -> str:
    """A table for the networks by factor, and one for the maps."""
    head = ["", "training error, %", "error, %", "ECE, %", "ECE after T, %", "T", "NLL", "NLL after T"]
    rows: list[list[str]] = []
    for factor, along in SWEEPS.items():
        rows.append([f"**{factor}**", *[""] * 7])
        for name, value in along.items():
            read = functools.partial(column, parts, name)
            if read(ece):
                rows.append(
                    [value.replace("\n", " "), percent(read(lambda r: r["training error"])),
                     percent(read(lambda r: r["none"]["error"])), percent(read(ece)),
                     percent(read(lambda r: ece(r, "temperature"))), plus_minus(read(lambda r: r["T"]), 2),
                     plus_minus(read(lambda r: r["none"]["NLL"])), plus_minus(read(lambda r: r["temperature"]["NLL"]))]
                )  # fmt: skip
    return "\n".join([markdown(head, rows), "", *by_map(parts)])


def percent(shares: list[float]) -> str:
    return plus_minus([100 * share for share in shares], 1)


def by_map(parts: dict[str, Record]) -> list[str]:
    rows: list[list[str]] = []
    for way in ("none", *MAPS):
        own = [record[way] for record in parts.values()]
        nll = [one["NLL"] for one in own]
        gaps, errors = ([100 * one[key] for one in own] for key in ("ECE", "error"))
        mean_nll = "infinite" if None in nll else f"{np.mean(nll):.3f}"
        rows.append([way, f"{np.mean(gaps):.2f}", f"{max(gaps):.2f}", mean_nll, f"{np.mean(errors):.2f}"])
    floors = [record["floor"] for record in parts.values()]
    rows.append(["perfect calibration", f"{100 * np.mean(floors):.2f}", f"{100 * max(floors):.2f}", "", ""])
    head = ["map", "mean ECE, %", "worst ECE, %", "mean NLL", "mean error, %"]
    return [f"All {len(parts)} networks:", "", markdown(head, rows)]


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Error and ECE along each factor; the reliability of the widest network before and after."""
    draw_factors(SWEEPS, lambda name, read: column(parts, name, read), folder / "factors.png")
    draw_reliability(parts[SHOWN], folder / "reliability.png")


if __name__ == "__main__":
    names = [f"{name}, seed {k}" for k in range(SEEDS) for name in NETWORKS]
    run(Experiment(Path(__file__).parent, names, compute, numbers, table, draw))
