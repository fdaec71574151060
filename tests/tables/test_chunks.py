"""Files of tables in chunks: what parts the cells of a CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from caveat._tables._chunks import read_chunks


@pytest.mark.parametrize(
    ("header", "mark", "names"),
    [
        ('"Weight, in kg, or lb";b;y', ";", ["Weight, in kg, or lb", "b", "y"]),
        ('"a ""b, c"", d"|"e, f"|y', "|", ['a "b, c", d', "e, f", "y"]),
        ('"a;b;c"\t"d\ne;f;g"\ty', "\t", ["a;b;c", "d\ne;f;g", "y"]),
        ('5" x;b, c;6" y', ";", ['5" x', "b, c", '6" y']),
        ("a,b,y", ",", ["a", "b", "y"]),
    ],
)
def test_a_name_in_quotes_says_nothing_of_what_parts_cells(
    header: str, mark: str, names: list[str], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n1{mark}2{mark}3\n")
    (chunk,) = read_chunks(tmp_path / "t.csv")
    assert list(chunk.columns) == names


def test_a_file_of_one_column_in_quotes_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"size"\n1\n')
    (chunk,) = read_chunks(tmp_path / "t.csv")
    assert list(chunk.columns) == ["size"]
