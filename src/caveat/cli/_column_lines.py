"""What `caveat fit` says of each column: what it holds, how it was read, and what is doubtful about that."""

from __future__ import annotations

from typing import Any

from caveat._estimators import Model, Numbers
from caveat._tables import CategoryColumn, Column, DateColumn, Dress, NumberColumn

_NEARLY_ALL = 0.5  # a category with more different values than this fraction of the rows says little of new rows
_ORDERS = {"": "", "dmy": "day first", "mdy": "month first"}


def describe_columns(model: Model) -> list[dict[str, str]]:
    """For each column its name and kind, and where there is something to say how it was read, and a note."""
    schema = model.reader.schema
    columns = [_filled(name=c.name, kind=c.kind, read_as=_manner(c), note=_note(c)) for c in schema.columns]
    if isinstance(model.target, Numbers):
        notes: dict[str, Any] = model.summary.get("target_notes", {})
        for name, dress in zip(model.target.names, model.reader.targets, strict=False):
            manner, note = str(dress), str(notes.get(name, ""))
            if manner or note:
                columns.append(_filled(name=name, kind="number", read_as=manner, note=note))
    return columns


def column_lines(columns: list[dict[str, str]]) -> list[str]:
    """The same for people: a line for each column, then a line for each note.

    Example:
        >>> column_lines([{"name": "price", "kind": "number", "read_as": "decimal comma"}])
        ['columns:', '  price  number (decimal comma)']
    """
    width = min(max((len(column["name"]) for column in columns), default=0), 40)
    lines = ["columns:"]
    for column in columns:
        manner = f" ({column['read_as']})" if "read_as" in column else ""
        lines.append(f"  {column['name']:<{width}}  {column['kind']}{manner}")
    return lines + [f"warning: column {column['name']!r}: {column['note']}" for column in columns if "note" in column]


def _filled(**entries: str) -> dict[str, str]:
    return {name: text for name, text in entries.items() if text}


def _manner(column: Column) -> str:
    if isinstance(column, NumberColumn):
        return "" if column.dress == Dress() else str(column.dress)
    if isinstance(column, DateColumn):
        return _ORDERS[column.order]
    return f"{len(column.categories):,} different"


def _note(column: Column) -> str:
    if not isinstance(column, CategoryColumn):
        return column.note
    rows, different = sum(column.counts), len(column.categories)
    if column.note or different <= 2 or different <= _NEARLY_ALL * rows:
        return column.note
    return (
        f"{different:,} different values in {rows:,} rows, so that little can be learned from each; if it is an "
        f"identifier or free text, leave it out (--drop {column.name})"
    )
