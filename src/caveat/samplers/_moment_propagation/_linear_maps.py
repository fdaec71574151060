"""Linear maps: the weights act on means as ever, and their squares act on variances.

Exact where the inputs are independent, as just after dropout, and where their covariance is known, as between linear
layers (``covariance``); elsewhere inputs that share units upstream are taken as independent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat.samplers._moment_propagation._covariance import WIDEST, through_linear
from caveat.samplers._moment_propagation._uncertain import (
    Context,
    Uncertain,
    argument,
    plain,
    rule,
    uncertain,
    variance_of,
)

INDEPENDENT = "its inputs are independent of one another (they share units upstream)"
_CONVOLUTIONS = (
    *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    *(torch.conv1d, torch.conv2d, torch.conv3d),
    *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
)


@rule(F.linear, *_CONVOLUTIONS)
def _weighted(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, weight = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "weight")
    bias = argument(args, kwargs, 2, "bias")
    if isinstance(weight, Uncertain) or isinstance(bias, Uncertain):
        raise ctx.cannot(func, "has random weights")
    if func is not F.linear or x.covariance is None or max(weight.shape) > WIDEST:
        note_independence(ctx, func, x)
    rest = {name: value for name, value in kwargs.items() if name not in ("input", "weight", "bias")}

    def applied(values: Tensor, by: Tensor, plus: Tensor | None) -> Tensor:
        return func(values, by, plus, *args[3:], **rest)

    mean = applied(plain(x), weight, bias)
    covariance = through_linear(x, weight) if func is F.linear else None
    if covariance is not None:
        return uncertain(mean, covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0), covariance=covariance)
    return uncertain(mean, applied(x.variance, weight.to(x.variance.dtype).square(), None))


@rule(torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm)
def _product(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    a, b = args[0], argument(args, kwargs, 1, "mat2" if "mat2" in kwargs else "other")
    return bilinear(ctx, func, func, a, b)


@rule(torch.addmm, Tensor.addmm)
def _added_product(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs or len(args) != 3 or isinstance(args[0], Uncertain):
        raise ctx.cannot(func, "is called with scales or a random first term")
    product = bilinear(ctx, func, torch.mm, args[1], args[2])
    return uncertain(plain(product) + args[0], product.variance)


@rule(torch.einsum)
def _einsum(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    listed = len(args) == 2 and isinstance(args[1], (list, tuple))
    operands: list[Any] = list(cast(Any, args[1]) if listed else args[1:])
    places = [at for at, operand in enumerate(operands) if isinstance(operand, Uncertain)]
    if len(places) != 1 or not isinstance(args[0], str):
        raise ctx.cannot(func, "multiplies several random tensors, or is called without an equation")
    note_independence(ctx, func, operands[places[0]])
    variance = [variance_of(o) if at == places[0] else o.square() for at, o in enumerate(operands)]
    return uncertain(func(args[0], *map(plain, operands)), func(args[0], *variance))


def bilinear(ctx: Context, func: Any, product: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any) -> Uncertain:
    """A product that sums over a shared axis; between two random tensors it is that of independent ones."""
    for operand in (a, b):
        note_independence(ctx, func, operand)
    mean_a, mean_b = plain(a), plain(b)
    squares = [mean.to(variance_of(mean).dtype).square() for mean in (mean_a, mean_b)]
    variance = torch.zeros((), device=mean_a.device)
    if isinstance(a, Uncertain):
        variance = variance + product(a.variance, squares[1] + variance_of(b))
    if isinstance(b, Uncertain):
        variance = variance + product(squares[0], b.variance)
    if isinstance(a, Uncertain) and isinstance(b, Uncertain):
        ctx.assumes(func, "its two factors are independent of each other")
    return uncertain(product(mean_a, mean_b), variance)


def note_independence(ctx: Context, func: Any, x: Any) -> None:
    """Note that a call sums over elements of ``x`` that may be correlated."""
    if isinstance(x, Uncertain) and not x.independent:
        ctx.assumes(func, INDEPENDENT)
