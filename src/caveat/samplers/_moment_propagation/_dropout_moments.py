"""Dropout is where variance comes from: exact mean and variance of what it makes of a mean and a variance.

With m kept with probability 1 - p and divided by it, E = mean and Var = (v + p * mean^2) / (1 - p).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat.errors import InvalidRateError, explain
from caveat.samplers._moment_propagation._covariance import with_diagonal
from caveat.samplers._moment_propagation._uncertain import Uncertain, plain, uncertain, variance_of, wide

if TYPE_CHECKING:
    from caveat.samplers._moment_propagation._propagation import Propagation

_BY_CHANNEL = {F.dropout1d, F.dropout2d, F.dropout3d, torch.feature_dropout, torch.feature_dropout_}
_ALPHA = {F.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_}
_ALPHA_BY_CHANNEL = {F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_}
DROPOUTS: set[Any] = {
    F.dropout,
    torch.dropout,
    torch.dropout_,
    torch.native_dropout,
    *_BY_CHANNEL,
    *_ALPHA,
    *_ALPHA_BY_CHANNEL,
}
# The value that alpha dropout puts in place of what it drops is minus this: "Self-Normalizing Neural Networks", 2017.
_SATURATION = 1.7580993408473766


def dropped(taken: Propagation, func: Any, x: Tensor, rate: float) -> Uncertain:
    """What dropout at this rate makes of ``x``.

    Raises:
        InvalidRateError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise InvalidRateError(
            explain(
                "A live dropout rate must be in [0, 1).",
                got=f"rate {rate} at site {taken.taken.network.paths[id(taken.taken.owner())]!r}",
                cause="the rate was set to 1.0 by hand or by a search",
                fix="set a rate below 1, or leave the site out with live=...",
            )
        )
    if func in _ALPHA | _ALPHA_BY_CHANNEL:
        return _drop_alpha(x, rate, elementwise=func in _ALPHA)
    if func in _BY_CHANNEL:
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
    keep, scale = 1 - rate, ((_SATURATION**2 * rate + 1) * (1 - rate)) ** -0.5
    shift = _SATURATION * scale * rate
    mean, variance = plain(x), variance_of(x)
    gap = mean.to(variance.dtype) + _SATURATION
    independent = elementwise and (x.independent if isinstance(x, Uncertain) else True)
    expected = scale * (keep * mean - rate * _SATURATION) + shift
    return uncertain(expected, scale**2 * keep * (variance + rate * gap.square()), independent=independent)
