"""Any table as named columns: pandas, polars, Arrow, NumPy, or a dict, without importing what is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caveat.errors import explain
from caveat.tabular.errors import InvalidTable

Array = NDArray[Any]
Columns = dict[str, Array]
"""Arrays (B,) by name: of numbers, booleans, dates, or of objects (text, with None where a value is missing)."""


def as_columns(table: Any) -> Columns:
    """The columns of a table, in order.

    Args:
        table: a data frame of pandas or polars, an Arrow table, a NumPy array (B, F), rows of lists, or a dict of
            columns. Columns without a name are called "x0", "x1", ...

    Raises:
        InvalidTable: not a table, no columns, or columns of different length.

    Example:
        >>> {name: list(values) for name, values in as_columns([[1.0, 2.0], [3.0, 4.0]]).items()}
        {'x0': [np.float64(1.0), np.float64(3.0)], 'x1': [np.float64(2.0), np.float64(4.0)]}
    """
    if hasattr(table, "toarray") and hasattr(table, "nnz"):
        raise SparseTable(_said("a sparse matrix", "one-hot encoding before", "pass the categories, or X.toarray()"))
    if isinstance(table, Mapping):
        found = {str(name): _column(values) for name, values in cast(Mapping[Any, Any], table).items()}
    elif hasattr(table, "column_names") and hasattr(table, "column"):  # Arrow
        found = {str(name): _column(table.column(name)) for name in table.column_names}
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):  # pandas, polars
        names = list(table.columns)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidTable(_said(f"column {twice!r} twice", "a join or a concatenation", "rename one of the two"))
        found = {str(name): _column(table[name]) for name in names}
    else:
        found = _matrix(table)
    if not found:
        rows = getattr(cast(Any, table), "shape", (0,))[0]
        raise InvalidTable(f"Found array with 0 feature(s) (shape=({rows}, 0)) while a minimum of 1 is required.")
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) != 1:
        raise InvalidTable(
            _said(f"columns of lengths {lengths}", "columns of another split", "cut all at the same row")
        )
    return found


def count_rows(columns: Mapping[str, Array]) -> int:
    """How many rows B the columns have."""
    return len(next(iter(columns.values())))


def take(columns: Mapping[str, Array], rows: Any) -> Columns:
    """The columns at these rows (an index, a slice or a mask)."""
    return {name: values[rows] for name, values in columns.items()}


def _column(values: Any) -> Array:
    """One column as an array: its own type where NumPy has it, else objects with None for what is missing."""
    dtype = getattr(values, "dtype", None)
    if type(values).__module__.startswith("pandas"):
        return _pandas_column(values, dtype)
    if hasattr(values, "to_numpy") and not isinstance(values, np.ndarray):  # polars, Arrow
        if type(values).__module__.startswith("pyarrow"):
            return _from_list(values.to_pylist()) if values.null_count else np.asarray(values.to_numpy())
        return _from_list(values.to_list()) if values.null_count() else np.asarray(values.to_numpy())
    array = np.asarray(cast(Any, values))
    if array.ndim != 1:
        raise InvalidTable(_said(f"a column of shape {array.shape}", "nested lists", "pass one value a row"))
    return array


def _pandas_column(values: Any, dtype: Any) -> Array:
    if isinstance(dtype, np.dtype):
        return np.asarray(values.to_numpy())
    if getattr(dtype, "kind", "O") in "iufb" and str(dtype) != "category":
        return _from_list([None if missing else value for value, missing in zip(values, values.isna(), strict=True)])
    if getattr(dtype, "kind", "O") == "M":
        return np.asarray(values.dt.tz_localize(None).to_numpy(), dtype="datetime64[s]")
    whole = values.astype(object)
    return _from_list([None if missing else value for value, missing in zip(whole, whole.isna(), strict=True)])


def _from_list(values: list[Any]) -> Array:
    """Values with gaps: numbers with NaN, else objects with None."""
    kinds: set[Any] = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float, np.float64, np.int64, np.float32}:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _matrix(table: Any) -> Columns:
    array: Any = cast(Any, table) if isinstance(table, np.ndarray) else _rows(table)
    if np.iscomplexobj(array):
        raise InvalidTable("Complex data not supported\n  Got: complex numbers")
    if array.ndim != 2:
        got = f"Expected 2D array, got {'scalar' if array.ndim == 0 else f'{array.ndim}D'} array instead"
        raise InvalidTable(_said(got, "one feature or one row", "Reshape your data: X.reshape(-1, 1) or (1, -1)"))
    return {f"x{number}": array[:, number] for number in range(array.shape[1])}


def _rows(table: Any) -> Array:
    if hasattr(table, "__array__") or not isinstance(table, Sequence):
        return np.asarray(table)
    rows: list[Any] = list(cast(Any, table))
    if any(isinstance(value, str) for row in rows if isinstance(row, Sequence) for value in cast(Any, row)):
        return np.array(rows, dtype=object)
    return np.asarray(rows)


class SparseTable(InvalidTable, TypeError):
    """A sparse matrix, which is not read."""


def _said(got: str, cause: str, fix: str) -> str:
    rule = "X must be a table: a data frame, an Arrow table, an array (B, F), or a dict of columns."
    return explain(rule, got=got, cause=cause, fix=fix)
