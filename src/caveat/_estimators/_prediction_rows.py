"""Predictions as rows of a file: the answer, how sure, and what is done with it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, cast

import numpy as np
from torch import Tensor

from caveat._estimators._model import Model, interval_of, sets_of, uncertainty_of
from caveat._estimators._targets import Classes, Numbers
from caveat._tables import Array
from caveat.measures import decompose
from caveat.predictive import Categorical, Gaussian

MOST_CLASSES = 20
"""Largest number of classes of which each has a column with its probability."""
Row = dict[str, Any]


def prediction_rows(
    model: Model, pred: Categorical | Gaussian, first: int, level: float, kept: dict[str, Array]
) -> list[Row]:
    """A dict for each row; ``first`` is the number of the first (from 1), ``kept`` are columns to pass through."""
    count = pred.row_count
    columns: dict[str, list[Any]] = {"row": list(range(first, first + count))}
    predicted = _classes(model, pred, level) if isinstance(pred, Categorical) else _numbers(model, pred, level)
    if model.policy is not None:
        predicted["uncertainty"] = uncertainty_of(model, pred).tolist()  # all digits: see the threshold
    if not model.calibration.rows:
        predicted["calibrated"] = ["no"] * count
    predicted["decision"] = decisions(model, pred)
    taken = {*columns, *predicted}
    for name, values in kept.items():
        columns[_free_name(name, taken | (kept.keys() - {name}))] = plain_values(values)
    columns |= predicted
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _free_name(name: str, taken: set[str]) -> str:
    """The name of a column that is passed through: its own, unless a column of the predictions is called so."""
    while name in taken:
        name = f"{name} (kept)"
    return name


def decisions(model: Model, pred: Categorical | Gaussian) -> list[str]:
    """What the policy does with each row: "answer" or "refer"; "answer" without a policy."""
    if model.policy is None:
        return ["answer"] * pred.row_count
    by = uncertainty_of(model, pred)
    return ["answer" if one else "refer" for one in (by <= model.policy["threshold"]).tolist()]


def _classes(model: Model, pred: Categorical, level: float) -> dict[str, list[Any]]:
    assert isinstance(model.target, Classes)
    labels = model.target.labels
    best = pred.predicted
    chosen = cast("list[int]", best.tolist())
    deviation = pred.variance.clamp(min=0).sqrt()
    sets = cast("list[list[bool]]", sets_of(model.calibration.scores, pred, level).tolist())
    parts = decompose(pred)
    found: dict[str, list[Any]] = {
        "label": [labels[k] for k in chosen],
        "probability": _rounded(pred.mean.gather(1, best[:, None])[:, 0]),
        "std": _rounded(deviation.gather(1, best[:, None])[:, 0]),
        "interval": ["|".join(label for label, inside in zip(labels, row, strict=True) if inside) for row in sets],
        "epistemic": _rounded(parts["epistemic"]),
        "aleatoric": _rounded(parts["aleatoric"]),
    }
    if len(labels) <= MOST_CLASSES:
        found |= {f"probability {label}": _rounded(pred.mean[:, k]) for k, label in enumerate(labels)}
    return found


def _numbers(model: Model, pred: Gaussian, level: float) -> dict[str, list[Any]]:
    assert isinstance(model.target, Numbers)
    low, high = interval_of(model, pred, level)
    parts = decompose(pred)
    columns = {
        "mean": pred.mean,
        "std": pred.variance.sqrt(),
        "low": low,
        "high": high,
        "epistemic": parts["epistemic"].sqrt(),
        "aleatoric": parts["aleatoric"].sqrt(),
    }
    widths = high - low
    names = model.target.names
    found: dict[str, list[Any]] = {}
    for number, name in enumerate(names):
        before = "" if len(names) == 1 else f"{name} "
        for column, values in columns.items():
            place = column in ("mean", "low", "high")
            width = widths[:, number] if place else None
            found[f"{before}{column}"] = _rounded(values[:, number], width)
    return found


def plain_values(values: Array) -> list[Any]:
    """Values of a column as they are written: text unchanged, numbers with all their digits, None for gaps."""
    if values.dtype.kind == "f":
        single = values.dtype.itemsize < 8  # 0.1, and not 0.10000000149011612
        exact: list[float] = (
            [float(text) for text in cast("list[str]", values.astype(str).tolist())] if single else values.tolist()
        )
        return [None if math.isnan(value) else value for value in exact]
    if values.dtype.kind == "M":
        moments = cast("list[str]", np.datetime_as_string(values, unit="auto").tolist())
        return [None if moment == "NaT" else moment for moment in moments]
    return [_plain(value) for value in values.tolist()]


def _rounded(values: Tensor, widths: Tensor | None = None) -> list[float]:
    """Values with seven digits, or so many that a seventh digit of an interval's width is left of its ends."""
    if widths is None:
        return [float(f"{value:.7g}") for value in cast("list[float]", values.tolist())]
    steps = (values.abs() / widths.clamp(min=1e-300)).clamp(1, 1e17).log10().ceil().nan_to_num(posinf=0, neginf=0)
    digits = cast("list[float]", (7 + steps).clamp(7, 17).tolist())
    listed = zip(cast("list[float]", values.tolist()), map(int, digits), strict=True)
    return [float(f"{value:.{count}g}") for value, count in listed]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return cast(Any, value) if value is None or isinstance(value, (str, int, float, list, dict)) else str(value)
