"""Keys of JSON rows: which may be a column misspelled, and which are something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caveat._tables import Spelling, read_chunks, read_sample
from caveat.errors import InvalidDataError

WHOLE = {"id": 1, "size": 2.0, "color": "red"}
COLUMNS = ("size", "color", "collar")


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("rows", [[{"size": 1}], [{"size": 1}, WHOLE], [WHOLE, {"id": 3}], [{}, WHOLE]])
def test_a_row_that_merely_leaves_out_a_column_is_none(rows: list[dict[str, Any]]) -> None:
    assert Spelling(["size", "color"]).find(rows) is None


def test_the_likeliest_pair_of_the_first_such_row_is_named() -> None:
    odd = Spelling(COLUMNS).find([{"size": 1}, {"zip": 1, "Colour": "red"}, {"sise": 1}])
    assert odd == (1, "Colour", "color")


def test_what_stands_beside_a_column_in_any_row_so_far_is_something_else() -> None:
    spelling = Spelling(["size", "color"])
    assert spelling.find([{"id": 2, "size": 1}, WHOLE]) is None
    assert spelling.find([{"id": 3, "size": 1}]) is None
    assert spelling.find([{"colour": "red", "size": 1}]) == (0, "colour", "color")


def test_rows_that_are_judged_alone_say_nothing_of_each_other() -> None:
    spelling = Spelling(["size", "color"], ["price"], together=False)
    assert spelling.find([WHOLE, {"price": 1, "size": 1}]) is None
    assert spelling.find([WHOLE, {"id": 1, "size": 1}]) == (1, "id", "color")


def test_a_file_is_refused_by_line_in_whichever_chunk_it_is(tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", WHOLE, WHOLE, {"id": 2, "size": 1}, {"size": 1, "colour": "red"})
    for rows in (1, 3, 10):
        assert sum(len(chunk.lines) for chunk in read_chunks(data, rows)) == 4
        with pytest.raises(InvalidDataError, match=r"'colour' and no 'color' at line 4 of rows.jsonl"):
            list(read_chunks(data, rows, Spelling(["size", "color"])))
    with pytest.raises(InvalidDataError, match=r"'colour' and no 'color' at line 4"):
        read_sample(data, 2, 0, {}, spelling=Spelling(["size", "color"]))
