"""Dropout that waits for the next call: before a linear layer, masking the weights is cheaper than masking the data.

``linear(x * m, W)`` is ``linear(x, W * m)`` when the mask has one entry for each input feature. With R rows a draw and
O outputs that replaces R products for each feature by O, and a large tensor by a small one. So in a vectorised pass a
site returns a stand-in; a linear layer takes the factors, and any other call gets the product.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat.stochastic.draw_axis import as_draws, has_draws, is_plain, with_draws_first
from caveat.stochastic.dropping import drop
from caveat.stochastic.interception import handles

if TYPE_CHECKING:
    from caveat.stochastic.interception import Pass


@dataclass
class Deferred:
    """A product that may never be computed: ``tensor`` (..., I) times ``mask`` (S, I)."""

    stand_in: weakref.ref[Tensor]
    tensor: Tensor
    mask: Tensor
    level: int
    product: Tensor | None = None

    def value(self) -> Tensor:
        """The product as vmap sees it."""
        if self.product is None:
            mask = self.mask.reshape(self.mask.shape[0], *(1,) * (self.tensor.dim() - 1), -1)
            self.product = drop(self.tensor, as_draws(mask, self.level))
        return self.product


def defer(taken: Pass, tensor: Tensor, mask: Tensor, level: int) -> Tensor:
    """A stand-in of the shape of ``tensor``; the pass puts the product in its place wherever it is used."""
    stand_in = torch.empty((), dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)
    key = id(stand_in)
    taken.deferred[key] = Deferred(weakref.ref(stand_in, lambda _: taken.deferred.pop(key, None)), tensor, mask, level)
    return stand_in


@handles(F.linear)
def _linear(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if taken.drawing is None or taken.drawing.index is None or kwargs:
        return taken.plain(func, *taken.settled(args, kwargs))
    tensor, weight, bias = (*args, None)[:3]
    waiting = taken.deferred.get(id(tensor))
    if not is_plain(weight) or (bias is not None and not is_plain(bias)):
        return taken.plain(func, *taken.settled(args, kwargs))
    if waiting is not None and waiting.product is None and _pays(waiting.tensor, weight):
        return _masking_weights(waiting, weight, bias)
    args, _ = taken.settled(args, kwargs)
    if not taken.replaying and has_draws(args[0], level := taken.drawing.level):
        return as_draws(F.linear(with_draws_first(args[0]).contiguous(), weight, bias), level)
    return taken.plain(func, args, kwargs)


def _pays(tensor: Tensor, weight: Tensor) -> bool:
    """More rows than outputs: then the weights are the smaller thing to mask."""
    return tensor.numel() > weight.shape[0] * tensor.shape[-1]


def _masking_weights(waiting: Deferred, weight: Tensor, bias: Tensor | None) -> Tensor:
    tensor, level = waiting.tensor, waiting.level
    masked = (weight * waiting.mask[:, None, :]).transpose(1, 2)  # (S, I, O)
    draws = masked.shape[0]
    if has_draws(tensor, level):
        rows = with_draws_first(tensor).reshape(draws, -1, tensor.shape[-1])
    else:
        rows = tensor.reshape(-1, tensor.shape[-1]).expand(draws, -1, -1)
    product = torch.bmm(rows, masked)
    if bias is not None:
        product = product + bias if torch.is_grad_enabled() else product.add_(bias)
    return as_draws(product.reshape(draws, *tensor.shape[:-1], -1), level)
