"""Active learning: label, fit, score, pick, and again; a round at a time, from a file that survives a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, final

import torch
from torch import Tensor

from caveat._checks import require_choice, require_integer
from caveat._seeds import check_seed, fold_in
from caveat._table_text import format_html, format_table
from caveat.acquire._label_sources import LabelSource, arrivals
from caveat.acquire._picks import Pick, pick_at_random
from caveat.acquire._pool import Pool, as_rows, check_batch
from caveat.acquire._progress import Progress
from caveat.errors import InvalidArgumentError

Fitted = TypeVar("Fitted")

_ROUNDS_SHOWN = 10


@final
@dataclass(frozen=True, eq=False, repr=False)
class Round(Generic[Fitted]):
    """One round: the labels so far, and what was fitted to them.

    Fields:
        number: 0 for the initial labels.
        asked: the rows that this round asked for.
        rows: (L,) int64, all labeled rows, in the order in which they were asked for.
        labels: Labels of ``rows``, as plain data.
        waiting: asked rows without a label yet. If there are any, nothing was fitted and this is the last round that is
            given; the same call goes on once the labels are there.
        fitted: what ``fit`` returned; None while labels are waited for.
        evaluation: what ``evaluate`` returned.
        history: the evaluation of each round up to this one, with its number of labels as "labels".
    """

    number: int
    asked: tuple[int, ...]
    rows: Tensor
    labels: list[Any]
    waiting: tuple[int, ...]
    fitted: Fitted | None
    evaluation: dict[str, float]
    history: list[dict[str, float]]

    def __repr__(self) -> str:
        columns, rows = self._table()
        return f"{self._line()}\n{format_table(columns, rows)}" if rows else self._line()

    def _repr_html_(self) -> str:
        return format_html(self._line(), *self._table())

    def _line(self) -> str:
        asked, waiting = len(self.asked), len(self.waiting)
        return f"Round {self.number}: {len(self.rows)} labels, {asked} asked for, {waiting} waited for"

    def _table(self) -> tuple[list[str], list[list[object]]]:
        """The evaluation of the last rounds."""
        columns = list(dict.fromkeys(name for entry in self.history for name in entry))
        first = max(0, len(self.history) - _ROUNDS_SHOWN)
        rows: list[list[object]] = []
        for at, entry in enumerate(self.history[first:], first):
            rows.append([at, *map(entry.get, columns)])
        return ["round", *columns], rows


def active_learning(
    size: int,
    labels: LabelSource,
    fit: Callable[[Tensor, list[Any]], Fitted],
    pick: Pick | Literal["random"],
    *,
    initial: int | Sequence[int] | Tensor,
    batch: int,
    rounds: int,
    evaluate: Callable[[Fitted], Mapping[str, float]] | None = None,
    candidates: int | None = None,
    checkpoint: str | Path | None = None,
    seed: int = 0,
) -> Iterator[Round[Fitted]]:
    """Asks for labels where they are worth most, as a generator of rounds.

    Each round asks for labels, fits to all there are, gives the round, and scores the rest to pick the next. With
    ``checkpoint`` every pick and every label is on the disk before anything else happens; the same call after a crash
    asks for the same rows, loses no label, and goes on with the first round that was not finished.

    Args:
        size: Number of rows in the pool; they are 0 to size - 1.
        labels: a source: rows to labels (``lambda rows: y[rows]``), ``csv_labels`` or ``folder_labels``. It may give
            only some, in a mapping, and be asked for the others later.
        fit: ``fit(rows, labels)`` gives whatever ``pick`` and ``evaluate`` take, such as a sampler.
        pick: ``pick(fitted, candidates, size, seed)`` gives positions among the candidates: ``pick_by`` or
            your own; "random" is the baseline.
        initial: Number of random rows to begin with, or which rows.
        batch: Number of rows to label in a round; the last may be smaller, where the pool ends.
        rounds: Number of rounds after the initial one.
        evaluate: Function of what ``fit`` gives that returns numbers to keep of each round.
        candidates: Number of random rows to score per round, where the pool is large.
        checkpoint: File to go on from.
        seed: Random seed for the initial rows, the candidates and the picks.

    Yields:
        A ``Round`` each; only those that this call finished.

    Raises:
        InvalidArgumentError: sizes that do not fit, labels that are not plain data, picks out of range, a state of
            other settings, or a label for a row that was not asked for; what came before it is kept.
        BusyError: another process is running this loop.

    See "Deep Bayesian Active Learning with Image Data", Gal, Islam and Ghahramani, 2017.

    Example:
        >>> x = torch.linspace(0, 1, 101)
        >>> def between(rows, labels):  # the highest 0 and the lowest 1
        ...     y = torch.tensor(labels)
        ...     return (x[rows][y == 0].max() + x[rows][y == 1].min()) / 2
        >>> def nearest(fitted, candidates, size, seed):
        ...     return (x[candidates] - fitted).abs().argsort()[:size]
        >>> oracle = lambda rows: (x[rows] > 0.33).long()
        >>> loop = active_learning(101, oracle, between, nearest, initial=[0, 100], batch=1, rounds=7)
        >>> [round(float(step.fitted), 2) for step in loop][-1]
        0.33
    """
    start = _initial_rows(size, initial, check_seed(seed))
    require_integer(rounds, "rounds", 0)
    require_integer(1 if candidates is None else candidates, "candidates", 1)
    check_batch(batch, size - len(start) if rounds else batch)
    if candidates is not None and candidates < batch:
        raise InvalidArgumentError(
            "candidates must be at least the batch.",
            got=f"candidates={candidates}, batch={batch}",
            cause="the two were swapped",
            fix="candidates=10000",
        )
    settings = {"size": size, "initial": start, "batch": batch, "candidates": candidates, "seed": seed}
    path = None if checkpoint is None else Path(checkpoint)
    if isinstance(pick, str):
        require_choice(pick, "pick", ["random"])
        pick = pick_at_random
    return _rounds(Progress(path, settings), labels, fit, pick, rounds, evaluate)


def _rounds(
    progress: Progress,
    source: LabelSource,
    fit: Callable[[Tensor, list[Any]], Fitted],
    pick: Pick,
    rounds: int,
    evaluate: Callable[[Fitted], Mapping[str, float]] | None,
) -> Iterator[Round[Fitted]]:
    with progress.held():
        progress.restore()
        if not progress.rounds:
            progress.begin_round(progress.settings["initial"])
        finished = progress.rounds[-1]["evaluation"] is not None
        if finished and len(progress.rounds) > rounds:
            return
        while True:
            pending = list(progress.pool().pending)
            if pending:
                answer = source(pending)
                progress.take(arrivals(answer, pending), one_by_one=isinstance(answer, Iterator))
            waiting = progress.pool().pending
            rows = torch.tensor([row for row in progress.asked if row in progress.labels], dtype=torch.int64)
            known = [progress.labels[int(row)] for row in rows]
            if waiting:
                yield _round(progress, rows, known, waiting, None)
                return
            fitted = fit(rows, known)
            if not finished:
                progress.finish_round({} if evaluate is None else evaluate(fitted))
                yield _round(progress, rows, known, (), fitted)
            finished = False
            if len(progress.rounds) > rounds or not len(progress.pool().unlabeled):
                return
            progress.begin_round(_picked(progress, pick, fitted))


def _picked(progress: Progress, pick: Pick, fitted: Any) -> list[int]:
    free = progress.pool().unlabeled
    number = len(progress.rounds)
    seed = fold_in(progress.settings["seed"], "round", number)
    most = progress.settings["candidates"]
    if most is not None and most < len(free):
        chosen = torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))[:most]
        free = free[chosen.sort().values]
    size = min(progress.settings["batch"], len(free))
    positions = as_rows(pick(fitted, free, size, seed))
    if len(positions) == size == len(set(positions)) and all(0 <= k < len(free) for k in positions):
        return [int(free[k]) for k in positions]
    raise InvalidArgumentError(
        f"pick gives {size} different positions among the candidates, 0 to {len(free) - 1}.",
        got=f"{positions[:12]}",
        cause="rows of the pool in place of positions among the candidates",
        fix="return scores.argsort(descending=True)[:size]",
    )


def _round(progress: Progress, rows: Tensor, labels: list[Any], waiting: tuple[int, ...], fitted: Any) -> Round[Any]:
    last = progress.rounds[-1]
    number = len(progress.rounds) - 1
    evaluation = dict(last["evaluation"] or {})
    return Round(number, tuple(last["asked"]), rows, labels, waiting, fitted, evaluation, progress.history())


def _initial_rows(size: int, initial: int | Sequence[int] | Tensor, seed: int) -> list[int]:
    pool = Pool(size)
    if isinstance(initial, int) and not isinstance(initial, bool):
        check_batch(initial, size)
        generator = torch.Generator().manual_seed(seed % (1 << 63))
        return [int(row) for row in torch.randperm(size, generator=generator)[:initial]]
    rows = as_rows(initial)  # type: ignore[arg-type]
    check_batch(len(rows), size)
    return list(pool.ask(rows).pending)
