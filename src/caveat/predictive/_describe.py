"""What a predictive prints as: a line of its kind and sizes, and a table of its first numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from caveat._table_text import format_html, format_table

FIRST = 5
"""How many numbers of each quantity are shown."""


def draws_text(count: Tensor) -> str:
    """The number of draws, as `100`, or as `20..100` where rows differ.

    Example:
        >>> draws_text(torch.tensor([20, 100, 40]))
        '20..100'
    """
    if count.numel() == 0:
        return "0"
    least, most = int(count.min()), int(count.max())
    return str(least) if least == most else f"{least}..{most}"


def describe_predictive(kind: str, *, kept: bool, count: Tensor, dtype: torch.dtype, **axes: object) -> str:
    """Returns `Kind(batch=(31,), classes=10, draws=100, float32)`."""
    parts = [f"{name}={value}" for name, value in axes.items()]
    parts += [f"draws={draws_text(count)}{' (kept)' if kept else ''}", str(dtype).removeprefix("torch.")]
    return f"{kind}({', '.join(parts)})"


def text_of_first(line: str, shape: torch.Size, columns: Mapping[str, Tensor]) -> str:
    """Returns the line with a table of the first numbers below it, and how many more there are.

    Args:
        line: Kind and sizes.
        shape: Shape of the whole.
        columns: First ``FIRST`` numbers of each quantity, by its name.
    """
    table = format_table(("row", *columns), _rows(shape, columns))
    more = _rest(shape)
    return "\n".join([line, table, *([f"  {more}"] if more else [])])


def html_of_first(line: str, shape: torch.Size, columns: Mapping[str, Tensor]) -> str:
    """Returns the same as HTML, for notebooks."""
    return format_html(line, ("row", *columns), _rows(shape, columns), after=_rest(shape))


def _rows(shape: torch.Size, columns: Mapping[str, Tensor]) -> list[tuple[object, ...]]:
    values: list[list[float]] = [column.tolist() for column in columns.values()]
    return [(_place(at, shape), *row) for at, row in enumerate(zip(*values, strict=True))]


def _place(at: int, shape: torch.Size) -> str:
    """The indices of a number, without a last axis of size one."""
    indices = [str(int(index)) for index in torch.unravel_index(torch.tensor(at), shape)]
    return ", ".join(indices[:-1] if len(shape) > 1 and shape[-1] == 1 else indices)


def _rest(shape: torch.Size) -> str:
    left = shape.numel() - FIRST
    return f"... {left} more" if left > 0 else ""
