"""What counts as sentences, and what an error says of what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from hypothesis import given
from hypothesis import strategies as st

from caveat._checks import is_missing
from caveat.text import InvalidDataError
from caveat.text._sentences import as_sentences

TWO = ["book a table", "play jazz"]


@pytest.mark.parametrize(
    "X",
    [TWO, tuple(TWO), np.array(TWO), np.array(TWO, dtype=object), np.array(TWO)[:, None], iter(TWO)],
    ids=["list", "tuple", "array", "objects", "column", "iterator"],
)
def test_what_holds_strings_is_read(X: Any) -> None:
    assert as_sentences(X) == TWO


def test_frames_and_series_are_read() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for series in (pandas.Series(TWO, index=[7, 3]), polars.Series(TWO), pandas.DataFrame({"text": TWO})):
        assert as_sentences(series) == TWO


def test_an_arrow_array_is_read() -> None:
    arrow = pytest.importorskip("pyarrow")
    assert as_sentences(arrow.array(TWO)) == as_sentences(arrow.table({"text": TWO})) == TWO


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (None, "None"), (float("nan"), "nan"), (3, "3 (int)"), (b"play", "bytes"), ("", "''"), (" \t\n", "empty"),
        (["play", "jazz"], "list"),
    ],
    ids=["none", "nan", "number", "bytes", "empty", "blank", "words"],
)  # fmt: skip
def test_a_row_that_is_no_sentence_is_named(bad: Any, said: str) -> None:
    with pytest.raises(InvalidDataError, match="row 2") as caught:
        as_sentences([*TWO, bad, None])
    assert said in str(caught.value)


@pytest.mark.parametrize("X", ["play jazz", b"play", {"text": TWO}, 7, None, {*TWO}], ids=lambda X: type(X).__name__)
def test_one_sentence_is_no_list_of_them(X: Any) -> None:
    with pytest.raises(InvalidDataError, match="list, an array or a series"):
        as_sentences(X)


def test_no_rows_and_several_columns() -> None:
    with pytest.raises(InvalidDataError, match="At least one sentence"):
        as_sentences([])
    with pytest.raises(InvalidDataError, match="one column"):
        as_sentences(np.array([TWO, TWO]))


def test_missing_values_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    assert is_missing(pandas.NA)
    assert is_missing(pandas.NaT)
    with pytest.raises(InvalidDataError, match="row 1"):
        as_sentences(pandas.Series(["a", pandas.NA], dtype="string"))


@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip() != ""), min_size=1))
def test_sentences_stay_as_they_are(texts: list[str]) -> None:
    assert as_sentences(texts) == texts
