"""Can the probabilities be trusted when the images get worse? Rotated and corrupted digits.

After "Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty Under Dataset Shift", Ovadia et al.,
2019: its MNIST part. Run: python experiments/ovadia_2019_shift/run.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from digits import TRAINED_ON, trained
from records import Experiment, Record, images, markdown, plus_minus, run

import caveat
from caveat.calibrate import fit_temperature
from caveat.metrics import accuracy, brier_score, expected_calibration_error, negative_log_likelihood
from caveat.plot import plot_under_shift
from caveat.samplers import ensemble, mixture
from caveat.shift import ShiftTable, rotate, under_shift

SEEDS, DRAWS, COUNT = 3, 50, 1000  # the first 1,000 test digits
KINDS = (
    "gaussian_noise", "shot_noise", "defocus_blur", "motion_blur", "fog", "contrast", "pixelate", "jpeg_compression",
)  # fmt: skip
ANGLES = tuple(range(15, 195, 15))  # degrees
METRICS: dict[str, Callable[..., Tensor]] = {
    "accuracy": accuracy,
    "NLL": negative_log_likelihood,
    "Brier": brier_score,
    "ECE": expected_calibration_error,
}
METHODS = ("deterministic", "temperature", "MC dropout", "deep ensemble", "ensemble of MC dropout")
RATIO = "ECE over the deterministic network's"


def compute(part: str, smoke: bool) -> Record:
    """Every method reads the same five networks, on the same shifted images."""
    seed = int(part.split(" ")[1])
    predict = predictor(seed, smoke)
    x, y = images("mnist", "test")
    count = 50 if smoke else COUNT
    scores = {
        f"{method}, {name}": lambda p, t, column=column, metric=metric: metric(p[:, column], t)
        for column, method in enumerate(METHODS)
        for name, metric in METRICS.items()
    }
    settings = {"batch_size": 1000, "progress": lambda *_: None, "seed": 0}
    severities, angles = ((1, 5), (90, 180)) if smoke else ((1, 2, 3, 4, 5), ANGLES)
    tables = {
        "corruptions": under_shift(
            predict, x[:count], y[:count], scores, kinds=KINDS, severities=severities, **settings
        ),
        "rotation": under_shift(
            predict, x[:count], y[:count], scores, kinds={"rotation": rotate}, severities=angles, **settings
        ),
    }
    return {name: [[*row[:3], round(row[3], 5)] for row in rows_of(found)] for name, found in tables.items()}


def predictor(seed: int, smoke: bool) -> Callable[[Tensor], Tensor]:
    """Images to the probabilities of every method, (B, M, 10)."""
    networks = trained(seed, smoke=smoke)
    x, y = images("mnist", "train")
    held = slice(TRAINED_ON, TRAINED_ON + 2000)  # rows that no network was trained on or stopped by
    with torch.no_grad():
        scaled = fit_temperature(networks[0](x[held]), y[held])
    output, draws = caveat.Logits(), 5 if smoke else DRAWS
    with_dropout = [caveat.mc_dropout(one, output=output) for one in networks]
    members = ensemble(networks, output=output)
    samplers = ((with_dropout[0], draws), (members, len(networks)), (mixture(with_dropout), 2 * draws))

    def predict(shifted: Tensor) -> Tensor:
        with torch.no_grad():
            logits = networks[0](shifted)
        others = [caveat.predict(sampler, shifted, n=n, seed=seed).mean for sampler, n in samplers]
        return torch.stack([logits.softmax(-1), scaled(logits), *others], 1)

    return predict


def rows_of(table: ShiftTable) -> list[list]:
    """(kind, severity, "method, metric", value)."""
    return [[kind, float(severity), name, float(value)] for (kind, severity, name), value in table.values.items()]


def at(record: Record, shift: str, method: str, metric: str) -> dict[float, list[float]]:
    """The metric at each severity, one value a kind."""
    found: dict[float, list[float]] = {}
    for _, severity, name, value in record[shift]:
        if name == f"{method}, {metric}":
            found.setdefault(severity, []).append(value)
    return found


def strongest(record: Record, shift: str, method: str, metric: str) -> float:
    """Corruptions: the mean over the kinds at severity 5. Rotation: the mean over all angles from 15 to 180 degrees."""
    values = at(record, shift, method, metric)
    kept = values[5.0] if shift == "corruptions" else [v for angle, v in values.items() if angle > 0]
    return float(np.mean(kept))


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds, and the ratio of each method's ECE to the deterministic network's in the same seed."""
    found: dict[str, float] = {}
    for shift in ("corruptions", "rotation"):
        single = [strongest(record, shift, "deterministic", "ECE") for record in parts.values()]
        for method in METHODS:
            for metric in METRICS:
                found[f"{shift}, {metric}, {method}"] = float(
                    np.mean([strongest(record, shift, method, metric) for record in parts.values()])
                )
            own = [strongest(record, shift, method, "ECE") for record in parts.values()]
            found[f"{shift}, {RATIO}, {method}"] = float(np.mean(np.divide(own, single)))
    for method in METHODS:
        clean = [at(record, "rotation", method, "ECE")[0.0][0] for record in parts.values()]
        found[f"clean, ECE, {method}"] = float(np.mean(clean))
    return found


def table(parts: dict[str, Record]) -> str:
    """Clean, at the strongest corruption, and over rotations: mean and standard deviation over seeds."""
    lines: list[str] = []
    places = {
        "clean digits": lambda r, method, metric: at(r, "rotation", method, metric)[0.0][0],
        "severity 5, mean over kinds": lambda r, method, metric: strongest(r, "corruptions", method, metric),
        "rotated by 15° to 180°, mean over angles": lambda r, method, metric: strongest(r, "rotation", method, metric),
    }
    for title, read in places.items():
        rows = [
            [method, *(plus_minus([read(record, method, metric) for record in parts.values()]) for metric in METRICS)]
            for method in METHODS
        ]
        lines += [markdown([title, *METRICS], rows), ""]
    found = numbers(parts)
    for shift in ("corruptions", "rotation"):
        one, many = (found[f"{shift}, {RATIO}, {method}"] for method in ("deep ensemble", "ensemble of MC dropout"))
        lines.append(
            f"* {shift}: the deep ensemble's ECE is {one:.2f} of the deterministic network's,"
            f" that of the ensemble of MC dropout {many:.2f}"
        )
    return "\n".join(lines)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Accuracy and ECE against severity, seed 0."""
    figure, grid = plt.subplots(2, 2, figsize=(15, 11), layout="constrained")
    for row, (shift, label) in zip(
        grid, (("corruptions", "severity of the corruption (0: none)"), ("rotation", "degrees")), strict=True
    ):
        tables = {
            method: ShiftTable(
                {(k, s, m.split(", ")[1]): v for k, s, m, v in parts["seed 0"][shift] if m.startswith(f"{method}, ")}
            )
            for method in METHODS
        }
        for ax, metric in zip(row, ("accuracy", "ECE"), strict=True):
            plot_under_shift(tables, metric, x_label=label, title=f"{metric}, {shift}", ax=ax)
    figure.savefig(folder / "shift.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, [f"seed {k}" for k in range(SEEDS)], compute, numbers, table, draw))
