"""Shift in the labels: other class proportions, and classes that were not there before, as indices of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caveat._checks import describe, require_integer, require_number
from caveat._seeds import check_seed, draw_keys, site_key
from caveat.errors import InvalidArgumentError


def label_shift(labels: Tensor, proportions: Mapping[int, float], *, size: int | None = None, seed: int = 0) -> Tensor:
    """Rows drawn without replacement so that the classes come in these proportions.

    Args:
        labels: (N,) classes, whole numbers from 0.
        proportions: Fraction of each class; they are divided by their sum, and classes left out get none.
        size: Number of rows; the most that the labels allow if not given.
        seed: Random seed for the draws.

    Returns:
        (size,) int64 indices in random order. Each class gets its fraction of ``size`` rounded down; what is left over
        goes to the classes with the largest remainders.

    Raises:
        InvalidArgumentError: labels of another form, proportions that are negative, not finite or all 0, a class with
            fewer rows than its fraction asks for.

    See "Detecting and Correcting for Label Shift with Black Box Predictors", Lipton, Wang and Smola, 2018,
    https://arxiv.org/abs/1802.03916.

    Example:
        >>> labels = torch.arange(100) % 2
        >>> labels[label_shift(labels, {0: 0.9, 1: 0.1}, size=50)].bincount()
        tensor([45,  5])
    """
    _check_labels(labels)
    check_seed(seed)
    shares = _shares(proportions)
    available = {label: int((labels == label).sum()) for label in shares}
    if 0 in available.values():
        _is_one_of(labels, list(shares))
    if size is None:
        size = _largest(shares, available)
    require_integer(size, "size", 1, len(labels), fix="leave size out for the most there is")
    counts = _apportion(shares, size)
    for label, count in counts.items():
        if count > available[label]:
            raise _too_few(f"class {label}", count, available[label], size)
    of_class = {label: (labels == label).nonzero().squeeze(1) for label in counts}
    rows = torch.cat([_drawn(of_class[label], count, seed, f"class {label}") for label, count in counts.items()])
    return _drawn(rows, len(rows), seed, "order")


@dataclass(frozen=True, eq=False)
class NewClasses:
    """A test set in which part of the rows are of classes that the network never saw.

    Attributes:
        rows: (size,) int64, indices of the labels it was made from, in random order.
        is_new: (size,) bool, whether each is of a new class.
    """

    rows: Tensor
    is_new: Tensor


def new_classes(
    labels: Tensor, classes: Sequence[int], *, fraction: float, size: int | None = None, seed: int = 0
) -> NewClasses:
    """Rows of which exactly ``fraction`` are of ``classes``, and the others of the remaining classes.

    Of ``fraction=0`` they are all rows of the classes that remain: train on those, and test on a mixture.

    Args:
        labels: (N,) classes, whole numbers from 0.
        classes: New classes.
        fraction: Fraction of the rows that are new, 0 to 1; times ``size``, rounded to the nearest row.
        size: Number of rows; the most that the labels allow if not given.
        seed: Random seed for the draws.

    Raises:
        InvalidArgumentError: labels of another form, a class that no row has, a fraction outside 0 to 1, too few rows.

    Example:
        >>> labels = torch.arange(100) % 10
        >>> mixed = new_classes(labels, [8, 9], fraction=0.25, size=40)
        >>> int(mixed.is_new.sum()), labels[mixed.rows[~mixed.is_new]].max()
        (10, tensor(7))
        >>> new_classes(labels, [8, 9], fraction=0).rows.shape
        torch.Size([80])
    """
    new = _is_one_of(labels, classes)
    check_seed(seed)
    require_number(fraction, "fraction", "[0, 1]")
    available = {1: int(new.sum()), 0: int((~new).sum())}
    if fraction < 1 and not available[0]:
        raise InvalidArgumentError(
            "Some class must remain.", got=f"classes={list(classes)}", cause="all of them", fix="leave one in"
        )
    shares = {key: value for key, value in ((1, float(fraction)), (0, 1 - float(fraction))) if value > 0}
    if size is None:
        size = _largest(shares, available)
    require_integer(size, "size", 1, len(labels), fix="leave size out for the most there is")
    counts = {1: round(size * fraction), 0: size - round(size * fraction)}
    for key, name in ((1, "the new classes"), (0, "the known classes")):
        if counts[key] > available[key]:
            raise _too_few(name, counts[key], available[key], size)
    parts = [_drawn((new == bool(key)).nonzero().squeeze(1), counts[key], seed, f"new {key}") for key in (1, 0)]
    rows = _drawn(torch.cat(parts), size, seed, "order")
    return NewClasses(rows, new[rows])


def _is_one_of(labels: Tensor, classes: Sequence[int]) -> Tensor:
    _check_labels(labels)
    absent = [label for label in classes if not bool((labels == label).any())]
    if absent or len(classes) == 0:
        raise InvalidArgumentError(
            "classes must occur among the labels.",
            got=f"classes={list(classes)}, of which no row has {absent}",
            cause="classes counted from 1",
            fix="take some of labels.unique()",
        )
    return torch.isin(labels, torch.as_tensor(list(classes), device=labels.device))


def _drawn(rows: Tensor, count: int, seed: int, stream: str) -> Tensor:
    """``count`` of these rows in random order: a function of (seed, stream, row) alone, so more rows add to fewer."""
    first, second = draw_keys(seed, site_key("resample", 0, stream), rows)
    return rows[torch.argsort(first.long() << 32 | (second.long() & 0xFFFFFFFF), stable=True)[:count]]


def _apportion(shares: Mapping[int, float], size: int) -> dict[int, int]:
    # Rounded in the twelfth digit, so that 0.1 * 50 / 1.0000000000000002 counts as 5.
    exact = {label: round(share * size, 12) for label, share in shares.items()}
    counts = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (counts[label] - exact[label], label))
    for label in by_remainder[: size - sum(counts.values())]:
        counts[label] += 1
    return counts


def _largest(shares: Mapping[int, float], available: Mapping[int, int]) -> int:
    size = int(min(available[label] / share for label, share in shares.items()) + 1e-9)
    while size > 0 and any(count > available[label] for label, count in _apportion(shares, size).items()):
        size -= 1
    return size


def _shares(proportions: Mapping[int, float]) -> dict[int, float]:
    values = {int(label): float(share) for label, share in proportions.items()}
    total = sum(values.values())
    if not values or min(values.values()) < 0 or not 0 < total < float("inf"):
        raise InvalidArgumentError(
            "proportions must be fractions of classes, none negative, not all 0.",
            got=f"proportions={dict(proportions)}",
            cause="a fraction computed by a subtraction",
            fix="pass such as {0: 0.9, 1: 0.1}",
        )
    return {label: share / total for label, share in values.items() if share > 0}


def _check_labels(labels: Any) -> None:
    if not isinstance(labels, Tensor) or labels.ndim != 1 or len(labels) == 0 or labels.is_floating_point():
        got = describe(labels) if isinstance(labels, Tensor) else type(labels).__name__
        raise InvalidArgumentError(
            "labels must be a tensor (N,) of whole numbers, not empty.",
            got=got,
            cause="one-hot labels, or a list",
            fix="pass torch.as_tensor(labels), or one_hot.argmax(-1)",
        )


def _too_few(what: str, wanted: int, available: int, size: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        "Rows are drawn without replacement: each class must have as many as its fraction asks for.",
        got=f"{what} would need {wanted} rows of size={size}, and has {available}",
        cause="a rare class made frequent",
        fix="ask for a smaller size, or leave it out for the most there is",
    )
