"""What the kinds of predictive share: rows, kept draws, merges, and fields that are made when they are first asked for.

For one row of a small network a whole summary takes longer than the network, and who wants the mean needs no entropies.
The draws have been looked at before, so that nothing fails later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from caveat._checks import require_integer
from caveat._numerics import Moments
from caveat.errors import CannotMergeError, DrawsNotKeptError, InvalidArgumentError
from caveat.predictive._protocol import Predictive, RowIndex

_P = TypeVar("_P", bound=Predictive)
SOURCE = "_source"
"""Where a predictive without fields, made by ``object.__new__``, has an object whose attributes they are.

Its kind is a dataclass with ``__getattr__ = field_of_source`` and ``__getstate__ = all_fields``.
"""


def row_index(index: RowIndex, count: int, device: torch.device) -> Tensor | slice:
    """An index of rows that keeps the batch axis: one row `k`, in any kind of integer, is a slice of one.

    Raises:
        InvalidArgumentError: one index that is no whole number, or of no row.
    """
    if isinstance(index, slice):
        return index
    rows = torch.as_tensor(index, device=device)
    if rows.ndim:
        return rows if rows.dtype == torch.bool else rows.long()
    row: Any = rows.item()
    require_integer(row, "a row's index", -count, count - 1, cause="a row of another batch", fix="pred.rows(0)")
    return slice(row, row + 1 or None)


def require_kept(draws: Tensor | None) -> Tensor:
    """The kept draws, or `DrawsNotKeptError` with the way to keep them."""
    if draws is not None:
        return draws
    raise DrawsNotKeptError(
        "This question is answered by the draws themselves.",
        got="a predictive that keeps only running moments",
        cause="draws were not asked for; they are dropped in a merge with a predictive without them, and "
        "where rows of different numbers of draws are joined",
        fix="predict(..., keep=True)",
    )


def merged_draws(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Kept draws of both, (S_a + S_b, B...), if both kept theirs."""
    return None if a is None or b is None else torch.cat([a, b])


def concatenated_draws(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Kept draws of all rows, (S, sum of B, ...), if all kept the same number of them."""
    kept = [part for part in parts if part is not None]
    if len(kept) < len(parts) or len({part.shape[0] for part in kept}) > 1:
        return None
    return torch.cat(kept, dim=1)


def same_kind(first: _P, others: Sequence[Predictive], verb: str) -> list[_P]:
    """The others, if they are of the first one's kind; else `CannotMergeError`."""
    fitting = [other for other in others if isinstance(other, type(first))]
    if len(fitting) < len(others):
        kinds = ", ".join(type(p).__name__ for p in (first, *others))
        raise CannotMergeError(
            f"Only predictives of one kind {verb}.",
            got=kinds,
            cause="the two were read with different outputs, for instance Logits() and Mean()",
            fix="use the same output= for every sampler",
        )
    return fitting


def check_same_rows(a: Moments, b: Moments) -> None:
    """Raise `CannotMergeError` unless two summaries are of the same batch and on the same device."""
    if a.mean.shape != b.mean.shape or a.mean.device != b.mean.device:
        raise CannotMergeError(
            "Predictives merge if they summarize different draws of the same rows, on one device.",
            got=f"{tuple(a.mean.shape)} on {a.mean.device} and {tuple(b.mean.shape)} on {b.mean.device}",
            cause="they come from different batches (those are joined, not merged), or one was moved",
            fix="predictive.concatenate([a, b]) for more rows; a.merge(b.to(device)) for more draws",
        )


def check_same_features(parts: Sequence[Moments]) -> None:
    """Raise `CannotMergeError` unless all parts agree in everything but the number of rows."""
    if len({(tuple(m.mean.shape[1:]), m.mean.device) for m in parts}) > 1:
        raise CannotMergeError(
            "Rows are joined if they agree in every axis but the first, on one device.",
            got=" and ".join(f"{tuple(m.mean.shape)} on {m.mean.device}" for m in parts),
            cause="images or sequences of different sizes, or networks with different numbers of classes",
            fix="join rows of one shape only, after part.to(device)",
        )


def concatenate(parts: Sequence[_P], *, indices: Sequence[Tensor] | None = None) -> _P:
    """The rows of all parts, one part after another along the first batch axis, or in the order of their indices.

    Args:
        parts: predictives of one kind; they may have different numbers of draws.
        indices: for each part the int64 rows, (B_part,), that it holds; together 0 to B - 1, each once. Row k of the
            result is then the row whose index is k.

    Raises:
        InvalidArgumentError: there are no parts, or the indices are not a permutation of the rows.
        CannotMergeError: the parts are of different kinds or shapes.

    Example:
        >>> from caveat.predictive import Mean
        >>> pred = Mean().summarize(torch.arange(6.0).reshape(2, 3, 1))
        >>> odd, even = torch.tensor([1]), torch.tensor([0, 2])
        >>> concatenate([pred.rows(odd), pred.rows(even)]).mean.flatten()
        tensor([2.5000, 1.5000, 3.5000])
        >>> concatenate([pred.rows(odd), pred.rows(even)], indices=[odd, even]).mean.flatten()
        tensor([1.5000, 2.5000, 3.5000])
    """
    if not parts:
        raise InvalidArgumentError(
            "At least one predictive is needed.",
            got="an empty sequence",
            cause="a loader that gave no batches",
            fix="check that the loader is not empty",
        )
    whole = cast(_P, parts[0].concatenate(*parts[1:]))
    if indices is None:
        return whole
    device = parts[0].count.device
    order = torch.cat([*(index.to(device) for index in indices), torch.empty(0, dtype=torch.int64, device=device)])
    fitting = [part.row_count for part in parts] == [index.numel() for index in indices]
    if not fitting or not torch.equal(order.sort().values.cpu(), torch.arange(order.numel())):
        raise InvalidArgumentError(
            "indices must hold every row from 0 to B - 1 exactly once, a tensor for each part.",
            got=f"{len(parts)} parts, {len(indices)} index tensors, rows {[int(k) for k in order[:12]]}",
            cause="a row left in two parts or in none",
            fix="concatenate([pred.rows(i), pred.rows(j)], indices=[i, j]) with i and j disjoint and complete",
        )
    return cast(_P, whole.rows(order.argsort()))


def field_of_source(predictive: object, name: str) -> Any:
    """A field that was not asked for before."""
    space = predictive.__dict__
    source = space.get(SOURCE)
    if source is None or name not in _names(predictive):
        raise AttributeError(f"{type(predictive).__name__!r} object has no attribute {name!r}")
    with torch.inference_mode(False):  # what is made stays, and may be used where gradients are
        value = space[name] = getattr(source, name)
    return value


def all_fields(predictive: Any) -> dict[str, Any]:
    """What is copied and pickled: every field, and nothing of where it comes from."""
    return {name: getattr(predictive, name) for name in _names(predictive)}


def _names(predictive: Any) -> list[str]:
    return [field.name for field in fields(predictive)]
