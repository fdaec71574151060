"""Random numbers that a network asks torch for: hand-written dropout, stochastic depth, noise in the forward pass.

They come from our own source, so that they too depend on (seed, draw) alone. A network that draws them in eval mode is
random anyway; those behind ``self.training`` run only where ``live=`` asks for their owner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept import _mutation as mutation
from caveat._intercept._interception import HANDLERS, Pass
from caveat._intercept._random_functions import RANDOM_FUNCTIONS, Answer
from caveat._intercept._sites import SiteKey

_KIND = "noise"
_MANY, _VERY_MANY = 32, 512  # calls for random numbers in a pass that looks
_NORMAL = (torch.randn, torch.randn_like, torch.normal, torch.Tensor.normal_)


@dataclass(frozen=True)
class _OfPass:
    """The numbers of a pass, those of its owner's next site."""

    ctx: Pass

    def uniform_like(self, like: Tensor, dtype: torch.dtype | None = None) -> Tensor | None:
        """Uniform numbers of the shape of ``like``; None in a pass that only looks, unless it follows them."""
        ctx = self.ctx
        key = ctx.noise_site(_KIND, like)
        if key is not None:
            numbers = ctx.uniform_for(key, tuple(like.shape), dtype or like.dtype, by_row=True)
            zeros = torch.zeros(like.shape, dtype=numbers.dtype, device=numbers.device)
            return numbers + zeros  # one number a row's entry
        wide = torch.float64 if dtype == torch.float64 or like.dtype == torch.float64 else torch.float32
        if (count := len(ctx.seen.observed)) > _MANY:
            return _other_numbers(count, like, wide)
        if ctx.seen.followed is None:
            return None
        return ctx.seen.followed.numbers(like.shape, wide, like.device)

    def assign(self, target: Tensor, value: Tensor) -> Tensor:
        """As ``mutation.assign``."""
        return mutation.assign(self.ctx, target, value)


def _other_numbers(count: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Uniform numbers for a network that asks so often that it may wait for others, as where it rejects samples.

    They are the same for all rows; where that is not enough, for a last row whatever rows come before it.
    """
    shape = (1,) * like.dim() if count < _VERY_MANY else like.shape
    numbers = torch.rand(math.prod(shape), dtype=dtype, generator=torch.Generator().manual_seed(count))
    return numbers.clamp(1e-6, 1 - 1e-6).flip(0).view(shape).to(like.device).expand(like.shape).clone()


def _draw(answer: Answer, ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Answers a function whose result is random numbers, which a pass that looks may follow."""
    args, kwargs = ctx.settled(args, kwargs)
    if _is_constant(ctx, kwargs.get("generator")):
        return ctx.plain(func, args, kwargs)
    first = len(ctx.seen.observed)
    returned = answer(_OfPass(ctx), func, args, kwargs)
    ctx.seen.of_weights.forget(args)
    if ctx.seen.followed is not None:
        sites = frozenset(range(first, len(ctx.seen.observed)))
        if func is not F.gumbel_softmax or ctx.seen.followed.is_constant(args[0]):
            ctx.seen.followed.add(returned, sites)
        if func in _NORMAL:
            ctx.seen.followed.normal |= sites
    return returned


def _is_constant(ctx: Pass, generator: torch.Generator | None) -> bool:
    """Returns whether the coming call has the same numbers in every pass; a probe notes the generator's state."""
    if ctx.seen.streams is None and not ctx.rules.constants:
        return False
    path = ctx.network.paths[id(ctx.owner())]
    key = SiteKey(path, ctx.ordinals.get(path, 0))
    if key in ctx.rules.constants:
        ctx.ordinals[path] = key.ordinal + 1
        return True
    if ctx.seen.streams is not None:
        ctx.seen.streams.note(key, generator)
    return False


HANDLERS.update({function: partial(_draw, answer) for function, answer in RANDOM_FUNCTIONS.items()})
