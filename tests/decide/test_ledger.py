"""A ledger loses nothing: crashes, two writers, cut lines, a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import torch

from caveat.decide import Ledger, LedgerError, abstain
from caveat.errors import BusyError, InvalidArgumentError
from caveat.predictive import Probabilities


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


def test_ids_of_numpy_are_plain_data(path: Path) -> None:
    pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
    with Ledger(path) as ledger:
        ledger.append(abstain(pred, 0.3, ids=np.arange(7, 9)))
    assert [record["id"] for record in Ledger.read(path)] == [7, 8]


def test_a_decision_is_a_line_a_row(path: Path) -> None:
    decision = abstain(Probabilities().summarize(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]])), 0.3, names=("á", "b"))
    with Ledger(path) as ledger:
        assert ledger.append(decision) == 2
        assert ledger.append({"id": 7, "action": "abstain"}) == 1
        assert len(ledger) == 3
        now = datetime.now(UTC)
        for day in (now.date(), now, now.astimezone(timezone(timedelta(hours=14))), now.replace(tzinfo=None)):
            assert ledger.count("abstain", day=day) == 2
    records = Ledger.read(path)
    assert [record["number"] for record in records] == [0, 1, 2]
    assert [record["answer"] for record in records[:2]] == [None, "á"]
    assert "predictive_entropy <= 0.3" in records[0]["why"]


def test_a_ledger_cut_at_any_byte_keeps_every_whole_line(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append([{"action": "refer", "id": k} for k in range(3)])
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        if length == 0 or content[length - 1 : length] == b"\n":
            assert len(Ledger.read(path)) == whole
            continue
        with pytest.raises(LedgerError, match="ends with a whole line") as caught:
            Ledger(path)
        assert [record["id"] for record in caught.value.records] == list(range(whole))
        assert path.read_bytes() == content[:length]  # nothing is touched without being asked


def test_mending_sets_the_rest_aside_and_goes_on(path: Path) -> None:
    path.write_bytes(b'{"id": 0}\n{"id": 1, "acti')
    with Ledger(path, mend=True) as ledger:
        ledger.append({"id": 2})
    assert [record["id"] for record in Ledger.read(path)] == [0, 2]
    assert path.with_name("decisions.jsonl.cut").read_bytes() == b'{"id": 1, "acti\n'


def test_two_writers_in_one_process_and_in_two(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(BusyError, match="one writer"):
            Ledger(path)
        code = f"from caveat.decide import Ledger\nLedger({str(path)!r})"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "BusyError" in run.stderr
        ledger.append({"id": 0})
        assert len(Ledger.read(path)) == 1
    with Ledger(path) as ledger:  # let go of at the end of the block
        assert len(ledger) == 1


def test_the_threads_of_a_service_take_turns(path: Path) -> None:
    with Ledger(path) as ledger, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: ledger.append({"id": k}), range(200)))
    records = Ledger.read(path)
    assert [record["number"] for record in records] == list(range(200))
    assert sorted(record["id"] for record in records) == list(range(200))


def test_a_forked_worker_is_a_second_writer(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)  # what a fork sees of it
            with pytest.raises(BusyError, match="its fork"):
                ledger.append({"id": 1})
        ledger.append({"id": 0})
    assert [record["id"] for record in Ledger.read(path)] == [0]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be moved there")
def test_a_file_that_was_moved_or_deleted_takes_no_more_lines(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(path.name) as ledger:
        monkeypatch.chdir("/")  # where it lies does not change with the working folder
        ledger.append({"id": 0})
        path.rename(tmp_path / "decisions.1.jsonl")
        with pytest.raises(LedgerError, match="moved or deleted"):
            ledger.append({"id": 1})
        path.touch()
        with pytest.raises(LedgerError):
            ledger.append({"id": 1})
    assert len(Ledger.read(tmp_path / "decisions.1.jsonl")) == 1


def test_a_failed_write_leaves_nothing_half_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(path) as ledger:
        ledger.append({"id": 0})
        before = path.read_bytes()
        real = os.write

        def full(file: int, content: memoryview) -> int:
            monkeypatch.setattr(os, "write", real)
            real(file, content[:5])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            ledger.append({"id": 1})
        assert path.read_bytes() == before
        ledger.append({"id": 1})
    assert [record["number"] for record in Ledger.read(path)] == [0, 1]


def test_bad_input_is_named_and_writes_nothing(path: Path) -> None:
    with Ledger(path) as ledger:
        for bad in ({"x": float("nan")}, {"x": torch.zeros(1)}, ["text"], {"at": "noon"}):
            with pytest.raises(InvalidArgumentError):
                ledger.append(bad)  # type: ignore[arg-type]
    assert path.read_bytes() == b""
    with pytest.raises(InvalidArgumentError, match="while it is open"):
        ledger.append({"id": 0})
    path.write_text("{}\nno json\n{}\n")
    for mend in (False, True):  # only a cut last line can be mended
        with pytest.raises(LedgerError, match="line 2"):
            Ledger(path, mend=mend)
    assert path.read_text() == "{}\nno json\n{}\n"
    with pytest.raises(LedgerError):
        Ledger.read(path)
