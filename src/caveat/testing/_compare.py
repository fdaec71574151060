"""Draws laid side by side: the same up to the rounding that another order of arithmetic brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine import Sampler, draws

_RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-4}
_COARSE = 5e-2


def leaves(values: Any) -> list[tuple[str, Tensor]]:
    """The tensors in draws or in a predictive's attribute, each with its head's name ('' for the only one)."""
    if isinstance(values, Mapping):
        parts = cast("Mapping[str, Any]", values)
        return [(f"{name}{rest}", leaf) for name, part in parts.items() for rest, leaf in leaves(part)]
    return [("", values)]


def select(values: Any, index: Any) -> Any:
    """``tensor[index]`` of every tensor."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor[index], values)


def select_rows(values: Any, axis: int, index: list[int]) -> Any:
    """These rows along ``axis`` of every tensor."""

    def take(tensor: Tensor) -> Tensor:
        return tensor.index_select(axis, torch.tensor(index, device=tensor.device))

    return pytree.tree_map_only(Tensor, take, values)


def drawn(sampler: Sampler, x: Any, n: int, seed: int) -> Any:
    """``caveat.draws`` without a graph."""
    with torch.no_grad():
        return draws(sampler, x, n, seed=seed)


def streamed(sampler: Sampler, x: Any, seed: int, ranges: Iterable[range], **settings: Any) -> list[Any]:
    """The draws of each range, asked of one stream in the order given."""
    with sampler.bind(x, seed, **settings) as stream:
        return [_gathered(list[Any](_copies(stream(part)))) for part in ranges]


def _copies(pieces: Iterable[Any]) -> Iterable[Any]:
    """A stream may write the next piece over the last."""
    for piece in pieces:
        yield pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), piece)


def _gathered(pieces: list[Any]) -> Any:
    return pytree.tree_map(lambda *parts: torch.cat(parts), *pieces)


def difference(a: Any, b: Any) -> str | None:
    """Where two sets of draws differ by more than rounding, in words; None if nowhere.

    Rounding is judged against the largest value: 1e-9 of it in float64, 1e-4 in float32, 5e-2 in halves.
    """
    left, right = leaves(a), leaves(b)
    if [name for name, _ in left] != [name for name, _ in right]:
        return f"one has heads {[name for name, _ in left]}, the other {[name for name, _ in right]}"
    for (name, first), (_, second) in zip(left, right, strict=True):
        head = f"head {name!r}: " if name else ""
        if first.shape != second.shape:
            return f"{head}one has shape {tuple(first.shape)}, the other {tuple(second.shape)}"
        if first.dtype != second.dtype:
            return f"{head}one is {first.dtype}, the other {second.dtype}"
        gap = _gap(first.detach().double(), second.detach().double())
        allowed = _RELATIVE.get(first.dtype, _COARSE)
        if gap > allowed:
            return f"{head}they differ by {gap:.2g} of the largest value; rounding explains {allowed:.2g}"
    return None


def _gap(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the largest value; infinite where only one is finite."""
    if a.numel() == 0:
        return 0.0
    if not torch.equal(a.isfinite(), b.isfinite()):
        return float("inf")
    scale = float(a.nan_to_num(0.0, 0.0, 0.0).abs().amax())
    return float((a - b).nan_to_num(0.0, 0.0, 0.0).abs().amax()) / max(scale, 1e-12)


def require_same(a: Any, b: Any, promise: str) -> None:
    """Raise ``AssertionError`` with ``promise`` and the difference, unless ``a`` and ``b`` are the same."""
    found = difference(a, b)
    if found is not None:
        raise AssertionError(f"{promise} But {found}.")


def count_for(sampler: Sampler, n: int) -> int:
    """``n``, or as many functions as the sampler has if those are fewer."""
    return n if sampler.size is None else min(n, sampler.size)

def require(holds: bool, message: str) -> None:
    """Raise ``AssertionError`` with ``message`` unless ``holds`` (also under ``python -O``)."""
    if not holds:
        raise AssertionError(message)
