"""What a study of shift found: a value for each (kind, severity, metric), to merge, summarize, keep and go on with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caveat._files import write_whole
from caveat._table_text import format_html, format_table
from caveat.errors import CannotMergeError, InvalidArgumentError, explain

CLEAN = "clean"
"""The kind of the untouched images, whose severity is 0."""

_TITLE = "ShiftTable: median over kinds (lower to upper quartile)"

Cell = tuple[str, float, str]


@dataclass(frozen=True)
class Quartiles:
    """The spread of one metric over the kinds at one severity: what a box of a box plot shows."""

    severity: float
    least: float
    lower: float
    median: float
    upper: float
    most: float
    kinds: int


@dataclass(frozen=True, repr=False)
class ShiftTable:
    """Values by (kind, severity, metric), with the settings they were computed under.

    Attributes:
        values: {(kind, severity, metric): value}; the untouched images are kind "clean" at severity 0.
        settings: what has to be equal for two tables to be of the same study.

    Example:
        >>> table = ShiftTable({("fog", 1, "error"): 0.1, ("snow", 1, "error"): 0.3})
        >>> table.quartiles("error")[0].median
        0.2
        >>> table
        ShiftTable: median over kinds (lower to upper quartile)
          severity  kinds              error
                 1      2  0.2 (0.15 to 0.25)
    """

    values: Mapping[Cell, float]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds, in the order they were computed."""
        return tuple(dict.fromkeys(kind for kind, _, _ in self.values))

    @property
    def severities(self) -> tuple[float, ...]:
        """The severities, rising; 0 is the untouched images."""
        return tuple(sorted({severity for _, severity, _ in self.values}))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics, in the order they were given."""
        return tuple(dict.fromkeys(metric for _, _, metric in self.values))

    def at(self, kind: str, severity: float, metric: str) -> float:
        """One value.

        Raises:
            InvalidArgumentError: the table has no such cell.
        """
        try:
            return self.values[kind, severity, metric]
        except KeyError:
            raise InvalidArgumentError(
                "kind, severity and metric must be in the table.",
                got=f"kind={kind!r}, severity={severity!r}, metric={metric!r}",
                cause="a name that was not computed",
                fix=f"kinds: {self.kinds}; severities: {self.severities}; metrics: {self.metrics}",
            ) from None

    def over_kinds(self, metric: str, severity: float) -> list[float]:
        """The values of one metric at one severity, one for each kind.

        Raises:
            InvalidArgumentError: the table has none.
        """
        found = [value for (_, at, name), value in self.values.items() if name == metric and at == severity]
        if not found:
            raise InvalidArgumentError(
                "metric and severity must be in the table.",
                got=f"metric={metric!r}, severity={severity!r}",
                cause="a name that was not computed",
                fix=f"metrics: {self.metrics}; severities: {self.severities}",
            )
        return found

    def quartiles(self, metric: str) -> list[Quartiles]:
        """The spread over the kinds at each severity, severities rising; NaN values are left out of it.

        Raises:
            InvalidArgumentError: the table has no such metric.
        """
        return [_quartiles(severity, self.over_kinds(metric, severity)) for severity in self.severities]

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for each value: kind, severity, metric, value; for a data frame or a CSV file."""
        return [
            {"kind": kind, "severity": severity, "metric": metric, "value": value}
            for (kind, severity, metric), value in self.values.items()
        ]

    def merge(self, other: ShiftTable) -> ShiftTable:
        """Both tables' cells, of one study done in parts.

        Raises:
            CannotMergeError: other settings, or another value in the same cell.
        """
        if dict(self.settings) != dict(other.settings):
            differing = _differences(self.settings, other.settings)
            raise CannotMergeError(explain_other("settings", differing))
        shared = [cell for cell in self.values if cell in other.values]
        clash = [cell for cell in shared if not _same(self.values[cell], other.values[cell])]
        if clash:
            raise CannotMergeError(explain_other("values", f"two values at {clash[0]}"))
        return ShiftTable({**self.values, **other.values}, self.settings)

    def save(self, path: str | Path) -> None:
        """Writes JSON in one step: the file is complete or is not there at all."""
        target = Path(path)
        rows = [[*cell, value] for cell, value in self.values.items()]
        text = json.dumps({"settings": dict(self.settings), "rows": rows}, indent=0)
        write_whole(target, text.encode())

    @classmethod
    def load(cls, path: str | Path) -> ShiftTable:
        """Reads what ``save`` wrote.

        Raises:
            InvalidArgumentError: the file is no such table.
        """
        try:
            content = json.loads(Path(path).read_text())
            rows: list[tuple[str, float, str, float]] = content["rows"]
            return cls({(kind, at, metric): float(value) for kind, at, metric, value in rows}, content["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgumentError(
                "The file must be one that ShiftTable.save wrote.",
                got=f"{path}: {error}",
                cause="another file",
                fix="give another path, or delete the file to begin anew",
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows."""
        return iter(self.to_rows())

    def __repr__(self) -> str:
        return f"{_TITLE}\n{format_table(('severity', 'kinds', *self.metrics), self._medians())}"

    def _repr_html_(self) -> str:
        return format_html(_TITLE, ("severity", "kinds", *self.metrics), self._medians())

    def _medians(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for severity in self.severities:
            kinds = {kind for kind, at, _ in self.values if at == severity}
            cells = [self._median(severity, metric) for metric in self.metrics]
            rows.append((severity, len(kinds), *cells))
        return rows

    def _median(self, severity: float, metric: str) -> str:
        values = [value for (_, at, name), value in self.values.items() if (at, name) == (severity, metric)]
        one = _quartiles(severity, values)
        spread = f" ({one.lower:.4g} to {one.upper:.4g})" if one.kinds > 1 else ""
        return f"{one.median:.4g}{spread}" if values else ""


def _quartiles(severity: float, values: list[float]) -> Quartiles:
    known = [value for value in values if value == value]
    if not known:
        return Quartiles(severity, *(float("nan"),) * 5, kinds=0)
    least, lower, median, upper, most = (float(q) for q in np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    return Quartiles(severity, least, lower, median, upper, most, len(known))


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return "; ".join(f"{name}: {a.get(name)!r} and {b.get(name)!r}" for name in names)


def explain_other(what: str, got: str) -> str:
    """Returns what is said of tables that are of two studies."""
    return explain(
        f"Tables can be merged, and a study resumed, only under the same {what}.",
        got=got,
        cause="another network, other images, another seed or other constants than when the first was computed",
        fix="compute both alike, or keep them as two tables",
    )
