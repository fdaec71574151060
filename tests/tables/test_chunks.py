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


@pytest.mark.parametrize(
    ("text", "names", "first"),
    [
        ("Income, net, in EUR;Rooms;y\n1,5;2;3\n", ["Income, net, in EUR", "Rooms", "y"], ["1,5", "2", "3"]),
        ("Income, net;y\n1,5;3\n", ["Income, net", "y"], ["1,5", "3"]),
        ("a;b,c,y\n1,2,3\n", ["a;b", "c", "y"], ["1", "2", "3"]),
        ("sep=;\na;y\n1,5;3\n", ["a", "y"], ["1,5", "3"]),
        ('"sep=\t"\r\na, b, c, d\ty\r\n1\t3\r\n', ["a, b, c, d", "y"], ["1", "3"]),
        ("text\na; b\n", ["text"], ["a; b"]),
    ],
)
def test_the_first_row_tells_what_parts_names(text: str, names: list[str], first: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    (chunk,) = read_chunks(tmp_path / "t.csv")
    assert list(chunk.columns) == names
    assert [values[0] for values in chunk.columns.values()] == first
    assert chunk.place(0) == f"line {3 if text.lstrip(chr(34)).startswith('sep') else 2} of t.csv"
