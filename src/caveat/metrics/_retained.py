"""A metric of the surest rows, at each fraction of rows kept, with a band over resampled rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caveat._checks import describe, require_integer, require_no_nan, require_number, require_rows
from caveat._numerics import accumulator
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError
from caveat.metrics._bootstrap import draw_resamples, metric_of_rows, percentiles, require_same_rows, row_counts
from caveat.metrics._ranking import cumulated, rank, steps
from caveat.metrics._registry import takes_weights

_NUMBERS_AT_ONCE = 1 << 25
_TIE_ORDERS = 8

Metric = Callable[..., Tensor]


def retained_values(
    metric: Metric,
    tensors: tuple[Tensor, ...],
    uncertainty: Tensor,
    fractions: Tensor,
    *,
    resamples: int,
    level: float,
    seed: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The metric at each fraction, (F,), and the ends of its band, (F,) each, or None without resamples."""
    _check(tensors, uncertainty)
    require_integer(resamples, "resamples", 0)
    require_number(level, "level", "(0, 1)")
    check_seed(seed)
    kept = (fractions * len(uncertainty)).round().clamp(min=1)
    if takes_weights(metric):
        values = _weighted(metric, tensors, uncertainty, kept)
        if resamples == 0:
            return values, None, None
        return values, *percentiles(_weighted_band(metric, tensors, uncertainty, kept, resamples, seed), level)
    values = _gathered(metric, tensors, uncertainty, kept, seed)
    if resamples == 0:
        return values, None, None
    return values, *percentiles(_gathered_band(metric, tensors, uncertainty, kept, resamples, seed), level)


def _weighted(metric: Metric, tensors: tuple[Tensor, ...], doubt: Tensor, kept: Tensor) -> Tensor:
    """Every fraction is one set of weights: 1 for rows kept, a fraction for the tied rows at the cut."""
    ranking = rank(doubt)
    wide = accumulator(doubt.device)
    group = ranking.group_of_row()
    before, size = ranking.starts().to(wide)[group], ranking.sizes().to(wide)[group]
    at_once = max(1, _NUMBERS_AT_ONCE // len(doubt))
    values: list[Tensor] = []
    for first in range(0, len(kept), at_once):
        places = kept[first : first + at_once, None].to(wide)
        values.append(metric(*tensors, weights=((places - before) / size).clamp(0, 1)))
    return torch.cat(values)


def _weighted_band(
    metric: Metric, tensors: tuple[Tensor, ...], doubt: Tensor, kept: Tensor, n: int, seed: int
) -> Tensor:
    """The curve of each resample, (R, F): a row that was picked twice is two tied rows."""
    ranking = rank(doubt)
    group = ranking.group_of_row()
    curves: list[Tensor] = []
    for picks in draw_resamples(len(doubt), n, seed, each=len(kept)):
        counts = row_counts(picks).to(doubt.device)
        ends = cumulated(ranking, torch.ones_like(counts[0]), counts)
        size = steps(ends)
        before = (ends - size)[:, group]
        share = 1 / size[:, group].clamp(min=1)
        sets = [counts * ((k.to(counts.dtype) - before) * share).clamp(0, 1) for k in kept]
        weights = torch.stack(sets, 1).reshape(-1, len(doubt))
        curves.append(metric(*tensors, weights=weights).reshape(len(picks), len(kept)))
    return torch.cat(curves)


def _gathered(
    metric: Metric, tensors: tuple[Tensor, ...], doubt: Tensor, kept: Tensor, seed: int, orders: int = _TIE_ORDERS
) -> Tensor:
    """The metric of the rows themselves, averaged over orders of tied rows where there are any."""
    require_same_rows(tensors)
    metric(*tensors)  # what is wrong with the metric or its tensors is raised here, and not taken for NaN
    generator = torch.Generator().manual_seed(seed)
    tied = len(rank(doubt).ends) < len(doubt)
    curves: list[Tensor] = []
    for _ in range(orders if tied else 1):
        mixed = torch.randperm(len(doubt), generator=generator).to(doubt.device)
        curves.append(_curve(metric, tensors, mixed[doubt[mixed].sort(stable=True).indices], kept))
    return torch.stack(curves).mean(0)


def _gathered_band(
    metric: Metric, tensors: tuple[Tensor, ...], doubt: Tensor, kept: Tensor, n: int, seed: int
) -> Tensor:
    curves: list[Tensor] = []
    for picks in draw_resamples(len(doubt), n, seed):
        for pick in picks.to(doubt.device):
            rows = tuple(x[pick.to(x.device)] for x in tensors)
            order = doubt[pick].sort(stable=True).indices  # picked in random order already, so that ties are too
            curves.append(_curve(metric, rows, order, kept))
    return torch.stack(curves)


def _curve(metric: Metric, tensors: tuple[Tensor, ...], order: Tensor, kept: Tensor) -> Tensor:
    """The metric of the first rows in this order, for each number ``kept``."""
    curve = [metric_of_rows(metric, tensors, order[: int(k)]) for k in kept]
    return torch.stack([value.to(accumulator(value.device)) for value in curve])


def _check(tensors: tuple[Tensor, ...], uncertainty: Tensor) -> None:
    require_rows(uncertainty, "uncertainty")
    require_no_nan(uncertainty, "uncertainty")
    if uncertainty.ndim != 1 or not tensors or tensors[-1].shape[:1] != uncertainty.shape:
        raise InvalidArgumentError(
            "uncertainty must be (B,), one number for each row of the tensors.",
            got=f"uncertainty: {describe(uncertainty)}; "
            f"tensors: {'; '.join(describe(x) for x in tensors) or 'none'}",
            cause="a measure for each target, class or pixel in place of one for each row",
            fix="uncertainty.flatten(1).mean(-1)",
        )
