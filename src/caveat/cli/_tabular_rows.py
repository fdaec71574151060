"""Single rows of a report: those to look at first, which differ from each other, and in words why they are doubtful."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from caveat._estimators import Classes
from caveat._tables import FIRST
from caveat.cli._report_page import wide_table
from caveat.cli._tabular_tested import Judged, Tested
from caveat.predictive import Categorical, Gaussian

SHOWN = 8
_CANDIDATES, _FRACTION = 40, 0.05
"""Rows that are shown are chosen among this number of the highest, or this fraction of all if it is more."""
_MOST_COLUMNS = 3
_RARE = 4  # training rows with a category, below which it is called rare
_FAR, _SELDOM = 2.0, 0.02  # standard deviations from the mean, fraction of training: unusual within the range


def choose_rows(tested: Tested, by: Tensor, taken: list[int]) -> list[int]:
    """Returns rows of high ``by`` that differ from each other and from those ``taken``, the highest first.

    The highest comes first; then, of the highest few, always the one that is furthest from all chosen before.
    """
    count = min(len(by), max(_CANDIDATES, int(_FRACTION * len(by))))
    order = cast("list[int]", by.argsort(descending=True, stable=True)[:count].tolist())
    free = [row for row in order if row not in taken]
    if not free:
        return []
    chosen = [] if taken else free[:1]
    distance = torch.stack([_distances(tested, free, row) for row in [*chosen, *taken]]).amin(0)
    while len(chosen) < min(SHOWN, len(free)) and float(distance.max()) > 0:
        chosen.append(free[int(distance.argmax())])
        distance = torch.minimum(distance, _distances(tested, free, chosen[-1]))
    return sorted(chosen, key=order.index)


def _distances(tested: Tested, rows: list[int], other: int) -> Tensor:
    """How much rows differ from another one, (n,): a mean over columns, 0 to 1; little where they are strange alike."""
    schema = tested.model.reader.schema
    N, G = len(schema.numbers), len(schema.categories)
    values = tested.encoded.double()
    apart = ((values[rows, :N] - values[other, :N]).abs() / 3).clamp(max=1)
    unlike = tested.unlike
    alike = (unlike[rows] == unlike[other]).all(1) & unlike[other].any()
    differ = (values[rows, 2 * N : 2 * N + G] != values[other, 2 * N : 2 * N + G]).double()
    return torch.cat([apart, differ, (unlike[rows] != unlike[other]).double()], 1).mean(1) * torch.where(
        alike, 0.2, 1.0
    )


def rows_table(tested: Tested, rows: list[int], measure: str) -> str:
    """Returns rows as a table, with the reason of each."""
    parts = tested.parts()
    cells = [
        [
            f"{int(tested.sample.lines[row])}",
            truth_text(tested, row),
            answer_text(tested, row),
            *(f"{float(parts[part][row]):.3g}" for part in ("epistemic", "aleatoric")),
            why(tested, row, little_known=measure == tested.model.target.epistemic_measure),
        ]
        for row in rows
    ]
    titles = ["line", "truth", "answer", "epistemic", "aleatoric", "why"]
    return wide_table(titles, cells, kinds={1: "text", 2: "text", 5: "wrap"}, kind="rows")


def why(tested: Tested, row: int, *, little_known: bool = False) -> str:
    """Returns in words a row's largest kind of doubt, and which of its values are unlike training or rare.

    ``little_known`` speaks of its epistemic uncertainty, whatever else it has.
    """
    parts = tested.parts()
    epistemic, aleatoric = float(parts["epistemic"][row]), float(parts["aleatoric"][row])
    values = ", ".join(_strange_values(tested, row) or _unusual_values(tested, row))
    if little_known or epistemic > 0.5 * aleatoric:
        return f"epistemic: {values or _furthest_values(tested, row)}"
    between = _torn(tested, row)
    return "; ".join([f"aleatoric: {between or 'rows like it differ in the target'}", *([values] if values else [])])


def truth_text(tested: Judged, row: int) -> str:
    """Returns the answer that a row should have."""
    target = tested.model.target
    if isinstance(target, Classes):
        return target.labels[int(tested.truth[row])]
    truth, spread = cast("list[float]", tested.truth[row].tolist()), _spread_of(tested, row)
    return ", ".join(_to_digits(value, _digits_of(deviation)) for value, deviation in zip(truth, spread, strict=True))


def answer_text(tested: Judged, row: int) -> str:
    """Returns the answer that a row has, and how sure it is."""
    target, pred = tested.model.target, tested.pred
    if isinstance(target, Classes) and isinstance(pred, Categorical):
        best = int(pred.predicted[row])
        return f"{target.labels[best]} ({float(pred.mean[row, best]):.0%})"
    pairs = zip(cast("list[float]", pred.mean[row].tolist()), _spread_of(tested, row), strict=True)
    return ", ".join(_with_spread(mean, deviation) for mean, deviation in pairs)


def _spread_of(tested: Judged, row: int) -> list[float]:
    """The standard deviations (D,) of an answer in numbers."""
    return cast("list[float]", cast(Gaussian, tested.pred).variance[row].sqrt().tolist())


def _digits_of(deviation: float) -> int | None:
    """The decimals up to the second digit of a standard deviation, negative where it is large; None of an odd one."""
    return 1 - math.floor(math.log10(deviation)) if 1e-9 < deviation < 1e12 else None


def _with_spread(mean: float, deviation: float) -> str:
    """A mean and its standard deviation, both to the second digit of the latter: 38.0 ± 7.7, 252100 ± 4900."""
    digits = _digits_of(deviation)
    if digits is None:
        return f"{mean:.5g} ± {deviation:.2g}"
    rounded = (round(mean, digits), round(deviation, digits))
    return " ± ".join(f"{value:.{max(digits, 0)}f}" for value in rounded)


def _to_digits(value: float, digits: int | None) -> str:
    """A number to five digits, or to ``digits`` decimals where five do not reach them."""
    short = f"{value:.5g}"
    if digits is None or ("e" not in short and abs(float(short) - value) < 0.5 * 10.0**-digits):
        return short
    return f"{value:.{max(digits, 0)}f}"


def _torn(tested: Tested, row: int) -> str:
    """Between which two classes the answer stands; nothing of a regression, and where one is far ahead."""
    target, pred = tested.model.target, tested.pred
    if not isinstance(target, Classes) or not isinstance(pred, Categorical):
        return ""
    p, classes = pred.mean[row].topk(2)
    if float(p[1]) < 0.1:
        return ""
    first, second = (f"{target.labels[int(k)]} ({float(one):.0%})" for k, one in zip(classes, p, strict=True))
    return f"between {first} and {second}"


def _strange_values(tested: Tested, row: int) -> list[str]:
    """The values of a row that are unlike training, or rare there, the strangest first."""
    schema = tested.model.reader.schema
    unlike, far = tested.unlike[row], tested.unfamiliar[row]
    found: list[tuple[float, str]] = []
    for place, column in enumerate(schema.numbers):
        amount, value = float(far[place]), float(tested.typed.numbers[column.name][row])
        if not bool(unlike[place]):
            continue
        if math.isnan(value):
            found.append((amount, f"{column.name} is missing, as it never was in training"))
        elif column in schema.columns:
            found.append((amount, f"{column.name} {value:.6g} is outside {column.low:.6g} to {column.high:.6g}"))
        else:  # a part of a date, of which the number says nothing to people
            found.append((amount, f"{column.name} is {amount:.2g} sd out of range"))
    for place, column in enumerate(schema.categories, len(schema.numbers)):
        amount, key = float(far[place]), tested.typed.categories[column.name][row]
        if amount > 1 / (1 + _RARE):
            new = "is missing, as it never was in training" if key is None else f"{key} is new"
            rare = "is rarely missing" if key is None else f"{key} is rare (fewer than {_RARE} of training)"
            found.append((amount, f"{column.name} {new if bool(unlike[place]) else rare}"))
    return [words for _, words in sorted(found, key=lambda pair: -pair[0])[:_MOST_COLUMNS]]


def _furthest_values(tested: Tested, row: int) -> str:
    """The numbers of a row in which it is furthest from the mean, none of which is unusual by itself."""
    numbers = tested.model.reader.schema.numbers
    z = tested.encoded[row, : len(numbers)]
    most = cast("list[int]", z.abs().argsort(descending=True)[:2].tolist())
    named = ", ".join(f"{numbers[k].name} ({float(z[k]):+.1f} sd)" for k in most)
    return f"few rows combine these values{named and f'; furthest from the mean: {named}'}"


def _unusual_values(tested: Tested, row: int) -> list[str]:
    """Values that training had, but seldom: numbers far from the mean, categories of few rows."""
    schema = tested.model.reader.schema
    N = len(schema.numbers)
    found: list[tuple[float, str]] = []
    for place, column in enumerate(schema.numbers):
        z = float(tested.encoded[row, place])
        if abs(z) >= _FAR:
            found.append((abs(z), f"{column.name} is {'high' if z > 0 else 'low'} ({abs(z):.2g} sd from the mean)"))
    for place, column in enumerate(schema.categories):
        number = int(tested.encoded[row, 2 * N + place]) - FIRST
        fraction = column.counts[number] / max(sum(column.counts) + column.missing, 1) if number >= 0 else 1.0
        if fraction < _SELDOM:
            words = f"{column.name} {column.categories[number]} is rare ({fraction:.1%} of training)"
            found.append((_FAR * _SELDOM / max(fraction, 1e-4), words))
    return [words for _, words in sorted(found, key=lambda pair: -pair[0])[:_MOST_COLUMNS]]
