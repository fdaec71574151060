"""Is the model less sure of what it never saw? New categories and far numbers, put into rows of Adult and concrete.

Every value of a column is replaced by a category that training did not have, or by a number outside training by one to
a hundred times its range. The share of rows whose epistemic uncertainty is above that of the median training row has to
be 95 %. Run: python experiments/tabular_tables/strange_rows.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))
from run import classes, numbers_of

from caveat.tabular import Classifier, Regressor

RANGES = (1, 3, 10, 100)  # how far outside, in ranges of the column
Table = dict[str, Any]


def strange(column: Any, rows: int) -> dict[str, Any]:
    """Values for a whole column that training did not have."""
    if column.dtype == object:
        return {"never seen": np.full(rows, "never seen", dtype=object)}
    low, high = column.min(), column.max()
    above = np.arange(rows) % 2 == 0
    return {f"{k} ranges away": np.where(above, high + k * (high - low), low - k * (high - low)) for k in RANGES}


def shares(model: Any, train: Table, test: Table) -> dict[tuple[str, str], float]:
    """For each column and kind of value, the share of test rows that are less known than the median training row."""
    usual, rows = np.median(model.decompose(train)["epistemic"]), len(next(iter(test.values())))
    return {
        (name, kind): float((model.decompose({**test, name: values})["epistemic"] > usual).mean())
        for name in train
        for kind, values in strange(train[name], rows).items()
    }


def all_shares(rows: int = 6000, tested: int = 400, **settings: Any) -> dict[str, dict[tuple[str, str], float]]:
    """Those of both tables, of Adult with so many rows."""
    train, income, test, _ = classes("adult")
    train, test = ({n: v[:count] for n, v in part.items()} for part, count in ((train, rows), (test, tested)))
    inputs, targets, asked, _ = numbers_of("concrete", 0)
    return {
        "adult": shares(Classifier(**settings).fit(train, income[:rows]), train, test),
        "concrete": shares(Regressor(**settings).fit(inputs, targets), inputs, asked),
    }


if __name__ == "__main__":
    for table, found in all_shares().items():
        print(f"{table}: {np.mean(list(found.values())):.4f} of rows, {min(found.values()):.4f} in the worst column")
