"""Activations of a normal: closed forms for ReLU, leaky ReLU, exponential, absolute value and square; the rest by
Gauss-Hermite quadrature with 64 nodes.

Every rule is exact for a normal input (to the quadrature's error, which `docs/how-to/one-pass-moments.md` states); what
reaches an activation is a sum of many units, so it is near one. The arithmetic is done in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._numerics import accumulator
from caveat.samplers._moment_propagation._covariance import Series, through_activation
from caveat.samplers._moment_propagation._uncertain import Context, Uncertain, argument, methods, plain, rule, uncertain

Pair = tuple[Tensor, Tensor]
_NODES = 64
# From here on a normal has no mass across zero that float64 could tell from none.
_FAR = 9.0


def deviation_of(variance: Tensor) -> Tensor:
    """Square roots whose gradient is zero, not infinite, where a variance is zero."""
    positive = variance > 0
    return torch.where(positive, variance.where(positive, 1.0).sqrt(), 0.0)


def normal_density(z: Tensor) -> Tensor:
    """The density of the standard normal."""
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)


def rectified(mean: Tensor, variance: Tensor) -> Pair:
    """Mean and variance of max(X, 0) for a normal X, in the dtype given (float64 for all digits).

    Example:
        >>> mean, variance = rectified(torch.zeros(1).double(), torch.ones(1).double())
        >>> round(mean.item() ** 2 * 2 * math.pi, 6), round(variance.item() - (0.5 - 0.5 / math.pi), 6)
        (1.0, 0.0)
    """
    deviation = deviation_of(variance)
    ratio = mean / deviation.clamp(min=torch.finfo(mean.dtype).tiny ** 0.5)
    a = ratio.clamp(-_FAR, _FAR)
    above, density = cast(Tensor, torch.special.ndtr(a)), normal_density(a)
    # In units of the deviation: E max(a + Z, 0), and the variance about it.
    first = a * above + density
    second = ((a.square() + 1) * above + a * density - first.square()).clamp(min=0)
    far_above, far_below = ratio > _FAR, ratio < -_FAR
    expected = torch.where(far_above, mean, torch.where(far_below, 0.0, deviation * first.clamp(min=0)))
    return expected, torch.where(far_above, variance, torch.where(far_below, 0.0, variance * second))


def leaky(mean: Tensor, variance: Tensor, slope: Tensor | float) -> Pair:
    """Mean and variance of X where X > 0 and slope * X elsewhere, for a normal X.

    X = R - N with R = max(X, 0), N = max(-X, 0) and E[R N] = 0, so Cov(R, N) = -E[R] E[N].
    """
    up, up_variance = rectified(mean, variance)
    down, down_variance = rectified(-mean, variance)
    return up - slope * down, up_variance + slope**2 * down_variance + 2 * slope * up * down


def leaky_series(mean: Tensor, deviation: Tensor, slope: Tensor | float) -> list[Tensor]:
    """Hermite coefficients of a leaky ReLU: E f', E f'', E f''' in units of the deviation, over sqrt(k!)."""
    a = (mean / deviation.clamp(min=torch.finfo(mean.dtype).tiny ** 0.5)).clamp(-_FAR, _FAR)
    bend = (1 - slope) * deviation * normal_density(a)
    first = deviation * (slope + (1 - slope) * cast(Tensor, torch.special.ndtr(a)))
    return [first, bend / 2**0.5, -a * bend / 6**0.5]


def series_by_quadrature(function: Callable[[Tensor], Tensor], mean: Tensor, deviation: Tensor) -> list[Tensor]:
    """Hermite coefficients E[f(m + s Z) He_k(Z)] / sqrt(k!) of any function, k = 1, 2, 3."""
    found = [torch.zeros_like(mean) for _ in range(3)]
    for node, weight in _hermite():
        value = weight * function(mean + node * deviation)
        basis = (node, (node**2 - 1) / 2**0.5, (node**3 - 3 * node) / 6**0.5)
        found = [part + value * of for part, of in zip(found, basis, strict=True)]
    return found


def exponential(mean: Tensor, variance: Tensor) -> Pair:
    """Mean and variance of exp(X): the log-normal's."""
    expected = (mean + variance / 2).exp()
    return expected, variance.expm1() * expected.square()


def squared(mean: Tensor, variance: Tensor) -> Pair:
    """Mean and variance of X^2 for a normal X."""
    return mean.square() + variance, 2 * variance.square() + 4 * mean.square() * variance


def by_quadrature(function: Callable[[Tensor], Tensor], mean: Tensor, variance: Tensor) -> Pair:
    """Mean and variance of ``function`` of a normal by Gauss-Hermite quadrature, node by node: memory stays flat."""
    deviation = deviation_of(variance)
    expected, spread = torch.zeros_like(mean), torch.zeros_like(mean)
    for node, weight in _hermite():
        expected = expected + weight * function(mean + node * deviation)
    for node, weight in _hermite():
        spread = spread + weight * (function(mean + node * deviation) - expected).square()
    return expected, spread


@lru_cache(maxsize=1)
def _hermite() -> list[tuple[float, float]]:
    """Nodes in standard deviations and weights that sum to one; those too light to count are left out."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    return [(float(n), float(w)) for n, w in zip(nodes, weights, strict=True) if w > 1e-18]


@dataclass(frozen=True)
class Activation:
    """An activation as a function of means and variances, and its Hermite series of means and deviations."""

    pair: Callable[[Tensor, Tensor], Pair]
    series: Series


def _kinked(slope: Tensor | float) -> Activation:
    return Activation(lambda m, v: leaky(m, v, slope), lambda m, d: leaky_series(m, d, slope))


def _smooth(function: Callable[[Tensor], Tensor], pair: Callable[[Tensor, Tensor], Pair] | None = None) -> Activation:
    def by_nodes(mean: Tensor, variance: Tensor) -> Pair:
        return by_quadrature(function, mean, variance)

    return Activation(pair or by_nodes, lambda mean, deviation: series_by_quadrature(function, mean, deviation))


def _as_rule(*functions: Any, assumes: str = "its input is normal") -> Any:
    """Register a function of (ctx, func, args, kwargs) that gives the ``Activation`` of a call."""

    def register(activation: Callable[..., Activation]) -> Any:
        @rule(*functions)
        def applied(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x = argument(args, kwargs, 0, "input")
            if any(isinstance(given, Uncertain) for given in (*args[1:], *kwargs.values()) if given is not x):
                raise ctx.cannot(func, "is random in another argument than its first")
            mean, variance = plain(x), x.variance
            work = accumulator(mean.device)
            ctx.assumes(func, assumes)
            how = activation(ctx, func, args, kwargs)
            of_mean, of_variance = how.pair(mean.to(work), variance.to(work))
            after = of_variance.to(variance.dtype)
            covariance = None
            if x.covariance is not None:
                deviation = deviation_of(variance)
                series = [part.to(variance.dtype) for part in how.series(mean.to(work), deviation.to(work))]
                covariance = through_activation(x, deviation, series, after)
            return uncertain(of_mean.to(mean.dtype), after, independent=x.independent, covariance=covariance)

        return applied

    return register


@_as_rule(F.relu, F.relu_, *methods("relu"))
def _relu(*_: Any) -> Any:
    return Activation(rectified, lambda mean, deviation: leaky_series(mean, deviation, 0.0))


@_as_rule(F.leaky_relu, F.leaky_relu_)
def _leaky_relu(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    slope = float(argument(args, kwargs, 1, "negative_slope", 0.01))
    return _kinked(slope)


@_as_rule(F.prelu, *methods("prelu"))
def _prelu(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, slope = plain(argument(args, kwargs, 0, "input")), argument(args, kwargs, 1, "weight")
    shape = [-1 if axis == min(1, x.ndim - 1) else 1 for axis in range(x.ndim)]
    return _kinked(slope.to(accumulator(x.device)).reshape(shape))


@_as_rule(*methods("exp"))
def _exp(*_: Any) -> Any:
    return _smooth(torch.exp, exponential)


@_as_rule(*methods("square"))
def _square(*_: Any) -> Any:
    return _smooth(torch.square, squared)


@_as_rule(*methods("abs"), torch.absolute, Tensor.absolute, Tensor.__abs__)
def _abs(*_: Any) -> Any:
    return _kinked(-1.0)


_QUADRATURE: tuple[Any, ...] = (  # pyright: ignore[reportUnknownVariableType]
    *(F.gelu, F.silu, F.mish, F.elu, F.elu_, F.selu, F.selu_, F.celu, F.celu_, F.softplus, F.softsign, F.tanhshrink),
    *(F.hardtanh, F.hardtanh_, F.relu6, F.hardswish, F.hardsigmoid, F.logsigmoid, F.tanh, F.sigmoid),
    *methods("tanh", "sigmoid", "sin", "cos", "erf", "atan", "arctan", "clamp", "clip", "logit", "selu", "celu"),
    *(torch.special.expit, torch.special.erf, Tensor.__pow__, torch.pow, Tensor.pow),
)


@_as_rule(*_QUADRATURE, assumes="its input is normal (64-point quadrature)")
def _by_quadrature(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func.__name__.strip("_")
    if name == "pow":
        return _power(ctx, func, argument(args, kwargs, 1, "exponent"))
    rest = {key: value for key, value in kwargs.items() if key not in ("input", "inplace")}
    settings = [plain(value) if isinstance(value, Tensor) else value for value in args[1:]]
    function = func if not name_in_place(func) else getattr(torch, name, None) or getattr(F, name)
    if settings and isinstance(settings[-1], bool):  # F.elu(x, 1.0, True): not in place here
        settings[-1] = False
    return _smooth(lambda x: function(x, *settings, **rest))


def name_in_place(func: Any) -> bool:
    """Returns whether the name of a function says that it writes on its argument."""
    return func.__name__.endswith("_") and not func.__name__.endswith("__")


def _power(ctx: Context, func: Any, exponent: Any) -> Any:
    if exponent == 2:
        return _smooth(torch.square, squared)
    if not isinstance(exponent, int) or exponent < 1:
        raise ctx.cannot(func, f"raises to the power {exponent!r}")
    return _smooth(lambda x: x**exponent)
