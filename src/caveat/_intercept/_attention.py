"""Attention as a site: the dropout of its weights, also where torch keeps it inside one call."""

from __future__ import annotations

import math
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept._draw_axis import as_draws, has_draws, is_plain, with_draws_first
from caveat._intercept._dropout_sites import drop_at_site
from caveat._intercept._interception import Pass, handles

_KIND = "attention"
_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
# Torch's fused attention takes (B, H, L, E) only.
_FUSED_DIMS = 4


@handles(F.scaled_dot_product_attention)
def _scaled_dot_product(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = ctx.settled(args, kwargs)
    rate = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
    if not (rate > 0 and ctx.would_drop(rate)):
        args, kwargs = _without_dropout(args, kwargs)
        return ctx.plain(func, args, kwargs, run=lambda *_, **__: _fused(ctx, func, args, kwargs))
    return attend(ctx, *args, **kwargs)


def attend(
    ctx: Pass,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention written out, so that its weights can be dropped; the definition is torch's documentation of it.

    Args:
        ctx: The running pass.
        query: (..., L, E).
        key: (..., K, E).
        value: (..., K, V).
        attn_mask: broadcastable to (..., L, K); bool (True: attend) or added to the scores.
        dropout_p: the rate of the weights' dropout.
        is_causal: position l attends to the positions up to l.
        scale: of the scores, 1 / sqrt(E) by default.
        enable_gqa: key and value have fewer heads, each serving several of the query's.

    Returns:
        (..., L, V).
    """
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    scores = torch.matmul(query * (scale or 1 / math.sqrt(query.size(-1))), key.transpose(-2, -1))
    if is_causal:
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~causal, -math.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = torch.softmax(scores, dim=-1)
    if attn_mask is not None:
        # A position that may attend to nothing gets zeros, as torch gives it, and not NaN.
        weights = weights.masked_fill((scores == -math.inf).all(-1, keepdim=True), 0.0)
    return torch.matmul(drop_at_site(ctx, _KIND, weights, dropout_p), value)


def _fused(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Torch's own attention with the draws folded into the batch: vmap would call it draw by draw."""
    level = ctx.drawing.level if ctx.drawing is not None else None
    named = dict(zip(_NAMES, args, strict=False)) | kwargs
    tensors = [value for value in named.values() if isinstance(value, Tensor)]
    varying = [tensor for tensor in tensors if level is not None and has_draws(tensor, level)]
    if level is None or not varying or not all(is_plain(tensor) or has_draws(tensor, level) for tensor in tensors):
        return func(*args, **kwargs)
    draws, dims = with_draws_first(varying[0]).shape[0], max(tensor.dim() for tensor in tensors)
    batch = max(tensor.shape[0] for tensor in tensors if tensor.dim() == dims)

    def fold(name: str, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        same = not has_draws(part, level)
        if same and name == "attn_mask" and (part.dim() < dims or part.shape[0] == 1):
            return part  # the same for all rows and draws
        part = part.expand(draws, *part.shape) if same else with_draws_first(part)
        part = part[(slice(None), *(None,) * (dims + 1 - part.dim()))]
        return part.expand(draws, batch, *part.shape[2:]).flatten(0, 1) if dims == _FUSED_DIMS else part

    out = func(**{name: fold(name, value) for name, value in named.items()})
    return as_draws(out.unflatten(0, (draws, batch)) if dims == _FUSED_DIMS else out, level)


def _without_dropout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if len(args) > 4:
        return (*args[:4], 0.0, *args[5:]), kwargs
    return args, {**kwargs, "dropout_p": 0.0}


@handles(F.multi_head_attention_forward)
def _multi_head(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Torch's own function, with its dropout and its attention calls bound to ours.

    A function called from its own interception is intercepted again, for ever; a copy of it whose globals say that
    there is nothing to intercept is not.
    """
    args, kwargs = ctx.settled(args, kwargs)
    rate = kwargs["dropout_p"] if "dropout_p" in kwargs else args[10]
    if not (rate > 0 and ctx.would_drop(rate)):
        return ctx.plain(func, args, {**kwargs, "training": False})

    def dropout(weights: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return drop_at_site(ctx, _KIND, weights, p)

    def attention(*attention_args: Any, **attention_kwargs: Any) -> Tensor:
        return attend(ctx, *attention_args, **attention_kwargs)

    names = {"has_torch_function": _never, "dropout": dropout, "scaled_dot_product_attention": attention}
    body = FunctionType(func.__code__, {**func.__globals__, **names}, func.__name__, func.__defaults__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body(*args, **{**kwargs, "training": True})


@handles(getattr(torch, "_nested_tensor_from_mask_left_aligned", None))
def _could_be_nested(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """No: an encoder that asks whether padding could be packed goes without, as for any intercepted tensor."""
    return False


def _never(*_: Any) -> bool:
    return False
