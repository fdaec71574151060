"""One batch computed: rows of several requests to one model, as `caveat predict` computes and writes them.

Rows of tables go through the networks in blocks of one size, the last of them filled up: a product of matrices rounds
by their sizes, and so no digit of an answer depends on what arrived beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from caveat._estimators import Classes, Model, predict_from, predict_in_steps, prediction_rows, uncertainty_of
from caveat.cli._serve._served import Served
from caveat.predictive import Categorical, Gaussian

_STEP = 10
Pred = Categorical | Gaussian
Row = dict[str, Any]


@dataclass(eq=False)
class Answer:
    """What is said of the rows of a request.

    Fields:
        rows: As `caveat predict` writes them, numbered from 1.
        draws: The number of draws that they summarize.
        uncertainty: What rows are ranked by; None of pictures that show nothing.
        batch: The number of rows that were computed together.
    """

    rows: list[Row] = field(default_factory=list[Row])
    draws: int = 0
    uncertainty: list[float | None] = field(default_factory=list[float | None])
    batch: int = 0


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows of a request; ``until`` is the end of its time on the monotonic clock, or None."""

    inputs: Any
    count: int
    until: float | None = None


def compute(
    served: Served,
    pieces: Sequence[Piece],
    draws: int,
    level: float,
    block: int,
    give: Callable[[int, Answer], None],
) -> None:
    """Computes pieces together and gives each its answer: those with a budget as soon as that is used up.

    Args:
        served: Model.
        pieces: Rows, with a budget or all without.
        draws: Number of draws.
        level: Level of intervals and sets.
        block: Rows of a table that go through the networks together.
        give: Takes the number of a piece and its answer.
    """
    if served.package == "image":
        _give_all(pieces, _answer_pictures(served.model, _join(pieces), draws, level), give)
        return
    inputs = _join(pieces)
    if served.package == "text":
        inputs, _ = served.model.reader.read_and_count(inputs)  # without a warning of those that are truncated
    if all(piece.until is None for piece in pieces):
        _give_all(pieces, _answer(served.model, _predict(served, inputs, draws, block), draws, level), give)
        return
    filled = _fill(inputs, block) if served.package == "tabular" else inputs
    _compute_within(served.model, filled, pieces, draws, level, give)


def _predict(served: Served, inputs: Tensor, draws: int, block: int) -> Pred:
    if served.package != "tabular":
        return predict_from(served.model, inputs, draws)
    blocks = cast("tuple[Tensor, ...]", inputs.split(block))
    parts = [predict_from(served.model, _fill(one, block), draws) for one in blocks]
    rest = len(inputs) % block
    if rest:
        parts[-1] = parts[-1].rows(slice(0, rest))
    return parts[0].concatenate(*parts[1:]) if len(parts) > 1 else parts[0]


def _compute_within(
    model: Model,
    inputs: Tensor,
    pieces: Sequence[Piece],
    draws: int,
    level: float,
    give: Callable[[int, Answer], None],
) -> None:
    """Draws some at a time; a piece whose time is up gets what the draws so far say."""
    starts = _starts(pieces)
    waiting = dict(enumerate(pieces))
    for pred in predict_in_steps(model, inputs, draws, _STEP):
        done, now = int(pred.count.max()), time.monotonic()
        for number, piece in list(waiting.items()):
            if done >= draws or (piece.until is not None and piece.until <= now):
                rows = pred.rows(slice(starts[number], starts[number] + piece.count))
                answer = _answer(model, rows, done, level)
                _add_errors(model, rows, answer.rows)
                answer.batch = starts[-1]
                give(number, answer)
                del waiting[number]
        if not waiting:
            return


def _answer(model: Model, pred: Pred, draws: int, level: float) -> Answer:
    rows = prediction_rows(model, pred, 1, level, {})
    return Answer(rows, draws, cast("list[float | None]", uncertainty_of(model, pred).tolist()))


def _answer_pictures(model: Model, pictures: list[Any], draws: int, level: float) -> Answer:
    from caveat.cli._picture_commands import predicted_pictures  # with scikit-learn, which the others do without

    whole = Answer(draws=draws)
    for pred, rows in predicted_pictures(model, pictures, draws, level):
        by = cast("list[float]", uncertainty_of(model, pred).tolist())
        whole.rows += rows
        whole.uncertainty += [value if row["problem"] is None else None for row, value in zip(rows, by, strict=True)]
    return whole


def _add_errors(model: Model, pred: Pred, rows: list[Row]) -> None:
    """Adds the Monte-Carlo standard error of the probability, or of each mean."""
    errors = pred.standard_error()
    if isinstance(model.target, Classes):
        chosen = errors.gather(1, cast(Categorical, pred).predicted[:, None])[:, 0]
        columns = {"standard_error": chosen}
    else:
        names = model.target.names
        before = [""] if len(names) == 1 else [f"{name} " for name in names]
        columns = {f"{name}standard_error": errors[:, number] for number, name in enumerate(before)}
    for name, values in columns.items():
        for row, value in zip(rows, cast("list[float]", values.tolist()), strict=True):
            row[name] = float(f"{value:.7g}")


def _give_all(pieces: Sequence[Piece], whole: Answer, give: Callable[[int, Answer], None]) -> None:
    starts = _starts(pieces)
    for number, piece in enumerate(pieces):
        own = slice(starts[number], starts[number] + piece.count)
        rows = [{**row, "row": row["row"] - starts[number]} for row in whole.rows[own]]
        give(number, Answer(rows, whole.draws, whole.uncertainty[own], len(whole.rows)))


def _starts(pieces: Sequence[Piece]) -> list[int]:
    return [*accumulate((piece.count for piece in pieces), initial=0)]


def _join(pieces: Sequence[Piece]) -> Any:
    if isinstance(pieces[0].inputs, Tensor):
        return torch.cat([piece.inputs for piece in pieces])
    return [one for piece in pieces for one in piece.inputs]


def _fill(inputs: Tensor, block: int) -> Tensor:
    """Returns a block of full size: the last row stands for those that are missing."""
    missing = block - len(inputs)
    return torch.cat([inputs, inputs[-1:].expand(missing, *inputs.shape[1:])]) if missing > 0 else inputs
