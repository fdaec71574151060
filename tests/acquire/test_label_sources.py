"""What people do to the files that ask them for labels: nothing they wrote is lost, and what cannot be is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caveat.acquire import csv_labels, folder_labels
from caveat.errors import InvalidArgumentError


@pytest.mark.parametrize(
    "before",
    [
        b"row,label,note\n7,1,quite sure\n",
        b"\xef\xbb\xbfrow,label\r\n7,1\r\n",  # as a spreadsheet saves it
        b"row,label\n7,1",
        b'row,label\n7," 1 "\n\n',
        b"row,label\n7,\n7,1\n7,1\n",
    ],
)
def test_what_is_in_the_csv_stays_as_it_is(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(before)
    assert csv_labels(path)([7, 3]) == {7: 1}
    after = path.read_bytes()
    assert after.startswith(before)
    assert after.endswith(b"\n3,\n")
    assert csv_labels(path)([7, 3]) == {7: 1}
    assert path.read_bytes() == after


@pytest.mark.parametrize(
    ("content", "read", "said"),
    [
        (b"row,label\n7,1\n7,2\n", int, "'1' and '2' for row 7"),
        (b"row,label\n7,caf\xe9\n", str, "CSV is UTF-8"),
        (b"row;label\n7;1\n", int, "separated by commas"),
        (b"row,label\n7.0,1\n", int, "a row is a number"),
        (b"", int, "starting \\[\\]"),
        (b"row,label\n7,cow\n", {"cat": 0, "dog": 1}.__getitem__, "'cow' for row 7"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named_and_left_alone(
    tmp_path: Path, content: bytes, read: Callable[[str], Any], said: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match=said):
        csv_labels(path, read=read)([7])
    assert path.read_bytes() == content


def test_a_file_that_was_copied_into_two_classes(tmp_path: Path) -> None:
    source = folder_labels(tmp_path, ("cat", "dog"))
    source([1, 2])
    (tmp_path / "cat" / "1.txt").touch()  # copied, not moved: it is still in to_label
    assert source([1, 2]) == {1: 0}
    (tmp_path / "dog" / "1.png").touch()
    with pytest.raises(InvalidArgumentError, match="0 and 1 for row 1"):
        source([1, 2])
    (tmp_path / "cat" / "1.txt").unlink()
    assert source([1, 2]) == {1: 1}


@pytest.mark.parametrize("classes", ["cat", ("..", "a"), ("", "a"), ("Cat", "cat"), ("a/b",), ("to_label",), ()])
def test_classes_that_are_no_folders(tmp_path: Path, classes: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="different names of folders"):
        folder_labels(tmp_path, classes)
