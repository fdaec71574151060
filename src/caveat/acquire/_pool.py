"""A pool: which rows are labeled, which are asked for, which are neither. A value: every step gives a new one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast, final

import torch
from torch import Tensor

from caveat._checks import require_integer
from caveat.errors import InvalidArgumentError


@final
@dataclass(frozen=True)
class Pool:
    """``size`` rows, each of them labeled, asked for (pending) or unlabeled.

    Fields:
        size: Number of rows.
        labeled: the rows with a label, in the order in which the labels came.
        pending: the rows that are asked for and not labeled yet.

    Example:
        >>> pool = Pool(5).ask([3, 1])
        >>> pool = pool.label([3])
        >>> pool.labeled, pool.pending, pool.unlabeled
        ((3,), (1,), tensor([0, 2, 4]))
    """

    size: int
    labeled: tuple[int, ...] = field(default=())
    pending: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        require_integer(self.size, "size", 1, cause="a filter that kept nothing")
        known = [*self.labeled, *self.pending]
        if len(set(known)) < len(known) or any(not 0 <= row < self.size for row in known):
            raise InvalidArgumentError(
                f"A row of the pool is a number from 0 to {self.size - 1}, and is labeled or pending, once.",
                got=f"{len(known)} rows, {len(set(known))} different, from {min(known)} to {max(known)}",
                cause="positions among the unlabeled rows in place of rows of the pool",
                fix="pool.unlabeled[positions]",
            )

    @property
    def unlabeled(self) -> Tensor:
        """The rows that are neither labeled nor asked for, rising, int64."""
        free = torch.ones(self.size, dtype=torch.bool)
        free[list(self.labeled) + list(self.pending)] = False
        return free.nonzero().flatten()

    def ask(self, rows: Iterable[int] | Tensor) -> Pool:
        """The pool with these rows pending.

        Raises:
            InvalidArgumentError: more rows than are left, or a row twice, out of range, labeled or pending already.
        """
        asked = as_rows(rows)
        check_batch(len(asked), self.size - len(self.labeled) - len(self.pending))
        return replace(self, pending=(*self.pending, *asked))

    def label(self, rows: Iterable[int] | Tensor) -> Pool:
        """The pool with these rows labeled.

        Raises:
            InvalidArgumentError: one of them is not pending.
        """
        came = as_rows(rows)
        strange = sorted(set(came) - set(self.pending))
        if strange or len(set(came)) < len(came):
            raise InvalidArgumentError(
                "Labels are taken for rows that are asked for and not labeled yet, once each.",
                got=f"rows {strange[:8] or came[:8]}{' ...' if len(strange) > 8 else ''}",
                cause="labels of another round or another pool, or positions in place of row numbers",
                fix=f"labels of pending rows: {list(self.pending[:8])}{' ...' if len(self.pending) > 8 else ''}",
            )
        return replace(
            self,
            labeled=(*self.labeled, *came),
            pending=tuple(row for row in self.pending if row not in set(came)),
        )

    def __len__(self) -> int:
        return self.size


def as_rows(rows: Iterable[int] | Tensor) -> list[int]:
    """Row numbers as a list of int."""
    many = isinstance(cast(Any, rows), Iterable) and not (isinstance(rows, Tensor) and rows.ndim == 0)
    plain = cast("list[Any]", cast(Any, rows).tolist() if isinstance(rows, Tensor) else list(rows)) if many else None
    if plain is not None and all(hasattr(row, "__index__") and not isinstance(row, bool) for row in plain):
        return [int(row) for row in plain]
    raise InvalidArgumentError(
        "Rows are whole numbers, several of them.",
        got=f"{rows!r}" if plain is None else f"{plain[:4]!r}",
        cause="a boolean mask, ids, or a single number in place of row numbers",
        fix="mask.nonzero().flatten(); [row] for a single one",
    )


def check_batch(size: int, available: int) -> None:
    """Raises ``InvalidArgumentError`` unless ``size`` is a positive number of rows and as many are there."""
    require_integer(size, "size", 1, fix="size=10, the number of rows of a batch")
    if available < 1:
        raise InvalidArgumentError(
            "A pool must have a row that can be asked for.",
            got="no row left",
            cause="a filter that kept nothing, or every row is labeled",
            fix="stop the loop where len(pool.unlabeled) == 0",
        )
    if size > available:
        raise InvalidArgumentError(
            "A batch is at most as large as what is left of the pool.",
            got=f"size={size} of {available} rows",
            cause="the last round of a pool that the batch does not divide",
            fix=f"size={available}, or min(size, len(pool.unlabeled))",
        )
