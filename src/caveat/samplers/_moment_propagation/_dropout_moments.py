"""Dropout is where variance comes from: exact mean and variance of what it makes of a mean and a variance.

With m kept with probability 1 - p and divided by it, E = mean and Var = (v + p * mean^2) / (1 - p).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from caveat._dropping import KINDS, SATURATION, elementwise
from caveat.errors import InvalidArgumentError
from caveat.samplers._moment_propagation._covariance import with_diagonal
from caveat.samplers._moment_propagation._uncertain import Context, Uncertain, plain, uncertain, variance_of, wide


def dropped(ctx: Context, func: Any, x: Tensor, rate: float) -> Uncertain:
    """What dropout at this rate makes of ``x``.

    Raises:
        InvalidArgumentError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise InvalidArgumentError(
            "A live dropout rate must be in [0, 1).",
            got=f"rate {rate} at site {ctx.path()!r}",
            cause="the rate was set to 1.0 by hand or by a search",
            fix="set a rate below 1, or leave the site out with live=...",
        )
    kind = KINDS[func]
    if kind.alpha:
        return _drop_alpha(x, rate, elementwise=kind.shape_of is elementwise)
    if kind.shape_of is not elementwise:
        return _drop_channels(x, rate)
    mean, variance = plain(x), variance_of(x)
    independent = x.independent if isinstance(x, Uncertain) else True
    square = mean.to(wide(mean.dtype)).square()
    variance = (variance + rate * square) / (1 - rate)
    covariance = with_diagonal(x.covariance, variance) if isinstance(x, Uncertain) else None
    return uncertain(mean, variance, independent=independent, covariance=covariance)


def _drop_channels(x: Tensor, rate: float) -> Uncertain:
    mean, variance = plain(x), variance_of(x)
    amplitude = mean.to(wide(mean.dtype)) * (rate / (1 - rate)) ** 0.5
    before = x.by_channel if isinstance(x, Uncertain) else None
    if before is not None:  # two masks over the same channels: together they scale what the channel shares
        amplitude = (amplitude.square() + before.square() / (1 - rate)).sqrt().copysign(amplitude)
    total = (variance + rate * mean.to(variance.dtype).square()) / (1 - rate)
    single = mean.ndim < 3 or all(size == 1 for size in mean.shape[2:])
    return uncertain(mean, total, independent=single and not isinstance(x, Uncertain), by_channel=amplitude)


def _drop_alpha(x: Tensor, rate: float, *, elementwise: bool) -> Uncertain:
    keep, scale = 1 - rate, ((SATURATION**2 * rate + 1) * (1 - rate)) ** -0.5
    shift = SATURATION * scale * rate
    mean, variance = plain(x), variance_of(x)
    gap = mean.to(variance.dtype) + SATURATION
    independent = elementwise and (x.independent if isinstance(x, Uncertain) else True)
    expected = scale * (keep * mean - rate * SATURATION) + shift
    return uncertain(expected, scale**2 * keep * (variance + rate * gap.square()), independent=independent)
