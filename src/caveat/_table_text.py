"""What objects print and show in a notebook: a small table as text and as HTML, or one line."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from torch import Tensor, nn

_HEAD = "text-align:right;border-bottom:1px solid currentColor;padding:2px 10px"
_CELL = "text-align:right;padding:2px 10px;white-space:nowrap"


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
        f'<div style="overflow-x:auto"><code>{_escape(title)}</code>'
        f'<table style="border-collapse:collapse">{head}<tbody>{body}</tbody></table>{closing}</div>'
    )


def in_a_line(self: Any) -> str:
    """Returns a dataclass or named tuple in one line, as its ``__repr__``, without what was left at its default.

    A network is its class and how many numbers it holds, a tensor its first numbers, a function its name.

    Example:
        >>> import caveat
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        >>> caveat.mc_dropout(model, output=caveat.Mean(noise_variance=0.5))
        MCDropout(Sequential of 67 parameters, output=Mean(noise_variance=0.5))
        >>> caveat.ensemble([nn.Linear(4, 3), nn.Linear(4, 3)], output=caveat.Logits())
        Ensemble(2 x Linear of 15 parameters, output=Logits())
    """
    named: Any = getattr(self, "_fields", None)
    shown = dict.fromkeys(named) if named else {one.name: one.default for one in fields(self) if one.repr}
    parts = list[str]()
    for name, default in shown.items():
        value = getattr(self, name)
        plain = isinstance(value, (int, float, str))
        if name[0] == "_" or value is None or value is default or (plain and value == default):
            continue
        bare = isinstance(value, nn.Module) or _is_of_parts(value)
        parts.append(_in_words(value) if bare else f"{name}={_in_words(value)}")
    return f"{type(self).__name__}({', '.join(parts)})"


def _is_of_parts(value: object) -> bool:
    """Returns whether this is a tuple of what is not plain: networks, samplers, functions, tensors."""
    parts = cast("tuple[object, ...]", value if isinstance(value, tuple) else ())
    return any(not isinstance(part, (int, float, str)) for part in parts)


def _in_words(value: Any) -> str:
    if isinstance(value, nn.Module):
        count = sum(p.numel() for p in value.parameters() if not nn.parameter.is_lazy(p))
        return f"{type(value).__name__} of {count:,} parameters"
    if isinstance(value, Tensor):
        first = ", ".join(map(format_cell, cast("list[object]", value.detach().flatten()[:3].tolist())))
        more = ", ..." if value.numel() > 3 else ""
        return f"[{first}{more}] of shape {tuple(value.shape)}" if value.ndim else first
    if _is_of_parts(value):  # the networks of an ensemble, the samplers of a mixture: each kind once
        return ", ".join(f"{count} x {kind}" for kind, count in Counter(map(_in_words, value)).items())
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return f"{{{', '.join(f'{name!r}: {_in_words(part)}' for name, part in items)}}}"
    if callable(value) and not is_dataclass(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value)


def _escape(value: object) -> str:
    return html.escape(format_cell(value)).replace("\n", "<br>")
