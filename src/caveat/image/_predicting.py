"""What a model says of pictures, some at a time; of one that shows nothing, what is known without looking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from caveat._estimators import Classes, Model, predict_from
from caveat.decide import Decision
from caveat.image._kind import AT_ONCE, PictureReader
from caveat.image._reading import Problem, read_in_batches
from caveat.predictive import Categorical, Gaussian, MeanAndVariance, Probabilities, concatenate


def predict_pictures(
    model: Model, sources: Sequence[Any], draws: int | None = None
) -> tuple[Categorical | Gaussian, tuple[Problem, ...]]:
    """Returns the predictive of B pictures, and which of them were left out.

    Args:
        model: Model.
        sources: Paths, arrays or PIL images.
        draws: The number of draws; the model's own if None.
    """
    parts: list[Categorical | Gaussian] = []
    problems: list[Problem] = []
    for pred, some in predict_in_batches(model, sources, draws):
        parts.append(pred)
        problems += some
    return cast("Categorical | Gaussian", concatenate(parts)), tuple(problems)


def predict_in_batches(
    model: Model, sources: Sequence[Any], draws: int | None = None
) -> Iterator[tuple[Categorical | Gaussian, tuple[Problem, ...]]]:
    """Yields predictives of some pictures at a time, in order, and which were left out; memory holds one batch."""
    reader = cast(PictureReader, model.reader)
    first = 0
    for pictures in read_in_batches(sources, reader.format, AT_ONCE):
        good = torch.from_numpy(pictures.good_from(first))
        seen, unseen = good.nonzero().flatten(), (~good).nonzero().flatten()
        n = model.settings.draws if draws is None else draws
        parts: list[Any] = []
        if len(seen):
            parts.append(predict_from(model, reader.inputs_of(pictures.pixels[seen]), n))
        if len(unseen):
            parts.append(_predict_unseen(model, len(unseen), n))
        indices = [index for index in (seen, unseen) if len(index)]
        yield cast("Categorical | Gaussian", concatenate(parts, indices=indices)), pictures.problems
        first += len(good)


def defer_unseen(made: Decision, problems: Sequence[Problem]) -> Decision:
    """Returns the decision with no answer for pictures that were left out."""
    if not problems:
        return made
    rows = torch.tensor([problem.row for problem in problems])
    action, answered = made.action.clone(), made.answered.clone()
    action[rows], answered[rows] = made.actions.index("abstain"), False
    return replace(made, action=action, answered=answered)


def _predict_unseen(model: Model, rows: int, draws: int) -> Categorical | Gaussian:
    """Returns the frequencies of classes in training, or the mean and variance of the targets, for each of the rows."""
    target = model.target
    device = next(model.networks[0].parameters()).device
    if isinstance(target, Classes):
        counts = torch.tensor(target.counts, dtype=torch.float32, device=device)
        return Probabilities().summarize(_repeat(counts / counts.sum(), draws, rows))
    mean, variance = torch.tensor(target.shifts), torch.tensor(target.scales, dtype=torch.float64).square()
    return MeanAndVariance().summarize(_repeat(torch.stack([mean.double(), variance], -1).to(device), draws, rows))


def _repeat(values: Tensor, draws: int, rows: int) -> Tensor:
    return values.expand(draws, rows, *values.shape)


def describe_problems(problems: Sequence[Problem], of: int, most: int = 5) -> str:
    """Returns a line that names pictures that were left out, with their number.

    Example:
        >>> describe_problems([Problem(3, "a.png", "tiny: 1 x 1 pixels")], of=9)
        '1 of 9 pictures are left out: a.png (tiny: 1 x 1 pixels)'
    """
    named = ", ".join(f"{problem.name} ({problem.why})" for problem in problems[:most])
    more = len(problems) - most
    return f"{len(problems)} of {of} pictures are left out: {named}{f' and {more} more' if more > 0 else ''}"
