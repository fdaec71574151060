"""Folders and CSV files are listed in one order, with their answers; what cannot be listed is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caveat._pictures._listing import as_sources
from caveat.image import InvalidDataError, list_pictures


def test_class_folders_say_the_answers(folder: Path) -> None:
    paths, answers = list_pictures(folder)
    assert len(paths) == 62
    assert answers == [path.parent.name for path in paths]
    assert paths == sorted(paths)


def test_deeper_folders_belong_to_their_class_and_hidden_ones_to_none(tmp_path: Path) -> None:
    for name in ("cat/old/1.PNG", "dog/2.jpg", ".trash/3.png", "dog/.4.png", "dog/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    paths, answers = list_pictures(tmp_path)
    assert [path.name for path in paths] == ["1.PNG", "2.jpg"]
    assert answers == ["cat", "dog"]


def test_a_picture_whose_name_has_no_ending_is_told_by_its_first_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    shutil.copy(folder / "disk" / "000.png", tmp_path / "cat" / "000")
    (tmp_path / "README").write_text("These are cats.")
    (tmp_path / "cat" / "empty").write_bytes(b"")
    assert list_pictures(tmp_path) == ([tmp_path / "cat" / "000"], ["cat"])


def test_a_folder_of_pictures_has_no_answers(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    assert list_pictures(tmp_path) == ([tmp_path / "1.png"], None)


@pytest.mark.parametrize(
    ("text", "target", "answers"),
    [
        ("path,sort\n1.png,1\n2.png,3\n", None, [1, 3]),
        ("path,a,b\n1.png,1,0.5\n2.png,3,1e2\n", "b", [0.5, 100.0]),
        ("path,a,b\n1.png,1,2\n\n2.png,3,4\n", ("a", "b"), [[1.0, 2.0], [3.0, 4.0]]),
        ("path;size\n1.png;1,5\n2.png;12,25\n", None, [1.5, 12.25]),
        ("path, sort\n1.png, cat\n2.png,cat \n", None, ["cat", "cat"]),
        ("path\n1.png\n2.png\n", None, None),
    ],
)
def test_a_table_says_paths_and_answers(text: str, target: Any, answers: Any, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    assert list_pictures(tmp_path / "list.csv", target) == ([tmp_path / "1.png", tmp_path / "2.png"], answers)


@pytest.mark.parametrize(
    ("text", "target", "said"),
    [
        ("path,sort\n1.png,cat\n", "kind", "no column 'kind'"),
        ("path,sort\n1.png,cat,dog\n", None, "line 2"),
        ("path,sort\n", None, "a header and no rows"),
        ("", None, "an empty file"),
        ("path,sort\n1.png,cat\n2.png,\n", None, "a missing value at line 3"),
        ("path,size\n1.png,1.5\n2.png,\n", None, "a missing value at line 3"),
        ("path,size\n1.png,1.5\n2.png,2.5\n3.png,3,5\n", None, "line 4 has 3 cells"),
        ("path,size\n1.png,1.5\n2.png,2.5\n3.png,large\n", None, "2 of 3 values are numbers"),
        ("path,sort\n1.png,cat\n,cat\n", None, "no path at line 3"),
        ("1.png,cat\n2.png,dog\n", None, "must name the columns"),
        ("path,sort\n1.png,cat\n", "path", "after the first"),
    ],
)
def test_a_table_that_says_neither_is_refused(text: str, target: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InvalidDataError, match=said):
        list_pictures(tmp_path / "list.csv", target)


@pytest.mark.parametrize(
    ("kind", "answers"),
    [(None, [1, 2]), ("classes", [1, 2]), ("numbers", [1.0, 2.0])],
)
def test_few_whole_numbers_are_classes_unless_they_are_called_numbers(
    kind: str | None, answers: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("path,sort\n1.png,1\n2.png,2\n")
    found = list_pictures(tmp_path / "list.csv", kind=kind)[1]
    assert found == answers
    assert [type(one) for one in found or ()] == [type(one) for one in answers]


def test_classes_are_words_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,sort\n1.png,007\n2.png,a\n3.png,1.5\n")
    assert list_pictures(tmp_path / "list.csv", kind="classes")[1] == ["007", "a", "1.5"]


def test_a_list_to_predict_for_needs_no_answers(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,sort\n1.png,cat\n2.png,\n")
    assert as_sources(tmp_path / "list.csv") == [tmp_path / "1.png", tmp_path / "2.png"]


def test_a_file_in_another_encoding_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("path,sort\n1.png,kätzchen\n".encode("latin-1"))
    with pytest.raises(InvalidDataError, match="line 2 is not UTF-8"):
        list_pictures(tmp_path / "list.csv")


def test_a_place_without_pictures_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.csv"):
        with pytest.raises(InvalidDataError, match="Pictures are a folder"):
            list_pictures(place)


@pytest.mark.parametrize("X", ["one.png", b"bytes", None, {}, [], 3, np.zeros((9, 9)), {"one.png"}], ids=str)
def test_what_is_no_list_of_pictures_is_refused(X: Any) -> None:
    with pytest.raises(InvalidDataError):
        as_sources(X)
