"""Tests whether two sets of draws are of one law, judged by what caveat's own draws do among themselves.

Means and variances of T draws scatter. How much they do here is found by taking T of the n reference draws many times
over: whatever the distribution of the outputs and however they hang together, the recipe's draws would scatter like
those if they were of the same law.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SUBSETS = 400
_BEYOND = 1.7
_STILL, _STILL_DIFFERENCE = 1e-6, 1e-3
_LEAST_SPREAD = 0.01
"""Of all outputs' spread: what hardly varies among the reference draws may do so rarely, and does not decide."""
_SAME = 3e-6
_MOST_ELEMENTS, _MOST_PAIRS = 2048, 256


@dataclass(frozen=True)
class Gap:
    """How far draws are from reference draws: what is judged, and what is told.

    ``mean_differs`` and ``spread_differs`` say that no scatter explains it.
    """

    mean_differs: bool
    spread_differs: bool
    mean_distance: float
    spread_ratio: float
    spread_ratio_error: float


def flat(draws: Tensor) -> Tensor:
    """Draws (S, E) in float64, of at most 2048 elements evenly taken from each."""
    values = draws.reshape(draws.shape[0], -1)
    step = -(-values.shape[1] // _MOST_ELEMENTS)
    return values[:, ::step].double()


def gap_between(draws: Tensor, reference: Tensor) -> Gap:
    """How far draws (T, E) are from reference draws (N, E), N at least twice T.

    An element that does not vary among the reference draws has to be the same.
    """
    finite = reference.isfinite().all(0) & draws.isfinite().all(0)
    draws, reference = draws[:, finite], reference[:, finite]
    if draws.shape[1] == 0:
        return Gap(False, False, 0.0, 1.0, 0.0)
    T, center, spread = len(draws), reference.mean(0), reference.std(0)
    scale = float(reference.abs().amax()) + 1e-12
    still = spread <= _STILL * scale
    still_moves = draws.std(0)[still].amax().item() > _STILL_DIFFERENCE * scale if bool(still.any()) else False
    still_off = bool(((draws.mean(0) - center).abs()[still] > _STILL_DIFFERENCE * scale).any())
    if bool(still.all()):
        distance = float((draws.mean(0) - center).abs().amax()) / scale
        return Gap(still_off, still_moves, distance, 1.0, 0.0)
    unit = spread[~still].clamp_min(_LEAST_SPREAD * float(spread.square().mean().sqrt()))
    values, known = (draws - center)[:, ~still] / unit, (reference - center)[:, ~still] / unit
    of_draws = _statistics(values.mean(0)[None], values.square().mean(0)[None], T, known.var(0))
    of_subsets = _subsets(known, T)
    beyond = [_beyond(float(one), null) for one, null in zip(of_draws, of_subsets, strict=True)]
    return Gap(
        mean_differs=still_off or max(beyond[:2]) > _BEYOND,
        spread_differs=still_moves or max(beyond[2:]) > _BEYOND,
        mean_distance=float(values.mean(0).square().mean().sqrt()),
        spread_ratio=float(values.var(0).mean() / known.var(0).mean()),
        spread_ratio_error=float(of_subsets[2].exp().std()),
    )


def _statistics(first: Tensor, second: Tensor, T: int, usual: Tensor) -> list[Tensor]:
    """Returns the largest and the mean square of means, then of variances, of first and second moments (K, E)."""
    variance = (second - first.square()).clamp_min(0) * T / (T - 1)
    overall = variance.mean(1).clamp_min(1e-12).log()
    return [first.abs().amax(1), first.square().mean(1), overall, (variance - usual).square().mean(1)]


def _subsets(known: Tensor, T: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    picks = torch.stack([torch.randperm(len(known), generator=generator)[:T] for _ in range(_SUBSETS)])
    chosen = torch.zeros(_SUBSETS, len(known), dtype=known.dtype).scatter_(1, picks, 1 / T)
    return _statistics(chosen @ known, chosen @ known.square(), T, known.var(0))


def _beyond(value: float, null: Tensor) -> float:
    """How far a statistic is from the middle of the null, as a multiple of the farthest that the null went that way."""
    middle = float(null.median())
    reach = float(null.amax()) - middle if value > middle else middle - float(null.amin())
    return abs(value - middle) / max(reach, 1e-9)


def is_repeated(draws: Tensor, reference: Tensor) -> bool:
    """Returns whether some draws (T, E) are copies of others, more than in any T of the reference draws (N, E)."""
    same = _pairs(draws)
    distinct = _count_distinct(same, torch.arange(len(same)))
    if distinct == len(same):
        return False
    known, generator = _pairs(reference), torch.Generator().manual_seed(0)
    usual = [
        _count_distinct(known, torch.randperm(len(known), generator=generator)[: len(same)]) for _ in range(20)
    ]
    return distinct < 0.9 * min(usual) * len(same) / min(len(same), len(known))


def is_constant(draws: Tensor) -> bool:
    """Returns whether all draws (T, E) are the same."""
    return bool(_pairs(draws)[0].all())


def _pairs(draws: Tensor) -> Tensor:
    """Which draws are the same up to rounding, (T, T)."""
    some = draws[:_MOST_PAIRS].nan_to_num()
    apart = torch.cdist(some, some, compute_mode="donot_use_mm_for_euclid_dist")
    return apart <= _SAME * (float(some.square().sum(1).amax().sqrt()) + 1e-30)


def _count_distinct(same: Tensor, picks: Tensor) -> int:
    among = same[picks][:, picks]
    return int((among.tril(-1).sum(1) == 0).sum())
