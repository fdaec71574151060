"""Folders and CSV files are listed in one order, with their answers; what cannot be listed is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caveat._pictures._listing import as_sources
from caveat.image import InvalidPictureError, list_pictures


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
        ("path,sort\n1.png,cat\n2.png,3\n", None, ["cat", "3"]),
        ("path,sort\n1.png,1\n2.png,3\n", None, [1, 3]),
        ("path,a,b\n1.png,1,0.5\n2.png,3,1e2\n", "b", [0.5, 100.0]),
        ("path,a,b\n1.png,1,x\n\n2.png,3,y\n", ("a", "b"), [[1, "x"], [3, "y"]]),
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
        ("path,sort\n1.png,cat,dog\n", None, "row 2"),
        ("path,sort\n", None, "without rows"),
        ("", None, "without rows"),
    ],
)
def test_a_table_that_says_neither_is_refused(text: str, target: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InvalidPictureError, match=said):
        list_pictures(tmp_path / "list.csv", target)


def test_a_place_without_pictures_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.csv"):
        with pytest.raises(InvalidPictureError, match="Pictures are a folder"):
            list_pictures(place)


@pytest.mark.parametrize("X", ["one.png", b"bytes", None, {}, [], 3, np.zeros((9, 9))], ids=str)
def test_what_is_no_list_of_pictures_is_refused(X: Any) -> None:
    with pytest.raises(InvalidPictureError):
        as_sources(X)
