"""Tables: caveat's defaults beside gradient boosting and a plain network, in error, likelihood and intervals.

Four tables of classes and seven of numbers (the standard UCI splits). Nobody tunes anything: each method runs with its
defaults. Run: python experiments/tabular_tables/run.py
"""

from __future__ import annotations

import csv
import functools
import gzip
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, data, markdown, run

from caveat.metrics import expected_calibration_error
from caveat.tabular import Classifier, Regressor
from caveat.train import fit

CLASSES = ("adult", "mushroom", "shuttle", "covertype")
SPLITS = {"boston": 20, "yacht": 20, "concrete": 20, "energy": 20, "kin8nm": 5, "naval": 3, "protein": 3}
FILES = {"boston": "bostonHousing", "naval": "naval-propulsion-plant", "protein": "protein-tertiary-structure"}
LARGE = ("kin8nm", "naval", "protein")
METHODS = ("caveat", "gradient boosting", "plain network")
ADULT = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
]  # fmt: skip
ADULT_NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
LEVEL, SD_OF_LEVEL = 0.9, 1.6449  # half of a normal's 90 % interval
HELD_OUT = 0.15

Columns = dict[str, np.ndarray]
Split = tuple[Columns, np.ndarray, Columns, np.ndarray]


def cells(path: Path, header: list[str] | None = None) -> Columns:
    """A gzipped CSV as columns of text."""
    with gzip.open(path, "rt") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    names = header or rows.pop(0)
    return {name: np.array(column, dtype=object) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


@functools.cache
def classes(name: str) -> Split:
    """Training and test rows: the files' own split, or a fifth of each class drawn with seed 0."""
    if name == "adult":
        train, test = (cells(data("adult", f"adult-{part}.csv.gz"), ADULT) for part in ("train", "test"))
        for part in (train, test):
            part |= {one: part[one].astype(float) for one in ADULT_NUMBERS}
            part["income"] = np.array([label.rstrip(".") for label in part["income"]])
        return train, train.pop("income"), test, test.pop("income")
    if name == "shuttle":
        train, test = (cells(data("statlog_shuttle", f"shuttle-{part}.csv.gz")) for part in ("train", "test"))
        y, t = train.pop("class").astype(str), test.pop("class").astype(str)
        return {k: v.astype(float) for k, v in train.items()}, y, {k: v.astype(float) for k, v in test.items()}, t
    if name == "mushroom":
        X = cells(data("mushroom", "agaricus-lepiota.csv.gz"), ["class", *(f"column {k}" for k in range(1, 23))])
        y = X.pop("class").astype(str)
    else:
        X = cells(data("covertype_small", "covertype_15120.csv.gz"))
        X.pop("Id")
        y = X.pop("Cover_Type").astype(str)
        X = {k: v.astype(float) for k, v in X.items()}
    a, b = train_test_split(np.arange(len(y)), test_size=0.2, random_state=0, stratify=y)
    return {k: v[a] for k, v in X.items()}, y[a], {k: v[b] for k, v in X.items()}, y[b]


def numbers_of(name: str, split: int) -> Split:
    """A standard split of a UCI regression set."""
    with np.load(data("uci_regression", f"{FILES.get(name, name)}.npz")) as file:
        X, y, a, b = file["X"], file["y"], file[f"train_{split}"], file[f"test_{split}"]
    return {f"x{k}": X[a, k] for k in range(X.shape[1])}, y[a], {f"x{k}": X[b, k] for k in range(X.shape[1])}, y[b]


def codes(X: Columns, T: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both parts as matrices of numbers, and which columns are categories (as codes; NaN where new)."""
    train, test = [], []
    for name, values in X.items():
        known = {level: number for number, level in enumerate(sorted(set(values)))} if values.dtype == object else None
        train.append(values if known is None else [known[value] for value in values])
        test.append(T[name] if known is None else [known.get(value, np.nan) for value in T[name]])
    return np.array(train, float).T, np.array(test, float).T, np.array([v.dtype == object for v in X.values()])


def standard(X: Columns, T: Columns) -> tuple[torch.Tensor, torch.Tensor]:
    """What a plain network is given: numbers standardized, categories one-hot."""
    train, test, category = codes(X, T)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for column in range(train.shape[1]):
        a, b = train[:, column], test[:, column]
        if category[column]:
            levels = np.arange(a.max() + 1)
            parts.append((a[:, None] == levels, b[:, None] == levels))
        else:
            parts.append((((a - a.mean()) / (a.std() or 1))[:, None], ((b - a.mean()) / (a.std() or 1))[:, None]))
    return tuple(torch.tensor(np.concatenate(one, 1), dtype=torch.float32) for one in zip(*parts, strict=True))


def plain_network(x: torch.Tensor, y: torch.Tensor, outputs: int, loss: Any, smoke: bool, seed: int) -> nn.Module:
    """Two hidden layers of 128, dropout 0.1 (off afterwards), stopped early on 12 % of the rows."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(128, outputs),
    )  # fmt: skip
    epochs = 1 if smoke else max(10, min(300, 600_000 // len(x)))
    batch = 32 if len(x) < 2000 else 128
    fit(network, loss, (x, y), validation=0.12, epochs=epochs, batch_size=batch, patience=20, seed=seed, progress=False)
    return network


def score_classes(p: np.ndarray, truth: np.ndarray, started: float) -> Record:
    """Error, NLL and ECE of probabilities (B, C) for class numbers (B,)."""
    p = p / p.sum(1, keepdims=True)
    return {
        "error": float((p.argmax(1) != truth).mean()),
        "nll": float(-np.log(np.clip(p[np.arange(len(truth)), truth], 1e-15, 1)).mean()),
        "ece": float(expected_calibration_error(torch.tensor(p), torch.tensor(truth))),
        "seconds": round(time.perf_counter() - started, 1),
    }


def score_numbers(mean: Any, log_density: Any, low: Any, high: Any, truth: np.ndarray, started: float) -> Record:
    """RMSE, NLL, and of 90 % intervals the coverage and the width in standard deviations of the target."""
    return {
        "error": float(np.sqrt(((truth - mean) ** 2).mean())),
        "nll": float(-np.mean(log_density)),
        "coverage": float(((low <= truth) & (truth <= high)).mean()),
        "width": float(np.mean(high - low) / truth.std()),
        "seconds": round(time.perf_counter() - started, 1),
    }


def score_normal(mean: np.ndarray, sd: float, truth: np.ndarray, started: float) -> Record:
    """The same of a normal whose standard deviation is that of all rows."""
    log_density = -0.5 * np.log(2 * np.pi * sd**2) - 0.5 * (truth - mean) ** 2 / sd**2
    low, high = mean - SD_OF_LEVEL * sd, mean + SD_OF_LEVEL * sd
    return score_numbers(mean, log_density, low, high, truth, started)


def of_classes(split: Split, small: dict[str, Any], smoke: bool) -> Record:
    """The three methods on a table of classes."""
    X, y, T, t = split
    labels, numbers = np.unique(y, return_inverse=True)
    truth, found, started = np.searchsorted(labels, t), {}, time.perf_counter()
    found["caveat"] = score_classes(Classifier(**small).fit(X, y).predict_proba(T).astype(float), truth, started)
    train, test, category = codes(X, T)
    started = time.perf_counter()
    boosted = HistGradientBoostingClassifier(categorical_features=category, random_state=0).fit(train, y)
    found["gradient boosting"] = score_classes(boosted.predict_proba(test), truth, started)
    started = time.perf_counter()
    a, b = standard(X, T)
    network = plain_network(a, torch.tensor(numbers), len(labels), nn.functional.cross_entropy, smoke, 0)
    with torch.no_grad():
        found["plain network"] = score_classes(network(b).double().softmax(1).numpy(), truth, started)
    return found


def of_numbers(split: Split, small: dict[str, Any], smoke: bool, seed: int) -> Record:
    """The three methods on a table of numbers; the others' variance is the mean square error on rows held out."""
    X, y, T, t = split
    found, started = {}, time.perf_counter()
    model = Regressor(**small, random_state=seed).fit(X, y)
    log_density = model.predictive(T).log_prob(torch.tensor(t)[:, None]).numpy()
    found["caveat"] = score_numbers(model.predict(T), log_density, *model.predict_interval(T, LEVEL), t, started)
    a, b = train_test_split(np.arange(len(y)), test_size=HELD_OUT, random_state=seed)
    train, test, _ = codes(X, T)
    started = time.perf_counter()
    part = HistGradientBoostingRegressor(random_state=seed).fit(train[a], y[a])
    sd = float(np.sqrt(((y[b] - part.predict(train[b])) ** 2).mean()))
    mean = HistGradientBoostingRegressor(random_state=seed).fit(train, y).predict(test)
    found["gradient boosting"] = score_normal(mean, sd, t, started)
    started = time.perf_counter()
    x, x_test = standard(X, T)
    center, scale = y.mean(), y.std()
    target = torch.tensor((y - center) / scale, dtype=torch.float32)[:, None]
    network = plain_network(x[a], target[a], 1, nn.functional.mse_loss, smoke, seed)
    with torch.no_grad():
        sd = scale * float((network(x[b]) - target[b]).square().mean().sqrt())
        mean = network(x_test)[:, 0].double().numpy() * scale + center
    found["plain network"] = score_normal(mean, sd, t, started)
    return found


def compute(part: str, smoke: bool) -> Record:
    """One split of one table; of the smoke test a hundredth of the training rows of two tables."""
    name, number = part.split(" ")
    if smoke:
        small: dict[str, Any] = {"members": 2, "epochs": 2, "width": 16, "draws": 5}
        X, y, T, t = classes("adult")
        few = ({k: v[:600] for k, v in X.items()}, y[:600], {k: v[:300] for k, v in T.items()}, t[:300])
        return of_classes(few, small, True) | {"regression": of_numbers(numbers_of("yacht", 0), small, True, 0)}
    if name in CLASSES:
        return of_classes(classes(name), {}, False)
    return of_numbers(numbers_of(name, int(number)), {}, False, int(number))


def means(parts: dict[str, Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Of each table and method the mean of each metric over splits."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in (*CLASSES, *SPLITS):
        own = [record for part, record in parts.items() if part.split(" ")[0] == name]
        if own:
            found[name] = {
                method: {key: float(np.mean([record[method][key] for record in own])) for key in own[0][method]}
                for method in METHODS
            }
    return found


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """What expected.json holds bands for."""
    by = means(parts)
    found = {f"{name}, error over gradient boosting's": _ratio(one) for name, one in by.items() if name != "mushroom"}
    coverage = [one["caveat"]["coverage"] for name, one in by.items() if name in SPLITS]
    if coverage:
        found["coverage of 90 % intervals, mean over regression tables"] = float(np.mean(coverage))
    if "adult" in by:
        found["ECE, adult"] = by["adult"]["caveat"]["ece"]
    for other in METHODS[1:]:
        lower = [one["caveat"]["nll"] <= one[other]["nll"] for one in by.values()]
        found[f"share of tables with NLL at or below that of {other}"] = float(np.mean(lower))
    return found


def _ratio(one: dict[str, dict[str, float]]) -> float:
    return one["caveat"]["error"] / max(one["gradient boosting"]["error"], 1e-12)


def table(parts: dict[str, Record]) -> str:
    """One table of classes, one of numbers: caveat / gradient boosting / plain network in each cell."""
    by = means(parts)

    def rows(names: Any, keys: tuple[str, ...]) -> list[list[str]]:
        shown = [name for name in names if name in by]
        return [[name, *(" / ".join(f"{by[name][m][key]:.4g}" for m in METHODS) for key in keys)] for name in shown]

    of_classes = markdown(["table", "error", "NLL, nats", "ECE"], rows(CLASSES, ("error", "nll", "ece")))
    head = ["table (splits)", "RMSE", "NLL, nats", "coverage of 90 % intervals", "their width, sd of the target"]
    cells = rows(SPLITS, ("error", "nll", "coverage", "width"))
    for row in cells:
        row[0] += f" ({sum(part.split(' ')[0] == row[0] for part in parts)})"
    said = "Each cell: " + " / ".join(METHODS) + "."
    return "\n".join([said, "", of_classes, "", markdown(head, cells)])


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Error in per cent of gradient boosting's, and NLL less gradient boosting's, by table."""
    by = means(parts)
    names = [name for name in by if name != "mushroom"][::-1]
    places = np.arange(len(names))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharey=True)
    for method, marker, color in zip(("caveat", "plain network"), "os", ("#0072b2", "#999999"), strict=True):
        base = [by[name]["gradient boosting"] for name in names]
        ours = [by[name][method] for name in names]
        ratio = [100 * own["error"] / max(other["error"], 1e-12) for own, other in zip(ours, base, strict=True)]
        left.plot(ratio, places, marker, color=color, label=method, zorder=3 if method == "caveat" else 2)
        difference = [own["nll"] - other["nll"] for own, other in zip(ours, base, strict=True)]
        right.plot(difference, places, marker, color=color, label=method, zorder=3 if method == "caveat" else 2)
    for ax, at, words in ((left, 100, "error, % of gradient boosting's"), (right, 0, "NLL less its NLL, nats")):
        ax.axvline(at, color="#333333", linewidth=1)
        ax.set_xlabel(f"{words}: left of the line is better")
        ax.grid(axis="y", color="#e5e5e5")
        ax.spines[["top", "right"]].set_visible(False)
    left.set_xscale("log")
    left.set_xticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
    left.minorticks_off()
    right.set_xscale("symlog", linthresh=0.1)
    right.margins(x=0.08)
    left.set_yticks(places, names)
    left.legend(frameon=False, loc="lower left")
    figure.savefig(folder / "tables.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    first = [f"{name} 0" for name in (*CLASSES, *SPLITS)]
    rest = [f"{name} {split}" for split in range(1, 20) for name, splits in SPLITS.items() if split < splits]
    rest.sort(key=lambda part: part.split()[0] in LARGE)  # they take ten times as long
    run(Experiment(Path(__file__).parent, [*first, *rest], compute, numbers, table, draw))
