"""Products that wait for the next dropout, which says which of their outputs are used at all.

Between two dropouts a network mostly has a linear map and a function of each element (``Linear``, ``ReLU``,
``Dropout``). In a vectorized pass such a product gives a stand-in, and functions of it are put on a list. When the
dropout comes, its masks are known: what they drop is not computed (see ``sliced``). Any other call gets the values.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept import _sliced as sliced
from caveat._intercept._draw_axis import as_draws, current_level, has_draws, is_plain, memory_behind, with_draws_first
from caveat._intercept._interception import Pass, handles
from caveat._intercept._mutation import Waiting
from caveat._intercept._network import storages_of
from caveat._intercept._writes import mutates

# Functions of each element that are finite wherever the element is, and at most a few times as large: what is dropped
# afterwards may be any finite number before. (0 times the logarithm of 0 would be NaN.)
_FUNCTIONS: dict[Any, Any] = {
    F.relu: F.relu, F.relu_: F.relu, torch.relu: F.relu, torch.relu_: F.relu, Tensor.relu: F.relu, Tensor.relu_: F.relu,
    F.tanh: torch.tanh, torch.tanh: torch.tanh, Tensor.tanh: torch.tanh, Tensor.tanh_: torch.tanh,
    F.sigmoid: torch.sigmoid, torch.sigmoid: torch.sigmoid, Tensor.sigmoid: torch.sigmoid,
    **{func: func for func in (F.gelu, F.silu, F.mish, F.hardswish, F.relu6, F.softplus, F.logsigmoid, F.softsign)},
    **{func: func for func in (F.selu, F.elu, F.celu, F.leaky_relu, F.hardtanh, F.hardsigmoid)},
}  # fmt: skip


@dataclass
class Product:
    """``linear(tensor * masks, weight, bias)``, not computed yet; ``sliced`` once a part of it was."""

    tensor: Tensor
    weight: Tensor
    bias: Tensor | None
    masks: Tensor | None
    rate: float
    level: int
    masked: Callable[[], Tensor]
    compute: Callable[[], Tensor]
    whole: Tensor | None = None
    sliced: bool = False

    def value(self, ctx: Pass) -> Tensor:
        """All of it, as vmap sees it."""
        if self.whole is None:
            if self.sliced and ctx.prefix is not None:  # two ways to what one would have given: not in the next pass
                ctx.prefix.used_whole.add(id(self.weight))
            ins, _ = self._sides(ctx, 0.0)
            self.whole = self._sliced(ctx, ins, None) if ins else self.compute()
        return self.whole

    def part(self, ctx: Pass, masks: Tensor, rate: float) -> Tensor | None:
        """What these masks keep of it, among anything finite; None where all of it takes no longer."""
        ins, outs = self._sides(ctx, rate)
        if self.whole is not None or not outs:
            return None
        self.sliced = True
        return self._sliced(ctx, ins, masks.flatten(1))

    def _sides(self, ctx: Pass, next_rate: float) -> tuple[bool, bool]:
        elements = self.weight.numel()
        if ctx.prefix is not None and (self.rate or next_rate):
            ctx.prefix.masked_products.add((elements, self.rate, next_rate))
        return sliced.sides_to_slice(len(self.tensor), elements, self.rate, next_rate)

    def _sliced(self, ctx: Pass, ins: bool, next_masks: Tensor | None) -> Tensor:
        tensor = self.tensor if ins else self.masked()
        x = with_draws_first(tensor) if has_draws(tensor, self.level) else tensor
        largest = _largest_of(ctx, self.weight, self.bias)
        masks = self.masks.flatten(1) if ins and self.masks is not None else None
        return as_draws(sliced.linear_of_kept(x, self.weight, self.bias, largest, masks, next_masks), self.level)


@dataclass
class Pending:
    """A product and the functions that have been called on it since; ``made`` is the result, once it was needed."""

    product: Product
    functions: tuple[Callable[[Tensor], Tensor], ...]
    ctx: Pass
    made: Tensor | None = None
    stand_in: weakref.ref[Tensor] = field(init=False)

    def value(self) -> Tensor:
        """The result as vmap sees it."""
        if self.made is None:
            self.made = self._applied(self.product.value(self.ctx))
        return self.made

    def kept_by(self, masks: Tensor, rate: float) -> Tensor:
        """The result where these masks keep it, and anything finite elsewhere."""
        part = self.product.part(self.ctx, masks, rate) if self.made is None else None
        return self.value() if part is None else self._applied(part)

    def reads(self, memory: set[int]) -> bool:
        """Returns whether this is memory that the result is still to be computed from."""
        behind = [memory_behind(tensor) for tensor in (self.product.tensor, self.product.whole) if tensor is not None]
        return self.made is None and bool(storages_of(behind) & memory)

    def _applied(self, value: Tensor) -> Tensor:
        for function in self.functions:
            value = function(value)
        return value


def may_wait(ctx: Pass, tensor: Tensor, weight: Tensor, *, masked: bool) -> bool:
    """Returns whether a part of this product, of values that differ from draw to draw, could be enough."""
    drawing = ctx.drawing
    if drawing is None or drawing.level is None or torch.is_grad_enabled() or current_level() != drawing.level:
        return False
    varies = has_draws(tensor, drawing.level) and is_plain(with_draws_first(tensor))
    if not varies and not (masked and is_plain(tensor)):
        return False
    usual = weight.device.type == "cpu" and weight.is_contiguous() and not torch.is_autocast_enabled("cpu")
    usual = usual and weight.dtype == tensor.dtype and weight.dtype in (torch.float32, torch.float64)
    wanted = ctx.prefix is None or id(weight) not in ctx.prefix.used_whole
    return usual and wanted and tensor.dim() == 2 and sliced.may_be_sliced(weight.numel())


def wait(ctx: Pass, product: Product, functions: tuple[Callable[[Tensor], Tensor], ...] = ()) -> Tensor:
    """A stand-in for the result of these functions of the product."""
    like = product.tensor
    return stand_in(ctx, Pending(product, functions, ctx), like, (*like.shape[:-1], len(product.weight)))


def stand_in(ctx: Pass, waiting: Waiting, like: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of this shape without memory of its own: what is waiting takes its place wherever it is used."""
    made = torch.empty((), dtype=like.dtype, device=like.device).expand(shape)
    key = id(made)
    ctx.deferred[key] = waiting
    waiting.stand_in = weakref.ref(made, lambda _: ctx.deferred.pop(key, None))
    return made


def pending_of(ctx: Pass, tensor: Any) -> Pending | None:
    """What this stands for, if that is a result that was not needed yet."""
    waiting = ctx.deferred.get(id(tensor))
    return waiting if isinstance(waiting, Pending) and waiting.made is None else None


@handles(*_FUNCTIONS)
def _function(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    waiting = pending_of(ctx, args[0]) if ctx.deferred and len(args) == 1 else None
    if waiting is None or not all(map(_is_harmless, kwargs.values())):
        return ctx.plain(func, *ctx.settled(args, kwargs))
    settings = {name: value for name, value in kwargs.items() if name != "inplace"}
    functions = (*waiting.functions, partial(_FUNCTIONS[func], **settings))
    if mutates(func, kwargs):
        waiting.functions = functions
        return args[0]
    return wait(ctx, waiting.product, functions)


def _is_harmless(setting: Any) -> bool:
    """Returns whether this setting (a slope, a scale, a form, in place) keeps such a function as small as it is."""
    return isinstance(setting, (bool, str)) or (isinstance(setting, (int, float)) and abs(setting) <= 1)


def _largest_of(ctx: Pass, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The largest absolute value of weights and biases, computed once per batch."""
    if ctx.prefix is None:
        return sliced.largest_of(weight, bias)
    if id(weight) not in ctx.prefix.largest:
        ctx.prefix.largest[id(weight)] = sliced.largest_of(weight, bias)
    return ctx.prefix.largest[id(weight)]
