"""A model's folder: what may be replaced, what a crash leaves, and what is refused before it is used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("safetensors")

from caveat._estimators import _model_folder as model_folder
from caveat._estimators import _replace_folder as replace_folder
from caveat._estimators._model_folder import check_destination, fingerprint, read_folder, write_folder
from caveat._files import held
from caveat.errors import BusyError, InvalidModelError

KIND = ("caveat-test", 1)
FILES = {"README.md", "caveat.json", "model.safetensors"}


def save(place: Path, value: float, more: Callable[[Path], None] | None = None) -> None:
    write_folder(place, KIND, {"value": value}, {"w": torch.full((3,), value)}, f"# Card of {value}\n", more=more)


def load(place: Path) -> float:
    """The value of a model, which has to be that of all its files."""

    def make(about: dict[str, Any], tensors: dict[str, Tensor]) -> float:
        assert tensors["w"].tolist() == [about["value"]] * 3
        return about["value"]

    value = read_folder(place, KIND, ("value",), make, folders=("encoder",))
    assert (place / "README.md").read_text() == f"# Card of {value}\n"
    return value


def with_encoder(folder: Path) -> None:
    (folder / "encoder").mkdir()
    (folder / "encoder" / "config.json").write_text("{}")


def test_only_what_the_manifest_names_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "m"
    save(place, 1.0, with_encoder)
    (place / "mine.csv").write_text("work")
    (place / "plots").mkdir()
    (place / "plots" / "a.png").write_text("work")
    save(place, 2.0)
    assert load(place) == 2.0
    assert {path.name for path in place.iterdir()} == {*FILES, "mine.csv", "plots"}
    assert (place / "plots" / "a.png").read_text() == "work"


def test_a_file_of_the_users_under_a_new_name_stays(tmp_path: Path) -> None:
    save(tmp_path / "m", 1.0)
    (tmp_path / "m" / "encoder").mkdir()
    (tmp_path / "m" / "encoder" / "config.json").write_text("work")
    with pytest.raises(InvalidModelError, match=r"something else: encoder/config\.json"):
        save(tmp_path / "m", 2.0, with_encoder)
    assert (tmp_path / "m" / "encoder" / "config.json").read_text() == "work"
    assert (tmp_path / "m" / "README.md").read_text() == "# Card of 1.0\n"
    assert len(list((tmp_path / "m").iterdir())) == 4


def test_a_folder_with_any_manifest_is_no_model(tmp_path: Path) -> None:
    place = tmp_path / "project"
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    for manifest in ("{}", '{"format": "caveat-test", "version": 1}', "[" * 5000, '{"checksums": {"thesis.txt": ""}}'):
        (place / "caveat.json").write_text(manifest)
        for write in (check_destination, lambda place: save(place, 1.0)):
            with pytest.raises(InvalidModelError, match="something else"):
                write(place)
    assert (place / "thesis.txt").read_text() == "years of work"


def test_a_model_with_other_files_is_told_before_the_work(tmp_path: Path) -> None:
    place = tmp_path / "m"
    check_destination(place)
    save(place, 1.0, with_encoder)
    check_destination(place)
    (place / "p.csv").write_text("work")
    with pytest.raises(InvalidModelError, match=r"something else: p\.csv"):
        check_destination(place)
    (place / "p.csv").unlink()
    (place / "README.md").write_text("my notes")
    with pytest.raises(InvalidModelError, match=r"README\.md, which was changed"):
        check_destination(place)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    save(tmp_path / "real", 1.0)
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "link", 2.0)
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "real") == 2.0
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def save_killed(place: Path, kill_at: int) -> bool:
    """Save in a process of its own that is killed before the so-maniest change of the disk; whether it was."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    steps: list[int] = []

    def count(name: str, owner: Any) -> None:
        real = getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            steps.append(1)
            if len(steps) > kill_at:
                os._exit(9)
            return real(*arguments, **named)

        setattr(owner, name, step)

    for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync", "ftruncate"):
        count(name, os)
    count("write", model_folder)
    try:
        save(place, 2.0)
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a killed process is a fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the child computes nothing
@pytest.mark.parametrize("start", ["new", "empty", "over a model"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(start: str, tmp_path: Path) -> None:
    left: set[float | None] = set()
    over = start == "over a model"
    for kill_at in range(1000):
        place = tmp_path / f"m{kill_at}"
        if start == "empty":
            place.mkdir()
        if over:
            save(place, 1.0, with_encoder)
            (place / "mine.csv").write_text("work")
        if not save_killed(place, kill_at):
            break
        try:
            value = load(place)
        except InvalidModelError:
            value = None
        left.add(value)
        assert value in ((1.0, 2.0) if over else (None, 2.0))
        assert not over or (place / "mine.csv").read_text() == "work"
        save(place, 3.0)  # the next run
        assert load(place) == 3.0
        assert {path.name for path in place.iterdir()} - {"mine.csv"} == FILES
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        shutil.rmtree(place)
    assert kill_at > 10
    assert left == ({1.0, 2.0} if over else {None, 2.0})


def test_a_reader_waits_for_a_writer_and_sees_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "m"
    save(place, 1.0)
    real = replace_folder.finish_replacing
    seen: list[float] = []

    def finish(folder: Path, manifest: str) -> None:
        if folder == place.resolve() and not seen:
            seen.append(0.0)
            monkeypatch.setattr("time.sleep", lambda _: real(folder, manifest))  # the writer goes on while it waits
            seen.append(load(place))
        real(folder, manifest)

    monkeypatch.setattr(replace_folder, "finish_replacing", finish)
    save(place, 2.0)
    assert seen == [0.0, 2.0]


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    save(tmp_path / "m", 1.0)
    lock = os.open(tmp_path / ".m.lock", os.O_RDWR | os.O_CREAT)
    from caveat._files import lock as lock_file

    lock_file(lock)
    with pytest.raises(BusyError):
        save(tmp_path / "m", 2.0)
    os.close(lock)
    with held(tmp_path / "m"):
        save(tmp_path / "m", 2.0)  # by its holder
    assert load(tmp_path / "m") == 2.0


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    save(tmp_path / "m", 1.0)
    before = fingerprint(tmp_path / "m")
    save(tmp_path / "m", 2.0)
    assert fingerprint(tmp_path / "m") != before
    save(tmp_path / "m", 1.0)
    assert fingerprint(tmp_path / "m") == before
    with pytest.raises(InvalidModelError):
        fingerprint(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="pipes and links are POSIX")
@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("how", ["pipe", "device", "outside", "itself", "giant", "folder"])
def test_only_regular_files_of_their_size_are_read(name: str, how: str, tmp_path: Path) -> None:
    save(tmp_path / "m", 1.0)
    path = tmp_path / "m" / name
    path.rename(tmp_path / "outside")
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "giant":
        with path.open("wb") as file:
            file.truncate(1 << 42)
    else:
        path.symlink_to({"device": "/dev/zero", "outside": tmp_path / "outside", "itself": name}[how])
    with pytest.raises(InvalidModelError):
        load(tmp_path / "m")


def test_what_a_hostile_task_names_outside_is_not_removed(tmp_path: Path) -> None:
    save(tmp_path / "m", 1.0)
    (tmp_path / "mine.txt").write_text("work")
    task = {"manifest": fingerprint(tmp_path / "m"), "remove": ["../mine.txt", str(tmp_path / "mine.txt")]}
    staged = tmp_path / "m" / ".caveat-new"
    staged.mkdir()
    (staged / "replacing.json").write_text(json.dumps(task))
    assert load(tmp_path / "m") == 1.0
    assert (tmp_path / "mine.txt").read_text() == "work"
    assert not staged.exists()
