"""The pool and the loop: no row and no label is lost, whoever labels and whenever it crashes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.acquire import _progress as progress
from caveat.acquire import active_learning, csv_labels, folder_labels, pick_by
from caveat.acquire._learning import Round
from caveat.acquire._pool import Pool
from caveat.errors import BusyError, InvalidArgumentError
from caveat.predictive import Probabilities

TRUTH = torch.arange(40) % 3


def fit(rows: Tensor, labels: list[Any]) -> dict[int, Any]:
    return dict(zip(rows.tolist(), labels, strict=True))


def loop(labels: Any, state: Path | None = None, **changed: Any) -> Iterator[Round[dict[int, Any]]]:
    settings: dict[str, Any] = {"initial": 4, "batch": 3, "rounds": 5, "seed": 1, **changed}
    return active_learning(40, labels, fit, "random", checkpoint=state, **settings)


@given(st.lists(st.integers(1, 4), max_size=6), st.integers(0, 9))
def test_a_row_is_always_in_exactly_one_place(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pool = Pool(12)
    for size in sizes:
        free = pool.unlabeled
        if len(free) < size:
            with pytest.raises(InvalidArgumentError):
                pool.ask(range(size))
            break
        pool = pool.ask(free[torch.randperm(len(free), generator=generator)[:size]])
        pool = pool.label(pool.pending[:1])
        everywhere = [*pool.labeled, *pool.pending, *pool.unlabeled.tolist()]
        assert sorted(everywhere) == list(range(12))


def test_bad_steps_of_a_pool() -> None:
    pool = Pool(5).ask([1, 2])
    for bad in ([1], [5], [-1], [3, 3], [0.5], [True]):
        with pytest.raises(InvalidArgumentError):
            pool.ask(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"asked for and not labeled yet(.|\n)*rows \[3\]"):
        pool.label([3])
    with pytest.raises(InvalidArgumentError, match="asked for and not labeled yet"):
        pool.label([1]).label([1])
    with pytest.raises(InvalidArgumentError, match="at most as large"):
        pool.ask([0, 3, 4, 1])
    with pytest.raises(InvalidArgumentError, match="must have a row"):
        Pool(1).ask([0]).ask([0])
    with pytest.raises(InvalidArgumentError, match="size must be an integer of at least 1"):
        Pool(0)


def test_rounds_follow_one_another() -> None:
    rounds = list(loop(lambda rows: TRUTH[rows]))
    assert [len(r.rows) for r in rounds] == [4, 7, 10, 13, 16, 19]
    assert len(set(rounds[-1].rows.tolist())) == 19
    assert rounds[-1].labels == TRUTH[rounds[-1].rows].tolist()
    assert rounds[0].fitted == dict(zip(rounds[0].rows.tolist(), rounds[0].labels, strict=True))


def test_the_pool_ends_before_the_rounds_do() -> None:
    rounds = list(loop(lambda rows: TRUTH[rows], batch=20, rounds=9, candidates=25))
    assert [len(r.rows) for r in rounds] == [4, 24, 40]


@pytest.mark.parametrize("crash_at", range(1, 19))
def test_a_crash_loses_no_label_and_asks_for_none_twice(tmp_path: Path, crash_at: int) -> None:
    """A slow oracle gives labels one by one and dies at one of them; the same call goes on."""
    asked: list[int] = []

    def mortal(rows: list[int]) -> Iterator[tuple[int, Tensor]]:
        for row in rows:
            asked.append(row)
            if len(asked) == crash_at + 1:
                raise KeyboardInterrupt
            yield row, TRUTH[row]

    whole = list(loop(lambda rows: TRUTH[rows]))
    state = tmp_path / "state.json"
    before: list[Round[Any]] = []
    with pytest.raises(KeyboardInterrupt):
        before.extend(loop(mortal, state))  # extend keeps what came before the crash
    assert len(json.loads(state.read_text())["labels"]) == crash_at
    after = list(loop(mortal, state))
    assert sorted(asked) == sorted([*whole[-1].rows.tolist(), asked[crash_at]])  # only the one that died is asked again
    assert after[-1].rows.tolist() == whole[-1].rows.tolist()
    assert [entry["labels"] for entry in after[-1].history] == [4, 7, 10, 13, 16, 19]
    assert list(loop(mortal, state)) == []  # nothing is left to do


def test_a_crash_while_fitting_loses_no_label(tmp_path: Path) -> None:
    state = tmp_path / "state.json"

    def broken(rows: Tensor, labels: list[Any]) -> None:
        raise RuntimeError

    settings: dict[str, Any] = {"initial": 4, "batch": 3, "rounds": 5, "seed": 1, "checkpoint": state}
    with pytest.raises(RuntimeError):
        list(active_learning(40, lambda rows: TRUTH[rows], broken, "random", **settings))

    def never(rows: list[int]) -> Tensor:
        assert not {*rows} & {row for row, _ in json.loads(state.read_text())["labels"]}
        return TRUTH[rows]

    assert [r.number for r in loop(never, state)] == [0, 1, 2, 3, 4, 5]


def test_a_crash_in_the_middle_of_writing_leaves_the_state_whole(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    next(loop(lambda rows: TRUTH[rows], state)).rows  # noqa: B018
    (tmp_path / "state.json.new").write_text('{"half')
    assert list(loop(lambda rows: TRUTH[rows], state))[-1].number == 5


def test_labels_for_rows_never_asked_are_named_and_the_others_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    waiting = next(loop(lambda rows: {}, state))
    stranger = next(row for row in range(40) if row not in waiting.asked)
    with pytest.raises(InvalidArgumentError, match=f"asked for and not labeled yet(.|\n)*{stranger}"):
        list(loop(lambda rows: {rows[0]: 1, stranger: 2}, state))
    assert json.loads(state.read_text())["labels"] == [[waiting.asked[0], 1]]


def test_two_loops_on_one_file(tmp_path: Path) -> None:
    first = loop(lambda rows: TRUTH[rows], tmp_path / "state.json")
    next(first)
    with pytest.raises(BusyError, match="one process"):
        next(loop(lambda rows: TRUTH[rows], tmp_path / "state.json"))
    first.close()  # type: ignore[attr-defined]
    assert next(loop(lambda rows: TRUTH[rows], tmp_path / "state.json")).number == 1


def test_a_loop_that_is_killed_at_any_write_goes_on(tmp_path: Path) -> None:
    """Not an exception: the process is gone, in the middle of putting the state on the disk."""
    script = """if True:
        import os, signal, sys, torch
        from caveat.acquire import active_learning
        from pathlib import Path
        state, die_at, writes, real = sys.argv[1], int(sys.argv[2]), [0], Path.replace
        def replace(self, to):
            writes[0] += 1
            if writes[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, to)
        Path.replace = replace
        list(active_learning(40, lambda rows: torch.arange(40)[rows] % 3, lambda *_: {}, "random",
                             initial=4, batch=3, rounds=5, seed=1, checkpoint=state))
    """
    whole = list(loop(lambda rows: TRUTH[rows]))[-1]
    for die_at in (2, 6):
        state = tmp_path / f"{die_at}.json"
        command = [sys.executable, "-c", script, str(state), str(die_at)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert len(json.loads(state.read_text())["labels"]) == (0 if die_at == 2 else 7)
        last = list(loop(lambda rows: TRUTH[rows], state))[-1]
        assert (last.rows.tolist(), last.labels) == (whole.rows.tolist(), whole.labels)


def test_labels_that_come_together_are_one_write_and_those_before_a_wrong_one_are_kept(tmp_path: Path) -> None:
    written: list[int] = []
    state = tmp_path / "state.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "write_state", lambda path, kept: written.append(len(kept["labels"])))
        list(loop(lambda rows: TRUTH[rows], state, initial=30, rounds=0))
    assert written == [0, 30, 30]  # asked, labeled, evaluated
    with pytest.raises(InvalidArgumentError, match="plain data"):
        list(loop(lambda rows: [1, 2, float("nan"), 3], state))
    assert [label for _, label in json.loads(state.read_text())["labels"]] == [1, 2]


def test_a_predict_that_ignores_its_rows_is_named() -> None:
    whole = Probabilities().summarize(torch.rand(5, 40, 3).softmax(-1), keep=True)
    for pick in (pick_by(lambda fitted, rows: whole), pick_by(lambda fitted, rows: whole, "batchbald")):
        with pytest.raises(InvalidArgumentError, match="the 36 rows that it is asked about"):
            list(active_learning(40, lambda rows: TRUTH[rows], fit, pick, initial=4, batch=3, rounds=1))


def test_a_person_fills_in_a_csv_in_two_sittings(tmp_path: Path) -> None:
    state, path = tmp_path / "state.json", tmp_path / "labels.csv"

    def sitting(count: int) -> None:
        lines = path.read_text().splitlines()
        empty = [k for k, line in enumerate(lines) if line.endswith(",")][:count]
        for k in empty:
            lines[k] += str(int(TRUTH[int(lines[k][:-1])]))
        path.write_text("\n".join(lines) + "\n")

    (first,) = loop(csv_labels(path), state)
    assert first.waiting == first.asked
    assert first.fitted is None
    sitting(3)
    (second,) = loop(csv_labels(path), state)
    assert len(second.waiting) == 1
    sitting(1)
    third, fourth = loop(csv_labels(path), state)
    assert (third.number, len(third.rows), fourth.number, len(fourth.waiting)) == (0, 4, 1, 3)
    assert third.labels == TRUTH[third.rows].tolist()
    kept = path.read_text()
    path.write_text(kept.replace(f"{fourth.waiting[0]},", f"{fourth.waiting[0]},cat"))
    with pytest.raises(InvalidArgumentError, match="'cat' for row"):
        list(loop(csv_labels(path), state))
    path.write_text("something,else\n1,2\n")
    with pytest.raises(InvalidArgumentError, match="columns row and label"):
        list(loop(csv_labels(path), state))


def test_a_person_sorts_files_into_folders(tmp_path: Path) -> None:
    state, folder = tmp_path / "state.json", tmp_path / "labels"
    source = folder_labels(folder, ("a", "b", "c"), show=lambda row, to: (to / f"{row}.png").write_bytes(b"image"))
    (first,) = loop(source, state)
    shown = sorted(int(path.stem) for path in (folder / "to_label").iterdir())
    assert shown == sorted(first.asked)
    for row in first.asked:
        (folder / "to_label" / f"{row}.png").rename(folder / "abc"[int(TRUTH[row])] / f"{row}.png")
    (folder / "a" / ".DS_Store").touch()
    rounds = list(loop(source, state))
    assert rounds[0].labels == TRUTH[rounds[0].rows].tolist()
    assert len(list((folder / "to_label").iterdir())) == 3
    with pytest.raises(InvalidArgumentError, match="names of folders"):
        folder_labels(folder, ("a", "a"))


def test_a_label_can_be_corrected_later(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    first = next(loop(lambda rows: TRUTH[rows], state))
    wrong = first.asked[0]
    rounds = list(loop(lambda rows: {wrong: 99, **{row: int(TRUTH[row]) for row in rows}}, state))
    assert rounds[-1].fitted is not None
    assert rounds[-1].fitted[wrong] == 99


def test_bad_input_is_named(tmp_path: Path) -> None:
    def oracle(rows: list[int]) -> Tensor:
        return TRUTH[rows]

    with pytest.raises(InvalidArgumentError, match="size must be an integer of at least 1"):
        active_learning(0, oracle, fit, "random", initial=1, batch=1, rounds=1)
    with pytest.raises(InvalidArgumentError, match="at most as large"):
        loop(oracle, initial=41)
    with pytest.raises(InvalidArgumentError, match="at most as large"):
        loop(oracle, batch=37)
    with pytest.raises(InvalidArgumentError, match="candidates"):
        loop(oracle, candidates=2)
    with pytest.raises(InvalidArgumentError, match="3 labels for 4 rows"):
        list(loop(lambda rows: TRUTH[rows][:3]))
    with pytest.raises(InvalidArgumentError, match="plain data"):
        list(loop(lambda rows: [float("nan")] * len(rows)))
    for label in (float("inf"), [float("nan")], [torch.zeros(1)], {"cat": 1}):
        with pytest.raises(InvalidArgumentError, match="plain data"):
            list(loop(lambda rows, label=label: dict.fromkeys(rows, label)))
    for answer in (5, (int(TRUTH[row]) for row in range(4))):
        with pytest.raises(InvalidArgumentError, match="a generator of labels without their rows"):
            list(loop(lambda rows, answer=answer: answer))
    for name, values in {"rounds": (-1, 1.5, "3", None), "candidates": (0, 10.5, "9")}.items():
        for value in values:
            with pytest.raises(InvalidArgumentError, match=f"{name} must be an integer"):
                loop(oracle, **{name: value})
    for bad in (None, 2.0, [True] * 40):
        with pytest.raises(InvalidArgumentError, match="Rows are whole numbers"):
            loop(oracle, initial=bad)
    for bad in (None, 0.5, {"loss": float("nan")}, {"labels": 3}, {"a": torch.ones(2)}):
        with pytest.raises(InvalidArgumentError, match="evaluate returns a mapping"):
            list(active_learning(
                40, oracle, fit, "random", initial=4, batch=3, rounds=1, evaluate=lambda _, bad=bad: bad,
            ))  # fmt: skip
    with pytest.raises(InvalidArgumentError, match="positions among"):
        list(active_learning(40, oracle, fit, lambda *_: torch.tensor([99]), initial=4, batch=1, rounds=1))
    state = tmp_path / "state.json"
    next(loop(oracle, state))
    with pytest.raises(InvalidArgumentError, match="other initial, batch, seed"):
        list(loop(oracle, state, batch=2, seed=7))
    before = json.loads(state.read_text())
    damaged = ({"rounds": 3}, {"rounds": [{"x": 1}]}, {"labels": 4}, {"labels": [["a", 1]]}, {"labels": [[39, 1, 2]]})
    for text in ("not json", "[]", *(json.dumps(before | change) for change in damaged)):
        state.write_text(text)
        with pytest.raises(InvalidArgumentError, match="the JSON that it wrote"):
            list(loop(oracle, state))
        assert state.read_text() == text
    with pytest.raises(InvalidArgumentError, match="names that score_rows takes"):
        pick_by(lambda fitted, rows: Probabilities().summarize(torch.ones(1, 1, 2) / 2), "balled")
    with pytest.raises(InvalidArgumentError, match="BatchBALD makes its batch itself"):
        pick_by(lambda fitted, rows: Probabilities().summarize(torch.ones(1, 1, 2) / 2), "batchbald", strategy="power")
