"""What a comparison found: the scores of each method, and how they differ from the first one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from caveat._extras import require
from caveat._table_text import format_cell, format_html, format_table
from caveat.predictive import Predictive

TITLES = {
    "error": "error",
    "rmse": "RMSE",
    "nll": "NLL (nats)",
    "ece": "ECE",
    "miscalibration": "miscalibration",
    "coverage": "coverage",
    "size": "set size",
    "width": "width",
    "aurc": "AURC",
    "seconds_per_row": "ms/row",
}


@final
@dataclass(frozen=True)
class Difference:
    """How much a method's score differs from the first method's, on the same rows.

    Fields:
        value: Its score minus the first one's.
        low, high: Ends of the 95 % bootstrap interval of the difference, over resampled rows.
    """

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@final
@dataclass(frozen=True, repr=False)
class Comparison:
    """Scores of several methods on the same rows.

    Fields:
        rows: The number of rows.
        level: Probability that sets and intervals claim to hold.
        values: By method the scores by name: "error" or "rmse", "nll", "ece" or "miscalibration", "coverage", "size"
            or "width", "aurc", and "seconds_per_row" of a method that was drawn from here.
        differences: By method, the first left out, the differences to the first method's scores, by name.
        predictives: By method what was predicted.
    """

    rows: int
    level: float
    values: Mapping[str, Mapping[str, float]]
    differences: Mapping[str, Mapping[str, Difference]]
    predictives: Mapping[str, Predictive]

    def to_frame(self) -> Any:
        """Returns a pandas data frame: a row for each method; columns (score, "value", "difference", "low" or "high").

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = require("pandas", "tabular")
        cells: dict[tuple[str, str], list[float | None]] = {}
        for score in self._scores():
            cells[score, "value"] = [values.get(score) for values in self.values.values()]
            compared = [self.differences.get(method, {}).get(score) for method in self.values]
            if any(compared):
                cells[score, "difference"] = [one and one.value for one in compared]
                cells[score, "low"] = [one and one.low for one in compared]
                cells[score, "high"] = [one and one.high for one in compared]
        index = pandas.Index(list(self.values), name="method")
        columns = pandas.MultiIndex.from_tuples(list(cells), names=["score", "part"])
        return pandas.DataFrame(dict(enumerate(cells.values())), index=index, dtype=float).set_axis(columns, axis=1)

    def __repr__(self) -> str:
        parts = [f"{self._line()}\n{format_table(*self._value_table())}"]
        if self.differences:
            parts.append(f"{self._difference_line()}\n{format_table(*self._difference_table())}")
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        parts = [format_html(self._line(), *self._value_table())]
        if self.differences:
            parts.append(format_html(self._difference_line(), *self._difference_table()))
        return "".join(parts)

    def _scores(self) -> list[str]:
        return [score for score in TITLES if any(score in values for values in self.values.values())]

    def _differ(self, score: str) -> bool:
        return any(score in differences for differences in self.differences.values())

    def _line(self) -> str:
        claim = "sets" if any("size" in values for values in self.values.values()) else "intervals"
        return f"Comparison({self.rows:,} rows, {self.level:.0%} {claim})"

    def _difference_line(self) -> str:
        return f"minus {next(iter(self.values))}, with 95 % intervals over rows; * where 0 is outside"

    def _value_table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [TITLES[score], *(_cell(score, values.get(score)) for values in self.values.values())]
            for score in self._scores()
        ]
        return ["", *self.values], rows

    def _difference_table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [TITLES[score], *(_difference_cell(one.get(score)) for one in self.differences.values())]
            for score in self._scores()
            if self._differ(score)
        ]
        return ["", *self.differences], rows


def _cell(score: str, value: float | None) -> str:
    if value is None:
        return ""
    if score == "seconds_per_row":
        return f"{1000 * value:.2g}"
    return format_cell(value)


def _difference_cell(one: Difference | None) -> str:
    if one is None:
        return ""
    return f"{one.value:+.2g} [{one.low:.2g}, {one.high:.2g}]{'*' if one.clear else ''}"
