"""How far each column has moved since training, beside what a random split of as many rows would show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat._tables import Array, CategoryColumn, NumberColumn
from caveat.cli._tabular_tested import Tested

_LEAST_FRACTION = 1e-4
_SIMULATED = 400
_FALSE_ALARMS = 0.01  # in all columns of a table together
SOME, MUCH = 0.1, 0.25


@dataclass(frozen=True)
class Drift:
    """How a column differs from training: its population stability index, and in words what differs most.

    Fields:
        index: sum over bins of (fraction now - fraction then) log(fraction now / fraction then), less the ``chance``.
        chance: the mean of that sum between two random samples of as many rows of one population.
        moved: "" where the index is what random samples show, else "little", "some" or "much".
        new: fraction of the rows whose value is unlike training: see ``Tested.unlike``.
    """

    column: str
    index: float
    chance: float
    moved: str
    new: float
    words: str


def drifts_of(tested: Tested) -> list[Drift]:
    """Every column, those that moved furthest first."""
    schema, typed = tested.model.reader.schema, tested.typed
    trained = int(tested.model.summary.get("rows", 0))
    together = len(schema.numbers) + len(schema.categories)
    unlike = cast("list[float]", tested.unlike.double().mean(0).tolist())
    drifts: list[Drift] = []
    for position, column in enumerate(schema.numbers):
        values = typed.numbers[column.name]
        new = unlike[position]
        then, now = count_numbers(column, values, trained)
        words = _number_words(column, values, trained)
        drifts.append(_compared(column.name, then, now, new, words, together))
    for position, column in enumerate(schema.categories, len(schema.numbers)):
        then, now = _count_categories(column, typed.categories[column.name])
        words = _category_words(column, then, now)
        drifts.append(_compared(column.name, then, now, unlike[position], words, together))
    return sorted(drifts, key=lambda drift: (not drift.moved, -drift.index))


def stability_index(then: Array, now: Array) -> Any:
    """The population stability index of counts (..., bins); no fraction counts as less than 0.0001.

    Example:
        >>> round(float(stability_index(np.array([50, 50]), np.array([25, 75]))), 4)     # 0.25 ln 0.5 ... by hand
        0.2747
    """
    fractions: list[Any] = []
    for counts in (then, now):
        each = np.maximum(counts / np.maximum(counts.sum(-1, keepdims=True), 1), _LEAST_FRACTION)
        fractions.append(each / each.sum(-1, keepdims=True))
    a, b = fractions
    return ((b - a) * np.log(b / a)).sum(-1)


def chance_of(then: Array, now: Array) -> tuple[float, float]:
    """The mean index of a random split of all these rows, and how often such parts differ as much as these do.

    How much they differ is judged by the likelihood ratio, which an empty bin does not carry away as it does the index;
    its tail is that of a gamma distribution of the mean and variance over random splits.
    """
    together, m = (then + now).astype(np.int64), int(now.sum())
    if not m or m == together.sum() or (together > 0).sum() < 2:
        return 0.0, 1.0
    second = np.random.default_rng(0).multivariate_hypergeometric(together, m, _SIMULATED, method="marginals")
    first = together - second
    simulated, seen = _likelihood_ratio(first, second), float(_likelihood_ratio(then, now))
    mean, variance = float(simulated.mean()), float(simulated.var())
    if variance == 0:
        return float(stability_index(first, second).mean()), 1.0
    at = torch.tensor([mean**2 / variance, max(seen, 0.0) * mean / variance], dtype=torch.float64)
    tail = float(cast(Tensor, torch.special.gammaincc(at[0], at[1])))  # pyright: ignore[reportUnknownMemberType]
    return float(stability_index(first, second).mean()), tail


def _likelihood_ratio(then: Array, now: Array) -> Any:
    """G of two rows of counts (..., bins): twice the log-likelihood of two distributions over that of one."""
    together = then + now
    total = together.sum(-1, keepdims=True)
    ratio: Any = 0.0
    for counts in (then, now):
        wanted = together * (counts.sum(-1, keepdims=True) / total)
        ratio = ratio + 2 * (counts * np.log(np.where(counts > 0, counts / np.maximum(wanted, 1e-300), 1.0))).sum(-1)
    return ratio


def _compared(column: str, then: Array, now: Array, new: float, words: str, together: int) -> Drift:
    index = float(stability_index(then, now))
    chance, tail = chance_of(then, now)
    above = max(index - chance, 0.0)
    size = "much" if above > MUCH else "some" if above > SOME else "little"
    return Drift(column, above, chance, size if tail * together < _FALSE_ALARMS else "", new, words)


def count_numbers(column: NumberColumn, values: Array, trained: int) -> tuple[Array, Array]:
    """Rows of each decile, and where there are any of no value."""
    edges = np.array(column.quantiles or (0.0,))
    fractions = np.diff(np.array(column.shares or (1.0,)), prepend=0.0)
    here = values[~np.isnan(values)]
    bins = np.minimum(np.searchsorted(edges, here, side="left"), len(edges) - 1)  # the last holds all above it
    then, now = np.round(fractions * max(trained - column.missing, 0)), np.bincount(bins, minlength=len(edges))
    absent = len(values) - len(here)
    return (np.append(then, column.missing), np.append(now, absent)) if column.missing or absent else (then, now)


def _number_words(column: NumberColumn, values: Array, trained: int) -> str:
    here = values[~np.isnan(values)]
    words = "no values" if not len(here) else f"mean {column.center:.4g} then, {here.mean():.4g} now"
    before, absent = column.missing / max(trained, 1), float(np.isnan(values).mean())
    return f"{words}; missing: {before:.1%} then, {absent:.1%} now" if before or absent else words


def _count_categories(column: CategoryColumn, keys: Array) -> tuple[Array, Array]:
    """Rows of each category, of none, and of one never seen."""
    names = [*column.categories, None]
    places = {name: number for number, name in enumerate(names)}
    bins = [places.get(key, len(names)) for key in keys.tolist()]
    return np.array([*column.counts, column.missing, 0]), np.bincount(bins, minlength=len(names) + 1)


def _category_words(column: CategoryColumn, then: Array, now: Array) -> str:
    before, after = (counts / max(counts.sum(), 1) for counts in (then, now))
    most = int(np.abs(after - before).argmax())
    names = [*column.categories, "missing", "never seen"]
    return f"{names[most]}: {before[most]:.1%} then, {after[most]:.1%} now"
