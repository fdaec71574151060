"""Dates of later rows that do not exist, or not in the order of training: how many, and where the first stands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caveat._tables._columns import Array
from caveat._tables._days import day_of
from caveat._tables._schema import DateColumn, Schema
from caveat._tables._values import Place, is_gap, shown

_READ = {"": "", "dmy": " (read day first, as in training)", "mdy": " (read month first, as in training)"}


@dataclass(eq=False)
class ImpossibleDates:
    """What is counted of rows, some at a time, before a model reads these dates as missing.

    Example:
        >>> import numpy as np
        >>> dates = ImpossibleDates(Schema((DateColumn("day", (), "dmy"),)))
        >>> dates.count({"day": np.array(["31.12.2020", "12/31/2020"], dtype=object)}, lambda row: f"row {row}")
        >>> dates.notes()[0][:78]
        "column 'day': 1 of the dates (read day first, as in training) do not exist, su"
    """

    schema: Schema
    counts: Counter[str] = field(default_factory=Counter[str])
    firsts: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def columns(self) -> list[DateColumn]:
        """Those that are looked at."""
        return [column for column in self.schema.columns if isinstance(column, DateColumn)]

    def count(self, columns: Mapping[str, Array], place: Place) -> None:
        """Look at some rows."""
        for column in self.columns:
            values: list[Any] = columns[column.name].tolist() if column.name in columns else []
            known: dict[str, bool] = {}
            for row, value in enumerate(values):
                if not isinstance(value, str):
                    continue
                if value not in known:
                    known[value] = not is_gap(value) and math.isnan(day_of(value, column.order) or 0.0)
                if known[value]:
                    self.counts[column.name] += 1
                    self.firsts.setdefault(column.name, f"{shown(value)!r} at {place(row)}")

    def notes(self) -> list[str]:
        """What a person should know, by column."""
        orders = {column.name: column.order for column in self.columns}
        return [
            f"column {name!r}: {count:,} of the dates{_READ[orders[name]]} do not exist, such as {self.firsts[name]}: "
            "taken for missing"
            for name, count in self.counts.items()
        ]
