"""The pool and the loop: no row and no label is lost, whoever labels and whenever it crashes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.acquire import (
    BatchLargerThanPool,
    EmptyPool,
    NeverAsked,
    Pool,
    Round,
    StateBusy,
    active_learning,
    csv_labels,
    folder_labels,
    pick_at_random,
    pick_by,
)
from caveat.errors import InvalidArgument
from caveat.predictive import Probabilities

TRUTH = torch.arange(40) % 3


def fit(rows: Tensor, labels: list[Any]) -> dict[int, Any]:
    return dict(zip(rows.tolist(), labels, strict=True))


def loop(labels: Any, state: Path | None = None, **changed: Any) -> Iterator[Round[dict[int, Any]]]:
    settings: dict[str, Any] = {"initial": 4, "batch": 3, "rounds": 5, "seed": 1, **changed}
    return active_learning(40, labels, fit, pick_at_random(), state=state, **settings)


@given(st.lists(st.integers(1, 4), max_size=6), st.integers(0, 9))
def test_a_row_is_always_in_exactly_one_place(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pool = Pool(12)
    for size in sizes:
        free = pool.unlabelled
        if len(free) < size:
            with pytest.raises(InvalidArgument):
                pool.ask(range(size))
            break
        pool = pool.ask(free[torch.randperm(len(free), generator=generator)[:size]])
        pool = pool.label(pool.pending[:1])
        everywhere = [*pool.labelled, *pool.pending, *pool.unlabelled.tolist()]
        assert sorted(everywhere) == list(range(12))


def test_bad_steps_of_a_pool() -> None:
    pool = Pool(5).ask([1, 2])
    for bad in ([1], [5], [-1], [3, 3], [0.5], [True]):
        with pytest.raises(InvalidArgument):
            pool.ask(bad)  # type: ignore[arg-type]
    with pytest.raises(NeverAsked, match="rows \\[3\\]"):
        pool.label([3])
    with pytest.raises(NeverAsked):
        pool.label([1]).label([1])
    with pytest.raises(BatchLargerThanPool):
        pool.ask([0, 3, 4, 1])
    with pytest.raises(EmptyPool):
        Pool(1).ask([0]).ask([0])
    with pytest.raises(EmptyPool):
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

    settings: dict[str, Any] = {"initial": 4, "batch": 3, "rounds": 5, "seed": 1, "state": state}
    with pytest.raises(RuntimeError):
        list(active_learning(40, lambda rows: TRUTH[rows], broken, pick_at_random(), **settings))

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
    with pytest.raises(NeverAsked, match=str(stranger)):
        list(loop(lambda rows: {rows[0]: 1, stranger: 2}, state))
    assert json.loads(state.read_text())["labels"] == [[waiting.asked[0], 1]]


def test_two_loops_on_one_file(tmp_path: Path) -> None:
    first = loop(lambda rows: TRUTH[rows], tmp_path / "state.json")
    next(first)
    with pytest.raises(StateBusy, match="one process"):
        next(loop(lambda rows: TRUTH[rows], tmp_path / "state.json"))
    first.close()  # type: ignore[attr-defined]
    assert next(loop(lambda rows: TRUTH[rows], tmp_path / "state.json")).number == 1


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
    with pytest.raises(InvalidArgument, match="'cat' for row"):
        list(loop(csv_labels(path), state))
    path.write_text("something,else\n1,2\n")
    with pytest.raises(InvalidArgument, match="columns row and label"):
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
    with pytest.raises(InvalidArgument, match="names of folders"):
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

    with pytest.raises(EmptyPool):
        active_learning(0, oracle, fit, pick_at_random(), initial=1, batch=1, rounds=1)
    with pytest.raises(BatchLargerThanPool):
        loop(oracle, initial=41)
    with pytest.raises(BatchLargerThanPool):
        loop(oracle, batch=37)
    with pytest.raises(InvalidArgument, match="candidates"):
        loop(oracle, candidates=2)
    with pytest.raises(InvalidArgument, match="3 labels for 4 rows"):
        list(loop(lambda rows: TRUTH[rows][:3]))
    with pytest.raises(InvalidArgument, match="plain data"):
        list(loop(lambda rows: [float("nan")] * len(rows)))
    with pytest.raises(InvalidArgument, match="positions among"):
        list(active_learning(40, oracle, fit, lambda *_: torch.tensor([99]), initial=4, batch=1, rounds=1))
    state = tmp_path / "state.json"
    next(loop(oracle, state))
    with pytest.raises(InvalidArgument, match="other initial, batch, seed"):
        list(loop(oracle, state, batch=2, seed=7))
    state.write_text("not json")
    with pytest.raises(InvalidArgument, match="the JSON that it wrote"):
        list(loop(oracle, state))
    assert state.read_text() == "not json"
    with pytest.raises(InvalidArgument, match="SCORES"):
        pick_by(lambda fitted, rows: Probabilities().summarise(torch.ones(1, 1, 2) / 2), "balled")
