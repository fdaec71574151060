"""Bootstrap: percentile intervals over resampled rows, for any metric.

A resample is how often each row counts. A metric that takes `weights` (R, B) is asked once for many resamples; any
other callable is called on each resample's rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from caveat._arrays import as_tensor, takes_arrays
from caveat._checks import describe, require_integer, require_number, require_rows
from caveat._numerics import accumulator
from caveat._seeds import check_seed
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.metrics._registry import registered, takes_weights

_NUMBERS_AT_ONCE = 1 << 22


class Estimate(NamedTuple):
    """A metric of the rows, and the interval over resamples of them.

    Fields:
        value: the metric of all rows.
        low, high: the ends of the percentile interval, in the shape of the value.
    """

    value: Tensor
    low: Tensor
    high: Tensor

    __repr__ = in_a_line


@takes_arrays
def bootstrap(
    metric: Callable[..., Tensor],
    *tensors: Tensor,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    centered: bool = False,
) -> Estimate:
    """Returns a metric with its percentile bootstrap interval over rows.

    The rows are those of the last tensor's first axis (labels, targets, ...). Each resample draws as many rows
    with replacement. A resample for which the metric is NaN (one class only) is left out. A metric that is biased on
    small samples, as calibration errors are, is biased once more in the resamples, so that its interval lies high and
    need not hold the value: ``centered`` takes this second bias out.

    Args:
        metric: Function of the tensors that returns one number or a tensor of them. If it has a parameter `weights`
            it must take (R, B) and return (R, ...), as every metric here does; else it is called on each
            resample's rows, which are then the first axis of every tensor.
        tensors: Arguments of the metric.
        resamples: Number of resamples, at least 2.
        level: Fraction of the resamples that the interval holds, between 0 and 1.
        seed: Random seed for the resamples; the same seed gives the same ones on every device.
        centered: Whether to shift the interval by the value less the mean over resamples. It then says where the metric
            of other rows of this number lies; the metric's own bias on so few rows remains in value and interval. The
            ends of a metric of `METRICS` stay within its ``bounds``.

    Returns:
        (value, low, high).

    Raises:
        InvalidArgumentError: no rows, tensors whose rows differ, fewer than 2 resamples, a level outside (0, 1), or a
            metric that is NaN for every resample.

    See "An Introduction to the Bootstrap", Efron and Tibshirani, 1993.

    Example:
        >>> from caveat.metrics import accuracy
        >>> p = torch.tensor([0.9, 0.8, 0.7, 0.4]).repeat(25)
        >>> value, low, high = bootstrap(accuracy, torch.stack((p, 1 - p), -1), torch.zeros(100, dtype=torch.int64))
        >>> value.item(), round(low.item(), 2), round(high.item(), 2)
        (0.75, 0.66, 0.83)
    """
    require_integer(resamples, "resamples", 2)
    require_number(level, "level", "(0, 1)")
    check_seed(seed)
    if not tensors:
        raise InvalidArgumentError(
            "bootstrap needs the tensors that the metric takes.",
            got="a metric and nothing else",
            cause="the metric was called already",
            fix="bootstrap(accuracy, probabilities, labels)",
        )
    require_rows(tensors[-1], "The last tensor")
    value = as_tensor(metric(*tensors), "What the metric returns")
    weighted = takes_weights(metric)
    if not weighted:
        require_same_rows(tensors)
    answers: list[Tensor] = []
    each = max(1, tensors[-1].numel() // tensors[-1].shape[0])
    for picks in draw_resamples(tensors[-1].shape[0], resamples, seed, each=each):
        if weighted:
            answers.append(metric(*tensors, weights=row_counts(picks).to(tensors[-1].device)))
        else:
            answers.append(torch.stack([metric_of_rows(metric, tensors, pick).expand(value.shape) for pick in picks]))
    found = torch.cat(answers)
    low, high = percentiles(found, level)
    if centered:
        shift, known = value.to(found) - found.nanmean(0), registered(metric)
        bounds = (-math.inf, math.inf) if known is None else known.bounds
        low, high = ((end + shift).clamp(*bounds) for end in (low, high))
    return Estimate(value, low, high)


def draw_resamples(rows: int, count: int, seed: int, *, each: int = 1) -> Iterator[Tensor]:
    """Yields the row numbers of resamples, (R, B) at a time, fewer where `each` row stands for several numbers.

    From the CPU's generator, so they are the same on every device and in chunks of any size.
    """
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // (rows * each))
    for done in range(0, count, at_once):
        yield torch.randint(rows, (min(at_once, count - done), rows), generator=generator)


def row_counts(picks: Tensor) -> Tensor:
    """Counts how often each row was picked: (R, B) row numbers to (R, B) counts, float64."""
    R, B = picks.shape
    flat = (picks + torch.arange(R, device=picks.device)[:, None] * B).reshape(-1)
    return torch.bincount(flat, minlength=R * B).reshape(R, B).to(accumulator(picks.device))


def metric_of_rows(metric: Callable[..., Tensor], tensors: tuple[Tensor, ...], pick: Tensor) -> Tensor:
    """Returns the metric of these rows; NaN where it is not defined for them (one class only)."""
    try:
        value = metric(*(x[pick.to(x.device)] for x in tensors))
    except InvalidArgumentError:
        return torch.tensor(torch.nan)
    return as_tensor(value, "What the metric returns")  # a number of Python's in full precision


def percentiles(answers: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Returns the ends of the central interval of answers (R, ...), NaN left out.

    Raises:
        InvalidArgumentError: every answer is NaN.
    """
    if bool(answers.isnan().all()):
        raise InvalidArgumentError(
            "The metric must be defined for some resample.",
            got=f"NaN in all of {len(answers)}",
            cause="so few rows of one class that resamples hold the other alone",
            fix="more rows, or a metric that does not need both classes",
        )
    tail = (1 - level) / 2
    ends = torch.tensor((tail, 1 - tail), dtype=answers.dtype, device=answers.device)
    low, high = torch.nanquantile(answers, ends, dim=0)
    return low, high


def require_same_rows(tensors: tuple[Tensor, ...]) -> None:
    """Raises `InvalidArgumentError` unless all tensors have as many rows on the first axis."""
    if len({x.shape[:1] for x in tensors}) > 1:
        raise InvalidArgumentError(
            "Every tensor must have the rows on its first axis.",
            got="; ".join(describe(x) for x in tensors),
            cause="draws (S, B) beside targets (B,) and a metric that takes no weights",
            fix="let the metric take draws last, or give it a parameter weights of shape (R, B)",
        )
