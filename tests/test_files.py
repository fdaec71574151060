"""Files replaced whole, held by one writer at a time, and states that a killed work goes on from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import pytest

from caveat._files import beside_of, digest_of, held, open_locked, open_regular, write_whole
from caveat._state_file import differences, read_state, write_state
from caveat.errors import BusyError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="names and pipes are POSIX")


def test_what_a_killed_writer_left_is_gone_after_the_next(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    code = (
        "import os; from pathlib import Path; from caveat import _files as files\n"
        "files.os.fsync = lambda file: os._exit(1)\n"
        f"files.write_whole(Path({str(path)!r}), b'half of ' * 100)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [one.name for one in tmp_path.iterdir()] == [".note.json.new"]
    write_whole(path, b"{}")
    assert [one.name for one in tmp_path.iterdir()] == ["note.json"]
    assert path.read_bytes() == b"{}"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.json"
    write_whole(path, b"old")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("caveat._files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_one_holder_at_a_time_and_no_trace_of_it(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    refused: list[str] = []

    def second() -> None:
        try:
            with held(path, again=True):
                pass
        except BusyError as error:
            refused.append(str(error))

    with held(path):
        with pytest.raises(BusyError, match="one writer at a time"), held(path):
            pass
        with held(path, again=True):  # what a command does with what it holds
            pass
        thread = Thread(target=second)
        thread.start()
        thread.join()
        assert len(refused) == 1
        assert str(path) in refused[0]
        code = f"from pathlib import Path; from caveat._files import held\nwith held(Path({str(path)!r})): pass"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "BusyError" in done.stderr
    assert not list(tmp_path.iterdir())
    with held(path):
        pass


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    code = f"import os, pathlib; from caveat._files import held\nwith held(pathlib.Path({str(path)!r})): os._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [one.name for one in tmp_path.iterdir()] == [".out.csv.lock"]
    with held(path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_is_of_the_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    old = open_locked(path)
    path.rename(tmp_path / "log.1")
    new = open_locked(path)  # another file under the same name
    assert not os.path.samestat(os.fstat(old.fileno()), os.fstat(new.fileno()))
    old.close()
    new.close()


def test_a_folder_and_a_link_to_it_are_held_together(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to("model")
    with held(tmp_path / "model"), pytest.raises(BusyError), held(tmp_path / "link"):
        pass


def test_pipes_devices_and_folders_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        for read in (open_regular, digest_of, open_locked):
            with pytest.raises(OSError, match=r"[Rr]egular|[Dd]irectory"):
                read(path)


def test_hidden_files_stand_beside_their_file() -> None:
    assert beside_of(Path("a/b.csv"), "part") == Path("a/.b.csv.part")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of files that the struck call drops
@pytest.mark.parametrize("call", [open_regular, digest_of, lambda path: write_whole(path, b"new")])
def test_an_interrupt_at_any_step_stays_an_interrupt(tmp_path: Path, call: Callable[[Path], object]) -> None:
    """Not a second error over it, from a handle that two owners close."""
    path = tmp_path / "note.json"
    path.write_bytes(b"old")
    outer, steps = sys.gettrace(), 0
    for struck in range(400):
        steps = 0

        def count(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal steps
            steps += 1
            if steps == struck:  # noqa: B023  read while this turn lasts
                raise KeyboardInterrupt
            return count

        try:
            sys.settrace(count)
            held = call(path)
        except KeyboardInterrupt:
            continue
        finally:
            sys.settrace(outer)
        if isinstance(held, BufferedReader):
            held.close()
        if struck > steps:
            break
    assert 10 < struck == steps + 1


def test_a_state_is_of_the_work_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    work: dict[str, Any] = {"seed": 0, "sizes": (1, 2), "keep": []}
    write_state(path, {"of": work, "rows": 3})
    state = read_state(path)
    assert state["rows"] == 3
    assert not differences(state["of"], work)
    other = {**work, "keep": ["id"], "level": 0.9}
    assert differences(state["of"], other) == {"keep": ([], ["id"]), "level": (None, 0.9)}
    for before in (None, [], "text", {}):
        assert [*differences(before, work)] == ["seed", "sizes", "keep"]


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"loss": NaN}', b'{"a": 1, "a": 2}', b"\xff"])
def test_a_damaged_state_is_told_from_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with pytest.raises(FileNotFoundError):
        read_state(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"(?s)."):
        read_state(path)


def test_a_state_that_is_no_plain_data_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, {"loss": 1.0})
    for state in ({"loss": float("nan")}, {"loss": float("inf")}):
        with pytest.raises(ValueError, match="JSON"):
            write_state(path, state)
    assert read_state(path) == {"loss": 1.0}
