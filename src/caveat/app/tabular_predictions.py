"""Predictions as rows of a file: the answer, how sure, and what is done with it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

import caveat
from caveat.calibrate.from_scores import interval_of, sets_of
from caveat.decide import unsureness
from caveat.predictive import Categorical, Gaussian
from caveat.tabular.columns import Array
from caveat.tabular.model import Model
from caveat.tabular.targets import Classes, Numbers

_MOST_CLASSES = 20
Row = dict[str, Any]


def prediction_rows(
    model: Model, pred: Categorical | Gaussian, first: int, level: float, kept: dict[str, Array]
) -> list[Row]:
    """A dict for each row; ``first`` is the number of the first (from 1), ``kept`` are columns to pass through."""
    count = pred.row_count
    columns: dict[str, list[Any]] = {"row": list(range(first, first + count))}
    columns |= {name: [_plain(value) for value in values.tolist()] for name, values in kept.items()}
    columns |= _classes(model, pred, level) if isinstance(pred, Categorical) else _numbers(model, pred, level)
    columns["decision"] = decisions(model, pred)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def decisions(model: Model, pred: Categorical | Gaussian) -> list[str]:
    """What the policy does with each row: "answer" or "refer"; "answer" without a policy."""
    if model.policy is None:
        return ["answer"] * pred.row_count
    by = unsure(model, pred, str(model.policy["measure"]))
    return ["answer" if one else "refer" for one in (by <= model.policy["cut"]).tolist()]


def unsure(model: Model, pred: Categorical | Gaussian, measure: str) -> Tensor:
    """How unsure each row is, (B,), float64; over several targets the mean of the variances in their own scales."""
    if isinstance(pred, Categorical):
        return unsureness(pred, measure).double()
    target = model.target
    assert isinstance(target, Numbers)
    parts = {"total_variance": "total", "epistemic_variance": "epistemic", "aleatoric_variance": "aleatoric"}
    variance = caveat.decompose(pred)[parts[measure]].double()
    return (variance / torch.tensor(target.scales).square()).mean(1)


def _classes(model: Model, pred: Categorical, level: float) -> dict[str, list[Any]]:
    assert isinstance(model.target, Classes)
    labels = model.target.labels
    best = pred.predicted
    chosen = cast("list[int]", best.tolist())
    deviation = pred.variance.clamp(min=0).sqrt()
    sets = cast("list[list[bool]]", sets_of(model.calibration.scores, pred, level).tolist())
    parts = caveat.decompose(pred)
    found: dict[str, list[Any]] = {
        "label": [labels[k] for k in chosen],
        "probability": _rounded(pred.mean.gather(1, best[:, None])[:, 0]),
        "std": _rounded(deviation.gather(1, best[:, None])[:, 0]),
        "interval": ["|".join(label for label, inside in zip(labels, row, strict=True) if inside) for row in sets],
        "epistemic": _rounded(parts["epistemic"]),
        "aleatoric": _rounded(parts["aleatoric"]),
    }
    if len(labels) <= _MOST_CLASSES:
        found |= {f"probability {label}": _rounded(pred.mean[:, k]) for k, label in enumerate(labels)}
    return found


def _numbers(model: Model, pred: Gaussian, level: float) -> dict[str, list[Any]]:
    assert isinstance(model.target, Numbers)
    low, high = interval_of(model.calibration.scores, pred, level)
    parts = caveat.decompose(pred)
    columns = {
        "mean": pred.mean,
        "std": pred.total_variance.sqrt(),
        "low": low,
        "high": high,
        "epistemic": parts["epistemic"].sqrt(),
        "aleatoric": parts["aleatoric"].sqrt(),
    }
    names = model.target.names
    found: dict[str, list[Any]] = {}
    for number, name in enumerate(names):
        before = "" if len(names) == 1 else f"{name} "
        found |= {f"{before}{column}": _rounded(values[:, number]) for column, values in columns.items()}
    return found


def _rounded(values: Tensor) -> list[float]:
    listed = cast("list[float]", values.tolist())
    return [float(f"{value:.7g}") for value in listed]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
