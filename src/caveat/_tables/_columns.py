"""Any table as named columns: pandas, polars, Arrow, NumPy, or a dict, without importing what is not there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caveat._arrays import plain_tensor
from caveat._checks import is_missing
from caveat.errors import InvalidDataError

Array = NDArray[Any]
Columns = dict[str, Array]
"""Arrays (B,) by name: of numbers, booleans, dates, or of objects (text, with None where a value is missing)."""
_RULE = "X must be a table: a data frame, an Arrow table, an array (B, F), or a dict of columns."


class Category(str):
    """A value of a column whose type says that it holds categories, whatever the values look like."""

    __slots__ = ()


def as_columns(table: Any) -> Columns:
    """The columns of a table, in order.

    A time with a zone is its moment in UTC, a duration is seconds, and what a data frame or an Arrow table declares as
    categories is ``Category``. The index of a data frame is no column, in a Parquet file neither.

    Args:
        table: a data frame of pandas or polars, an Arrow table, a NumPy array (B, F), rows of lists, or a dict of
            columns. Columns without a name are called "x0", "x1", ...

    Raises:
        InvalidDataError: not a table, no columns, or columns of different length.

    Example:
        >>> {name: list(values) for name, values in as_columns([[1.0, 2.0], [3.0, 4.0]]).items()}
        {'x0': [np.float64(1.0), np.float64(3.0)], 'x1': [np.float64(2.0), np.float64(4.0)]}
    """
    if hasattr(table, "toarray") and hasattr(table, "nnz"):
        raise _no_table("a sparse matrix", "one-hot encoding before", "pass the categories, or X.toarray()")
    if hasattr(cast(Any, type(table)), "collect"):  # of polars, of Spark
        raise _no_table(f"a {type(table).__name__} that is not computed yet", "a query", "X.collect()")
    if isinstance(table, Mapping):
        given = cast(Mapping[Any, Any], table)
        found = {name: _column(given[key]) for name, key in _named(given)}
    elif hasattr(table, "column_names") and hasattr(table, "column"):  # Arrow
        index, declared = _pandas_metadata(table)
        found = {name: _column(table.column(key)) for name, key in _named(table.column_names) if key not in index}
        found = {name: declare_categories(values) if name in declared else values for name, values in found.items()}
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):  # pandas, polars
        found = {name: _column(table[key]) for name, key in _named(table.columns)}
    else:
        found = _matrix(table)
    if not found:
        rows = getattr(cast(Any, table), "shape", (0,))[0]
        raise InvalidDataError(f"Found array with 0 feature(s) (shape=({rows}, 0)) while a minimum of 1 is required.")
    found = {name: _decode(values) for name, values in found.items()}
    for name, values in found.items():
        if values.ndim != 1:
            got = f"a column {name!r} of shape {values.shape}"
            raise _no_table(got, "nested values", "give each part a column of its own")
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) != 1:
        raise _no_table(f"columns of lengths {lengths}", "columns of another split", "cut all at the same row")
    return found


def count_rows(columns: Mapping[str, Array]) -> int:
    """The number of rows B of the columns."""
    return len(next(iter(columns.values())))


def take(columns: Mapping[str, Array], rows: Any) -> Columns:
    """The columns at these rows (an index, a slice or a mask)."""
    return {name: values[rows] for name, values in columns.items()}


@dataclass(frozen=True, eq=False)
class TypedColumns:
    """Columns of B rows, parsed: what the network gets as numbers, and as keys of categories.

    Fields:
        numbers: (B,) float64 by name, NaN where missing; parts of dates too.
        categories: (B,) objects by name: text, None where missing.
    """

    numbers: dict[str, Array]
    categories: dict[str, Array]


def _named(keys: Iterable[Any]) -> list[tuple[str, Any]]:
    """Names as text, each with what the table calls it."""
    named = [(str(key), key) for key in keys]
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        got, cause = f"column {twice!r} twice", "a join or a concatenation"
        raise _no_table(got, cause, "rename one of the two")
    return named


def _column(values: Any) -> Array:
    room = type(values).__module__.partition(".")[0]
    if room == "pandas":
        return _pandas_column(values)
    if room == "polars":
        return _polars_column(values)
    if room == "pyarrow":
        return _arrow_column(values)
    values = plain_tensor(values)
    if isinstance(values, np.ma.MaskedArray):
        values = cast("list[Any]", values.tolist())  # pyright: ignore[reportUnknownMemberType]
    if isinstance(values, (list, tuple)):
        listed = list(cast("Sequence[Any]", values))
        if np.array(listed, dtype=object).ndim == 1:
            return _from_list(listed)
    array = np.asarray(cast(Any, values))
    if array.ndim != 1:
        raise _no_table(f"a column of shape {array.shape}", "nested lists", "pass one value per row")
    return _numpy_column(array)


def _numpy_column(array: Array) -> Array:
    if array.dtype.kind == "c":
        raise InvalidDataError("Complex data not supported\n  Got: complex numbers")
    if array.dtype.kind == "m":  # one unit, whichever the container counts in; NaT becomes NaN
        return array / np.timedelta64(1, "s")
    return array


def _decode(values: Array) -> Array:
    """Returns bytes as text, as whichever container holds them."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype != object or not any(isinstance(value, bytes) for value in values.flat):
        return values
    return as_objects([value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values])


def _pandas_column(values: Any) -> Array:
    dtype = values.dtype
    kind = type(dtype).__name__
    if isinstance(dtype, np.dtype):
        return _numpy_column(np.asarray(values.to_numpy()))
    if kind == "CategoricalDtype":
        return declare_categories(values.astype(object))
    if kind == "ArrowDtype":
        return _arrow_column(values.array.__arrow_array__())
    if kind == "DatetimeTZDtype":
        return np.asarray(values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
    if kind == "PeriodDtype":
        return np.asarray(values.dt.to_timestamp().to_numpy())
    if kind == "SparseDtype":
        return np.asarray(values.sparse.to_dense().to_numpy())
    return _from_list([None if missing else value for value, missing in zip(values, values.isna(), strict=True)])


def _polars_column(values: Any) -> Array:
    kind = str(values.dtype).partition("(")[0]
    if kind in ("Categorical", "Enum"):
        return declare_categories(values.to_list())
    if kind in ("Datetime", "Date", "Duration"):  # with a zone: in UTC
        return _numpy_column(np.asarray(values.to_numpy()))
    return _from_list(values.to_list()) if values.null_count() else np.asarray(values.to_numpy())


def _arrow_column(values: Any) -> Array:
    kind = str(values.type)
    if kind.startswith("dictionary<"):
        return declare_categories(values.to_pylist())
    if kind.startswith("timestamp[") and "tz=" in kind:
        try:
            return _from_list(values.to_pylist())
        except ValueError:  # nanoseconds without pandas
            return _from_list(values.cast(kind.replace("[ns", "[us"), safe=False).to_pylist())
    if kind.startswith(("timestamp[", "date", "duration[")) or not (values.null_count or kind.startswith("decimal")):
        return _numpy_column(np.asarray(values.to_numpy(zero_copy_only=False)))
    return _from_list(values.to_pylist())


def _pandas_metadata(table: Any) -> tuple[set[Any], set[Any]]:
    """The columns of an Arrow table that were the index of a data frame of pandas, and those that were categories."""
    metadata: dict[bytes, bytes] = getattr(table.schema, "metadata", None) or {}
    try:
        metadata_of = json.loads(metadata.get(b"pandas", b"{}"))
        index = {name for name in metadata_of.get("index_columns", []) if isinstance(name, str)}
        return index, {c["name"] for c in metadata_of.get("columns", []) if c["pandas_type"] == "categorical"}
    except (ValueError, AttributeError, TypeError, LookupError):
        return set(), set()


def declare_categories(values: Iterable[Any]) -> Array:
    """The same values as categories, None where missing."""
    return as_objects([None if is_missing(value) else Category(value) for value in values])


def _from_list(values: list[Any]) -> Array:
    """Numbers with NaN for gaps; else, and where whole numbers have gaps or more digits than a float, objects."""
    kinds: set[Any] = {type(value) for value in values}
    integers: set[Any] = {kind for kind in kinds if issubclass(kind, (int, np.integer)) and kind is not bool}
    if kinds and (kinds == {bool} or kinds == integers):
        try:
            return np.array(values, dtype=bool if kinds == {bool} else np.int64)
        except OverflowError:
            return as_objects(values)
    real: set[Any] = integers | {kind for kind in kinds if issubclass(kind, (float, np.floating))}
    exact = not integers or not any(type(value) in integers and abs(value) > 2**53 for value in values)
    if real and kinds <= real | {type(None)} and kinds - {type(None)} != integers and exact:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return as_objects(values)


def as_objects(values: Sequence[Any]) -> Array:
    """Values of any kind, lists too, as an array (B,) of objects."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _matrix(table: Any) -> Columns:
    array: Any = cast(Any, table) if isinstance(table, np.ndarray) else _rows(plain_tensor(table))
    if array.ndim != 2:
        got = f"Expected 2D array, got {'scalar' if array.ndim == 0 else f'{array.ndim}D'} array instead"
        if array.dtype.names or (array.size and isinstance(array.flat[0], Mapping)):
            raise _no_table(got, "records, or dicts of one row each", "pandas.DataFrame(X)")
        fix = "Reshape your data: X.reshape(-1, 1) or (1, -1)"
        raise _no_table(got, "one feature or one row", fix)
    return {f"x{number}": _column(array[:, number]) for number in range(array.shape[1])}


def _rows(table: Any) -> Array:
    if hasattr(table, "__array__") or not isinstance(table, Sequence):
        return np.asarray(table)
    rows: list[Any] = list(cast(Any, table))
    if any(isinstance(value, str) for row in rows if isinstance(row, Sequence) for value in cast(Any, row)):
        return np.array(rows, dtype=object)
    return np.asarray(rows)


def _no_table(got: str, cause: str, fix: str) -> InvalidDataError:
    return InvalidDataError(_RULE, got=got, cause=cause, fix=fix)
