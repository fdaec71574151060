"""Can the probabilities be trusted when the images get worse? Rotated, moved and corrupted digits; corrupted CIFAR-10.

After "Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty Under Dataset Shift", Ovadia et al.,
2019. Run: python experiments/ovadia_2019_shift/run.py [mnist] [cifar]
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
from classifiers import held_out, rows, trained
from records import Experiment, Record, markdown, run

import caveat
from caveat.calibrate import fit_temperature
from caveat.metrics import accuracy, brier_score, expected_calibration_error, negative_log_likelihood
from caveat.plot import plot_under_shift
from caveat.samplers import gaussian_process_head
from caveat.shift import CORRUPTIONS, EXTRA_CORRUPTIONS, ShiftTable, rotate, translate, under_shift

PARTS = ("cifar", "mnist")
COUNT = 1000  # the first 1,000 test images
DRAWS = 30  # of each network with dropout and of each Gaussian process
METRICS: dict[str, Callable[..., Tensor]] = {
    "accuracy": accuracy,
    "NLL": negative_log_likelihood,
    "Brier": brier_score,
    "ECE": expected_calibration_error,
}
SINGLE = {"deterministic": "plain", "temperature": "plain", "MC dropout": "dropout", "SNGP": "sngp"}  # of the kind
POOLED = {"deep ensemble": "plain", "ensemble of MC dropout": "dropout"}
METHODS = ("deterministic", "temperature", "MC dropout", "deep ensemble", "ensemble of MC dropout", "SNGP")
KINDS = (*CORRUPTIONS, *EXTRA_CORRUPTIONS)
# Kinds and severities.
SHIFTS: dict[str, tuple[dict[str, Callable[[Tensor, float], Tensor]] | tuple[str, ...], tuple[float, ...]]] = {
    "corruptions": (KINDS, (1, 2, 3, 4, 5)),
    "rotation": ({"rotation": rotate}, tuple(range(15, 195, 15))),  # degrees
    "translation": ({"translation": lambda x, right: translate(x, (right, 0))}, tuple(range(2, 16, 2))),  # pixels
}
OF = {"mnist": ("corruptions", "rotation", "translation"), "cifar": ("corruptions",)}
NAMES = {"cifar": "CIFAR-10", "mnist": "digits"}
PUBLISHED = {  # CIFAR-10-C, ResNet-20, medians over corruptions and severities: the paper's appendix G
    "deterministic": (1.120, 0.425, 0.127),
    "temperature": (0.871, 0.392, 0.049),
    "MC dropout": (0.771, 0.349, 0.034),
    "deep ensemble": (0.653, 0.299, 0.037),
}


def compute(part: str, smoke: bool) -> Record:
    """{shift: {"kind severity": {metric: a value for each column}}}: see ``columns`` for what they are."""
    if smoke and part == PARTS[0]:
        compute(PARTS[1], True)  # its code runs too
    found: Record = {}
    predict, found["columns"] = predictor(part, smoke)
    x, y = rows(part, "test")
    count = 40 if smoke else COUNT
    for name in OF[part]:
        kinds, severities = SHIFTS[name]
        if smoke:
            kinds, severities = (kinds[:1] if isinstance(kinds, tuple) else kinds), severities[-1:]
        scores = {
            f"{metric} {column}": lambda p, t, column=column, score=score: score(p[:, column], t)
            for metric, score in METRICS.items()
            for column in range(len(found["columns"]))
        }
        table = under_shift(
            predict, x[:count], y[:count], scores, kinds=kinds, severities=severities, batch_size=COUNT,
            progress=lambda *_: None,
        )  # fmt: skip
        found[name] = {
            f"{kind} {severity:g}": {
                metric: [round(table.at(kind, severity, f"{metric} {c}"), 5) for c in range(len(found["columns"]))]
                for metric in METRICS
            }
            for kind, severity in dict.fromkeys((kind, severity) for kind, severity, _ in table.values)
        }
    return found


def predictor(part: str, smoke: bool) -> tuple[Callable[[Tensor], Tensor], list[str]]:
    """Images to the probabilities of every column, (B, M, 10), and whose they are."""
    plain, with_dropout, sngp = (trained(part, kind, smoke=smoke) for kind in ("plain", "dropout", "sngp"))
    output, draws = caveat.Logits(), 2 if smoke else DRAWS
    x, y = held_out(part, smoke=smoke)
    members = caveat.ensemble(plain, output=output)
    scaled = [fit_temperature(logits, y) for logits in caveat.draws(members, x, n=len(plain))]
    dropping = [caveat.mc_dropout(one, output=output) for one in with_dropout]
    heads = [gaussian_process_head(one, output=output) for one in sngp]

    def predict(shifted: Tensor) -> Tensor:
        logits = caveat.draws(members, shifted, n=len(plain))  # (S, B, C): one network a draw
        single = list(logits.softmax(-1))
        tempered = [scale(own) for scale, own in zip(scaled, logits, strict=True)]
        dropped = [caveat.predict(one, shifted, n=draws, seed=k).mean for k, one in enumerate(dropping)]
        processes = [caveat.predict(one, shifted, n=draws, seed=k).mean for k, one in enumerate(heads)]
        pooled = [torch.stack(each).double().mean(0) for each in (single, dropped)]
        return torch.stack([each.double() for each in (*single, *tempered, *dropped, *processes, *pooled)], 1)

    counts = {"plain": len(plain), "dropout": len(with_dropout), "sngp": len(sngp)}
    return predict, [name for name, kind in SINGLE.items() for _ in range(counts[kind])] + list(POOLED)


def values(record: Record, shift: str, method: str, metric: str) -> dict[str, dict[float, np.ndarray]]:
    """{kind: {severity: one value a network}}; an ensemble is one."""
    own = [column for column, name in enumerate(record["columns"]) if name == method]
    found: dict[str, dict[float, np.ndarray]] = {}
    for cell, scores in record[shift].items():
        kind, severity = cell.rsplit(" ", 1)
        found.setdefault(kind, {})[float(severity)] = np.array(scores[metric])[own]
    return found


def at(record: Record, shift: str, method: str, metric: str, severity: float | None) -> np.ndarray:
    """One value a network: the mean over the kinds at a severity, or over all but the clean images (None)."""
    found = values(record, shift, method, metric)
    if severity == 0:
        return found["clean"][0.0]
    chosen = [
        value
        for kind, own in found.items()
        for s, value in own.items()
        if kind != "clean" and (severity is None or s == severity)
    ]
    return np.mean(chosen, 0)


def places(part: str) -> dict[str, tuple[str, float | None]]:
    """What the tables show: clean, the strongest corruption, and what is moved over all steps."""
    shown: dict[str, tuple[str, float | None]] = {"clean": ("corruptions", 0), "severity 5": ("corruptions", 5)}
    if part == "mnist":
        shown |= {"rotated by 15° to 180°": ("rotation", None), "rotated by 90°": ("rotation", 90)}
        shown |= {"moved by 2 to 14 pixels": ("translation", None), "moved by 14 pixels": ("translation", 14)}
    return shown


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over networks, and every method's ECE over the deterministic network's."""
    found: dict[str, float] = {}
    for part, record in parts.items():
        for place, (shift, severity) in places(part).items():
            if not any(cell.endswith(f" {severity or 0:g}") for cell in record[shift]):
                continue  # a smoke run has fewer
            single = at(record, shift, "deterministic", "ECE", severity).mean()
            for method in METHODS:
                for metric in METRICS:
                    own = at(record, shift, method, metric, severity).mean()
                    found[f"{part}, {place}, {metric}, {method}"] = float(own)
                own = at(record, shift, method, "ECE", severity).mean()
                found[f"{part}, {place}, ECE over deterministic, {method}"] = float(own / single)
        for method in METHODS:
            for metric in METRICS:
                found[f"{part}, median over corruptions, {metric}, {method}"] = quartile(record, method, metric, 50)
    return found


def quartile(record: Record, method: str, metric: str, percent: float) -> float:
    """Over the kinds and severities 1 to 5 of corruption, of the mean over networks."""
    found = values(record, "corruptions", method, metric)
    cells = [own.values() for kind, own in found.items() if kind != "clean"]
    return float(np.percentile([v.mean() for each in cells for v in each], percent))


def spread(own: np.ndarray) -> str:
    """Mean and standard deviation over networks; an ensemble is one."""
    return f"{own.mean():.3f} ± {own.std(ddof=1):.3f}" if len(own) > 1 else f"{own.mean():.3f}"


def table(parts: dict[str, Record]) -> str:
    """For each data set a table a place, then the medians beside the published ones, then the claim."""
    lines: list[str] = []
    found = numbers(parts)
    for part, record in parts.items():
        for place, (shift, severity) in places(part).items():
            if f"{part}, {place}, ECE, SNGP" not in found:
                continue
            cells = [[m, *(spread(at(record, shift, m, k, severity)) for k in METRICS)] for m in METHODS]
            lines += [markdown([f"{NAMES[part]}, {place}", *METRICS], cells), ""]
    if "cifar" in parts:
        head = ["CIFAR-10, medians over 19 corruptions × 5 severities: ours (paper)", "NLL", "Brier", "ECE"]
        cells = []
        for method in METHODS:
            theirs = [f" ({number:.3f})" for number in PUBLISHED[method]] if method in PUBLISHED else [""] * 3
            own = [found[f"cifar, median over corruptions, {metric}, {method}"] for metric in ("NLL", "Brier", "ECE")]
            cells.append([method, *(f"{a:.3f}{b}" for a, b in zip(own, theirs, strict=True))])
        lines += [markdown(head, cells), ""]
    head = ["ECE over the deterministic network's", *(m for m in METHODS if m != "deterministic")]
    shown = [(part, place) for part in parts for place in places(part) if f"{part}, {place}, ECE, SNGP" in found]
    cells = [
        [f"{NAMES[a]}, {b}", *(f"{found[f'{a}, {b}, ECE over deterministic, {m}']:.2f}" for m in head[1:])]
        for a, b in shown
    ]
    return "\n".join([*lines, markdown(head, cells)])


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Every metric against severity: boxes and whiskers over the kinds of corruption, lines for what is moved."""
    labels = {"corruptions": "severity of the corruption (0: none)", "rotation": "degrees", "translation": "pixels"}
    for part, record in parts.items():
        shown = ("accuracy", "ECE", "NLL", "Brier")
        figure, grid = plt.subplots(
            len(OF[part]), len(shown), figsize=(5.6 * len(shown), 3.6 * len(OF[part]) + 0.4), layout="constrained",
            squeeze=False,
        )  # fmt: skip
        for row, shift in zip(grid, OF[part], strict=True):
            for ax, metric in zip(row, shown, strict=True):
                tables = {m: ShiftTable(means(record, shift, m, metric)) for m in METHODS}
                plot_under_shift(tables, metric, x_label=labels[shift], title=f"{NAMES[part]}, {shift}", ax=ax)
                ax.get_legend().remove()
                if part == "mnist" and shift == "corruptions" and metric != "accuracy":
                    ax.set_yscale("log")  # few kinds harm digits at all: those reach a hundred times the others
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
        figure.savefig(folder / f"{part}.png", dpi=80)
        plt.close(figure)


def means(record: Record, shift: str, method: str, metric: str) -> dict[tuple[str, float, str], float]:
    """The mean over networks in each cell, as ``ShiftTable`` holds it."""
    found = values(record, shift, method, metric)
    return {(kind, s, metric): float(v.mean()) for kind, own in found.items() for s, v in own.items()}


if __name__ == "__main__":
    asked = [part for part in PARTS if part in sys.argv[1:]] or PARTS
    sys.argv = [word for word in sys.argv if word not in PARTS]
    run(Experiment(Path(__file__).parent, asked, compute, numbers, table, draw))
