"""Concrete dropout: the rate is learned with the weights.

A dropped-or-kept choice has no gradient; its concrete relaxation, a sigmoid of a little noise, has. The rate is held
back from 0 or 1 by ``concrete_penalty``. See "Concrete Dropout", Gal, Hron and Kendall, 2017.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]  # the one class of all convolutions

from caveat._checks import require_rate
from caveat._dropping import Shape, drop, elementwise
from caveat._random_numbers import uniform_numbers, wide
from caveat.errors import InvalidArgumentError
from caveat.layers._twin import attribute_of, check_layer, take_place, twin_of

# The temperatures of the authors' code: of single units, and of whole channels.
_TEMPERATURE, _SPATIAL_TEMPERATURE = 0.1, 2 / 3


@final
class ConcreteDropout(nn.Module):
    """A layer whose inputs are dropped at a rate that is learned, the parameter ``logit``.

    Of a linear layer each input is dropped by itself; of a convolution each channel, the same at every place. It takes
    the layer's place: the keys of the state dict are the layer's and ``logit``. In training and in draws an input is
    multiplied by z / (1 - p), z the relaxed choice; in eval mode it is the plain layer. Add
    ``caveat.layers.concrete_penalty`` to the loss: without it the rate falls to 0.

    Args:
        layer: an ``nn.Linear``, or a convolution, ``nn.Conv1d`` to ``nn.ConvTranspose3d``.
        p: the rate to start from, in (0, 1).
        temperature: Temperature of the relaxation, above 0; smaller is nearer to dropped-or-kept. If not given, that
            of the authors: 0.1 for single inputs, 2/3 for channels.

    Shapes:
        those of the layer.

    Raises:
        InvalidArgumentError: ``p`` outside (0, 1), a temperature that is not above 0, or a layer that is neither linear
            nor a convolution.

    See "Concrete Dropout", Gal, Hron and Kendall, 2017, https://arxiv.org/abs/1705.07832.

    Example:
        >>> import torch
        >>> dropping = ConcreteDropout(nn.Linear(4, 3), p=0.1)
        >>> list(dropping.state_dict()), round(dropping.p.item(), 4)
        (['weight', 'bias', 'logit'], 0.1)
        >>> channels = ConcreteDropout(nn.Conv2d(3, 8, 3))
        >>> channels(torch.ones(2, 3, 6, 6)).shape, channels.dropped_features
        (torch.Size([2, 8, 4, 4]), 3)
    """

    def __init__(self, layer: nn.Module, p: float = 0.1, *, temperature: float | None = None) -> None:
        super().__init__()
        check_layer(layer, nn.Linear, _ConvNd, said="an nn.Linear or a convolution")
        usual = _SPATIAL_TEMPERATURE if isinstance(layer, _ConvNd) else _TEMPERATURE
        self.temperature = usual if temperature is None else _checked_temperature(temperature)
        start = _start(layer, p)
        self._settings = take_place(self, layer)
        self.logit = start

    @property
    def layer(self) -> nn.Module:
        """The plain layer; it shares the weights."""
        twin = twin_of(self, self._settings, {})
        del vars(twin)["_parameters"]["logit"]
        return twin

    @property
    def p(self) -> Tensor:
        """The rate as it is now: one number, differentiable by ``logit``."""
        return self.logit.sigmoid()

    @property
    def dropped_features(self) -> int:
        """The number of inputs, or channels, that are dropped one by one: the K of the entropy term."""
        layer = self.layer
        return layer.in_channels if isinstance(layer, _ConvNd) else cast(nn.Linear, layer).in_features

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        """What the layer returns; its inputs are dropped in training and in draws."""
        layer = self.layer
        of_channels = isinstance(layer, _ConvNd)
        chosen = partial(_channels, places=len(layer.kernel_size)) if of_channels else elementwise
        site = "spatial_concrete_dropout" if of_channels else "concrete_dropout"
        uniform = uniform_numbers(x, chosen, site, self.p, self.training)
        return layer(x if uniform is None else drop(x, _multiplier(self.logit, uniform, self.temperature)), *more)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return attribute_of(self, name)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"{self.layer}, p={self.p.item():.4g}, temperature={self.temperature:g}"


def _channels(shape: Shape, places: int) -> Shape:
    """One number a channel, and the batch where there is one."""
    return shape[:-places] + (1,) * places


def _multiplier(logit: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """z / (1 - p), with z = 1 - sigmoid((logit p + logit u) / temperature), the concrete relaxation of "kept"."""
    odds = logit.to(uniform.dtype)
    z = torch.sigmoid(-(odds + uniform.log() - torch.log1p(-uniform)) / temperature)
    return z * (1 + odds.exp())  # 1 / (1 - p) = 1 + exp(logit p)


def _start(layer: nn.Module, p: float) -> nn.Parameter:
    if require_rate(p) == 0:
        raise InvalidArgumentError(
            "A rate that is to be learned must start in (0, 1).",
            got="p=0",
            cause="dropout was meant to be off at first; but at 0 the logit is minus infinity and never moves",
            fix="start from a small rate, such as p=0.05",
        )
    weight = next(layer.parameters())
    return nn.Parameter(torch.full((), math.log(p) - math.log1p(-p), dtype=wide(weight.dtype), device=weight.device))


def _checked_temperature(temperature: float) -> float:
    if not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
        raise InvalidArgumentError(
            "temperature must be above 0.",
            got=f"temperature={temperature!r}",
            cause="0 was meant as 'no relaxation', which has no gradient",
            fix="leave it out: 0.1 for units and 2/3 for channels are the authors' values",
        )
    return float(temperature)
