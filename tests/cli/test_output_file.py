"""Files of rows: what a killed run leaves is gone on with, by the same run alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")

from caveat._tables._chunks import _head, content_of, read_chunks  # pyright: ignore[reportPrivateUsage]
from caveat.cli._output_file import check_output, checkpoint, destination, written
from caveat.errors import BusyError, InvalidDataError, InvalidModelError


def write_one(path: Path, what: str, kind: str, *, interrupt: bool = False) -> tuple[int, dict[str, int]]:
    """Write one more row; how many were there, and how many of each kind are there now."""
    with written(path, {"of": what}) as file:
        file.add([{"row": file.rows + 1, "decision": kind}])
        if interrupt:
            raise KeyboardInterrupt
    return file.resumed, dict(file.counts)


def test_counts_and_rows_survive_an_interrupt(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        write_one(path, "a", "answer", interrupt=True)
    assert not path.exists()
    assert write_one(path, "a", "refer") == (1, {"answer": 1, "refer": 1})
    assert path.read_text() == "row,decision\n1,answer\n2,refer\n"
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]


def test_a_run_of_something_else_starts_afresh(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        write_one(path, "a", "answer", interrupt=True)
    assert write_one(path, "b", "refer") == (0, {"refer": 1})
    assert path.read_text() == "row,decision\n1,refer\n"
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("note", ["", "{", "[1]", '{"rows": 1e400}', '{"rows": -1, "bytes": 5}', "[" * 5000, "null"])
def test_a_damaged_note_starts_afresh(note: str, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    (tmp_path / ".out.csv.progress").write_text(note)
    (tmp_path / ".out.csv.part").write_text("half")
    assert write_one(path, "a", "answer") == (0, {"answer": 1})
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]


def test_a_second_writer_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with written(path, {"of": "a"}) as file:
        file.add([{"row": 1, "decision": "answer"}])
        with pytest.raises(BusyError):
            write_one(path, "b", "answer")
        file.add([{"row": 2, "decision": "answer"}])
    assert path.read_text() == "row,decision\n1,answer\n2,answer\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes are POSIX")
def test_outputs_that_would_do_harm_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a\n1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(data)
    for out in (data, tmp_path / "link.csv", tmp_path, tmp_path / "pipe.csv"):
        with pytest.raises(InvalidDataError):
            check_output(out, read=[data])


def test_an_input_is_known_by_its_content(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a\n1\n")
    before, times = content_of(data), (data.stat().st_atime_ns, data.stat().st_mtime_ns)
    data.write_text("a\n2\n")
    os.utime(data, ns=times)
    assert content_of(data) != before
    data.write_text("a\n1\n")
    assert content_of(data) == before


def test_a_stray_quote_reads_no_further_than_a_cell_may_go(tmp_path: Path) -> None:
    read: list[str] = []

    def lines() -> object:
        for _ in range(100_000):
            read.append("b,c\n")
            yield '"a,y\n' if len(read) == 1 else read[-1]

    _head(lines())  # pyright: ignore[reportArgumentType]
    assert len(read) < 50_000
    data = tmp_path / "data.csv"
    data.write_text('"a,y\n' + "1,2\n" * 100_000)
    with pytest.raises(InvalidDataError, match="field larger than field limit"):
        list(read_chunks(data))


def test_folders_on_the_way_to_a_model_go_if_nothing_comes_of_it(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "m"
    with pytest.raises(ZeroDivisionError), destination(out):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with destination(out), pytest.raises(BusyError), destination(out):
        pass


def test_a_folder_that_no_training_made_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".m.fit").mkdir()
    (tmp_path / ".m.fit" / "mine.txt").write_text("work")
    with pytest.raises(InvalidModelError), checkpoint(tmp_path / "m", {"of": 1}):
        pass
    assert (tmp_path / ".m.fit" / "mine.txt").read_text() == "work"
