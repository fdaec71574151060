"""Numbers in local dress: decimal commas, separators of thousands, percent signs and currencies.

A column has one dress, learned from all of its values: 1.234 beside 1.234.567 is a thousand, beside 0.75 it is not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

_CODES = (
    "USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|KRW|SGD|HKD|TRY|RUB|ILS|THB"
    "|kr|zł|Kč|Ft|Fr|Rs|lei"
)
_SYMBOLS = "".join(chr(one) for one in range(0x24, 0x20D0) if unicodedata.category(chr(one)) == "Sc")
_SIGN = rf"(?:[A-Z]{{0,2}}[{_SYMBOLS}]|(?:{_CODES})\.?|%)"
_WHOLE = re.compile(
    rf"(?P<minus>[+-]?) ?(?P<before>{_SIGN})? ?(?P<minus2>[+-]?)(?P<body>[.,]?\d(?:[\d.,' ]*\d)?(?:[eE][+-]?\d+)?)"
    rf" ?(?P<after>{_SIGN})?(?P<minus3>-?)"
)
_SAME = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2212": "-", "\u2019": "'"})
_BODY = {
    decimal: re.compile(
        rf"(?:(?P<groups>[1-9]\d{{0,2}}(?P<mark>[{marks}])\d{{2,3}}(?:(?P=mark)\d{{2,3}})*)|(?P<plain>\d*))"
        rf"(?:{re.escape(decimal)}(?P<part>\d+))?(?P<power>[eE][+-]?\d+)?"
    )
    for decimal, marks in ((".", ",' "), (",", ".' "))
}


@dataclass(frozen=True)
class Dress:
    """How a column writes its numbers.

    Fields:
        decimal: the sign before the decimals.
        thousands: what parts the thousands, or "".
        sign: "%" (a value is a hundredth of what it says), a currency, or "".
    """

    decimal: str = "."
    thousands: str = ""
    sign: str = ""

    def __str__(self) -> str:
        parts = ["decimal comma"] if self.decimal == "," else []
        parts += [f"thousands separated by {self.thousands!r}"] if self.thousands else []
        parts += ["percent, 12% is 0.12"] if self.sign == "%" else [f"in {self.sign}"] if self.sign else []
        return ", ".join(parts)


PLAIN = Dress()


class Bare(NamedTuple):
    """A number without its signs."""

    negative: bool
    body: str
    sign: str


def undress(text: str) -> Bare | None:
    """The digits of a text and their sign, or None if it is not made of digits.

    Example:
        >>> undress("-1.234,50 €")
        Bare(negative=True, body='1.234,50', sign='€')
    """
    text = text.translate(_SAME).strip()
    brackets = text.startswith("(") and text.endswith(")")
    match = _WHOLE.fullmatch(text[1:-1].strip() if brackets else text)
    if match is None or (match["before"] and match["after"]):
        return None
    minus = match["minus"] + match["minus2"] + match["minus3"]
    if len(minus) + brackets > 1:
        return None
    return Bare(brackets or minus == "-", match["body"], match["before"] or match["after"] or "")


def read_body(body: str, decimal: str) -> tuple[float, str, bool] | None:
    """The number, what parts its thousands, and whether that leaves no doubt; None if it is none by this decimal sign.

    Example:
        >>> read_body("1.234,5", ","), read_body("1.234", ","), read_body("1.23", ",")
        ((1234.5, '.', True), (1234.0, '.', False), None)
    """
    match = _BODY[decimal].fullmatch(body)
    if match is None or not (match["groups"] or match["plain"] or match["part"]):
        return None
    mark = match["mark"] or ""
    groups = match["groups"].split(mark) if mark else []
    if mark and (len(groups[-1]) != 3 or len({len(one) for one in groups[1:-1]}) > 1 or match["power"]):
        return None
    digits = "".join(groups) or match["plain"] or "0"
    value = float(f"{digits}.{match['part'] or '0'}{match['power'] or ''}")
    return value, mark, not mark or match["part"] is not None or len(groups) > 2 or mark in "' "


def number_in(text: str, dress: Dress) -> float | None:
    """The number that a text in this dress says, or None."""
    bare = undress(text)
    if bare is None:
        return None
    read = read_body(bare.body, dress.decimal)
    if read is None or (read[1] != dress.thousands and not read[2]):
        return None
    value = read[0]
    if bare.sign != dress.sign and not (bare.sign == "" and (dress.sign != "%" or value == 0)):
        return None
    value = value / 100 if dress.sign == "%" else value
    return -value if bare.negative else value


class Numerals(NamedTuple):
    """Texts as numbers.

    Fields:
        bare: Each without its signs; None if it is not made of digits.
        by_mark: By the decimal sign, what ``read_body`` says of each that is a number by it.
    """

    bare: dict[str, Bare | None]
    by_mark: dict[str, dict[str, tuple[float, str, bool]]]


def read_numerals(texts: Collection[str]) -> Numerals:
    """Returns what each text is as a number, by a decimal point and by a comma."""
    bare = {text: undress(text) for text in texts}
    by_mark: dict[str, dict[str, tuple[float, str, bool]]] = {".": {}, ",": {}}
    for decimal, read in by_mark.items():
        for text, one in bare.items():
            if one is not None and (number := read_body(one.body, decimal)) is not None:
                read[text] = number
    return Numerals(bare, by_mark)


def learn_dress(numerals: Numerals, commas: Callable[[], bool] = lambda: False) -> tuple[Dress, str] | None:
    """The dress in which every text is a number, and one that could be read otherwise if there is one; None if none.

    ``commas`` says whether the file has decimal commas elsewhere; it is asked only where that matters.

    Example:
        >>> [learn_dress(read_numerals(texts)) for texts in (["28,7", "1.250"], ["1,250", "3,125"])]
        [(Dress(decimal=',', thousands='.', sign=''), ''), (Dress(decimal='.', thousands=',', sign=''), '1,250')]
    """
    texts, bare = numerals.bare.keys(), numerals.bare
    signs = {one.sign for one in bare.values() if one is not None} - {""}
    if len(signs) > 1 or not texts:
        return None
    sign = next(iter(signs), "")
    dresses = [_dress_by(decimal, sign, numerals) for decimal in (".", ",")]
    fitting = [one for one in dresses if one is not None and all(number_in(text, one) is not None for text in texts)]
    if not fitting:
        return None
    if len(fitting) == 1:
        return fitting[0], ""
    # Three digits behind a comma, or behind a point in a sum of money, are more often thousands than decimals.
    point, comma = fitting
    apart = [text for text in texts if number_in(text, point) != number_in(text, comma)]
    if not apart:
        return point, ""
    integers = [one.body for one in bare.values() if one is not None and one.body.isdigit()]
    grouped, other = (comma, point) if comma.thousands else (point, comma)
    if any(len(body) > 3 for body in integers):  # 1234 beside 5.678: nobody parts the thousands of one alone
        return other, ""
    if commas():
        return comma, apart[0]
    chosen = grouped if grouped is point or sign not in ("", "%") else other
    if chosen == PLAIN and not any(int(body) for body in integers):  # 1.234 and 2.345, as measurements are written
        return chosen, ""
    return chosen, "" if integers and chosen is grouped else apart[0]


def _dress_by(decimal: str, sign: str, numerals: Numerals) -> Dress | None:
    read = numerals.by_mark[decimal]
    marks = {mark for _, mark, _ in read.values()} - {""}
    return None if len(read) < len(numerals.bare) or len(marks) > 1 else Dress(decimal, next(iter(marks), ""), sign)
