"""Sentences from a list, an array or a series; what is none is named with its row."""

from __future__ import annotations

from typing import Any, cast

from caveat._checks import is_missing
from caveat.errors import InvalidDataError


def as_sentences(X: Any) -> list[str]:
    """The sentences of a list, tuple, NumPy array, pandas or polars series, Arrow array, or one column of a table.

    Args:
        X: B strings.

    Returns:
        B strings, as they are.

    Raises:
        InvalidDataError: no sentences, several columns, or a row that is missing, empty or no string; it names the row.

    Example:
        >>> as_sentences(("book a table", "play some jazz"))
        ['book a table', 'play some jazz']
    """
    rows = _rows(X)
    if not rows:
        rule = "At least one sentence is needed. Found array with 0 sample(s) while a minimum of 1 is required."
        raise InvalidDataError(rule, got="none", cause="a filter that kept nothing", fix="look at len(X) before")
    for number, row in enumerate(rows):
        if not isinstance(row, str):
            missing = is_missing(row)
            raise InvalidDataError(
                "Each row must be a sentence.",
                got=f"{row!r} ({type(row).__name__}) in row {number}",
                cause="a missing value" if missing else "numbers, bytes or lists of words where text was meant",
                fix="leave these rows out: X[X.notna()]" if missing else "' '.join(words), or text.decode('utf-8')",
            )
        if not row.strip():
            raise InvalidDataError(
                "A sentence must not be empty.",
                got=f"{row!r} in row {number}",
                cause="a field that was left blank, or a cleaning step that took everything away",
                fix="leave these rows out: [text for text in X if text.strip()]",
            )
    return cast("list[str]", rows)


def _rows(X: Any) -> list[Any]:
    if getattr(X, "num_columns", 0) == 1:  # a table of Arrow
        return _rows(X.column(0))
    if isinstance(X, (str, bytes, dict, set, frozenset)) or not hasattr(X, "__iter__"):
        raise InvalidDataError(
            "X must be a list, an array or a series of sentences.",
            got=f"a {type(cast(object, X)).__name__}",
            cause="one sentence that is not in a list, or a set, which has no order",
            fix='predict(["one sentence"])',
        )
    shape: tuple[int, ...] = tuple(getattr(X, "shape", ()))
    if len(shape) > 1 and shape[1:] != (1,):
        raise InvalidDataError(
            "X must be one column of sentences.",
            got=f"shape {shape}",
            cause="a table with other columns beside the text",
            fix='pass the column itself: X["text"]',
        )
    if hasattr(X, "to_pylist"):
        return X.to_pylist()
    values: Any = X.to_numpy() if hasattr(X, "to_numpy") else X
    return values.reshape(-1).tolist() if hasattr(values, "reshape") else list(values)
