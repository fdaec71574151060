"""A small table as text and as HTML: what predictives, audits and tables of results print and show in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_HEAD = "text-align:right;border-bottom:1px solid currentColor;padding:2px 10px"
_CELL = "text-align:right;padding:2px 10px"


def format_cell(value: object) -> str:
    """Returns a value as a table has it: numbers in four digits.

    Example:
        >>> format_cell(0.123456), format_cell(12), format_cell(None)
        ('0.1235', '12', '')
    """
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, indent: str = "  ") -> str:
    """Returns a table as aligned lines of text.

    Example:
        >>> print(format_table(("kind", "value"), [("blur", 0.5), ("fog", 12)], indent=""))
        kind  value
        blur    0.5
         fog     12
    """
    lines = [list(columns), *([format_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join(
        indent + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def format_html(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, after: str = "") -> str:
    """Returns a table as escaped HTML that takes its colors from the page.

    Example:
        >>> "&lt;b&gt;" in format_html("<b>", ("x",), [(1,)])
        True
    """

    def line(cells: Iterable[object], tag: str, style: str) -> str:
        return "<tr>" + "".join(f'<{tag} style="{style}">{_escape(cell)}</{tag}>' for cell in cells) + "</tr>"

    body = "".join(line(row, "td", _CELL) for row in rows)
    head = f"<thead>{line(columns, 'th', _HEAD)}</thead>"
    closing = f"<div>{_escape(after)}</div>" if after else ""
    return (
        f"<div><code>{_escape(title)}</code>"
        f'<table style="border-collapse:collapse">{head}<tbody>{body}</tbody></table>{closing}</div>'
    )


def _escape(value: object) -> str:
    return html.escape(format_cell(value)).replace("\n", "<br>")
