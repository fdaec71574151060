"""griffe extension: this project's docstrings as the parser of the reference knows them.

Sources say ``Example:``, ``Fields:`` and ``low, high: ...``. Google's style, as griffe reads it, says ``Examples:``
(without the s, doctests become quotations), ``Attributes:``, and an entry for each name.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTIONS = {"Example:": "Examples:", "Fields:": "Attributes:"}
_NAMES = re.compile(r"^(    )(\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*)$")


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for everything that has a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = known(obj.docstring.value)


def known(docstring: str) -> str:
    """A docstring with the parser's names of sections, and an entry for each argument."""
    lines: list[str] = []
    section = ""
    rest: list[str] = docstring.split("\n")
    while rest:
        line = rest.pop(0)
        if line and not line.startswith(" "):
            section = line
        several = _NAMES.match(line) if section in ("Args:", "Fields:") else None
        if several is None:
            lines.append(_SECTIONS.get(line, line))
            continue
        more: list[str] = []
        while rest and rest[0].startswith(several[1] + "    "):
            more.append(rest.pop(0))
        for name in several[2].split(", "):
            lines += [f"{several[1]}{name}: {several[3]}", *more]
    return "\n".join(lines)
