"""What every fit asks of its tensors: scores that go with their labels, targets that go with their predictions."""

from __future__ import annotations

import math

from torch import Tensor

from caveat._checks import class_numbers, describe, require_floating
from caveat._numerics import accumulator, alike
from caveat.errors import InvalidArgumentError, NotFiniteError

GAP = 745.0
"""How far below a row's largest score e to the power of it is nothing in float64: ruled out, -inf, is set there."""


def scored(logits: Tensor, labels: Tensor, gap: float = GAP) -> tuple[Tensor, Tensor]:
    """Scores (S, N, C), as of `as_scores`, in float64, detached, and labels (N,): draws first, S = 1 without them.

    Which it is follows from the labels' axes: logits (B..., C) or (S, B..., C) beside labels (B...).

    Raises:
        InvalidArgumentError: shapes that do not fit, no rows, one class, or a label that is no class.
        NotFiniteError: NaN or +inf among the scores.
    """
    scores = as_scores(logits, gap)
    batch = labels.shape
    if labels.numel() == 0 or (scores.shape[:-1] != batch and scores.shape[1:-1] != batch) or scores.shape[0] == 0:
        raise InvalidArgumentError(
            "logits must be (B..., C) or (S, B..., C), and labels (B...).",
            got=f"logits: {describe(logits)}; labels: {describe(labels)}",
            cause="one-hot labels, no rows, or a binary score without its class axis",
            fix="labels.argmax(-1) for one-hot labels; torch.stack((torch.zeros_like(z), z), -1) for one score",
        )
    C = scores.shape[-1]
    return scores.reshape(-1, labels.numel(), C), class_numbers(labels, C, scores.device)


def require_classes(values: Tensor, classes: int, name: str) -> None:
    """Raise `InvalidArgumentError` unless values (..., C) are of as many classes as a map was fitted to."""
    if values.ndim == 0 or values.shape[-1] != classes:
        raise InvalidArgumentError(
            f"The map was fitted to {classes} classes.",
            got=describe(values),
            cause="another network, or the class axis elsewhere",
            fix=f"{name}.movedim(1, -1)",
        )


def require_targets(values: Tensor, fitted: Tensor, name: str) -> None:
    """Raise `InvalidArgumentError` unless a map's numbers (D,), or its one number, are of the targets of (B..., D)."""
    axes = fitted.ndim
    if fitted.numel() != 1 and (values.ndim <= axes or values.shape[values.ndim - axes :] != fitted.shape):
        raise InvalidArgumentError(
            f"The map was fitted to targets of shape {tuple(fitted.shape)}, which follow the rows.",
            got=f"{name}: {describe(values)}",
            cause="one target of several, or a row without its batch axis",
            fix=f"{name} of shape (B, {', '.join(map(str, fitted.shape))})",
        )


def as_scores(logits: Tensor, gap: float = GAP) -> Tensor:
    """Scores (..., C) in float64, detached; what lies further than ``gap`` below the row's largest stands there.

    Raises:
        InvalidArgumentError: not floats, or fewer than two classes.
        NotFiniteError: NaN or +inf.
    """
    require_floating(logits, "logits", cause="class numbers in place of their scores", fix="pass (B, C) floats")
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise InvalidArgumentError(
            "logits must have a batch axis and at least two classes on the last one.",
            got=describe(logits),
            cause="a binary score without its class axis",
            fix="torch.stack((torch.zeros_like(z), z), -1)",
        )
    wide = logits.detach().to(accumulator(logits.device))
    if bool(wide.isnan().any()) or bool((wide == math.inf).any()):
        raise NotFiniteError(
            "Logits must be numbers; -inf, a class that is ruled out, is allowed.",
            got="NaN or +inf",
            cause="weights that diverged, or the log of something that is not a probability",
            fix="look at logits.isfinite(); probabilities.log() for probabilities",
        )
    top = wide.amax(-1, keepdim=True)
    return wide.maximum(top.masked_fill(top == -math.inf, 0.0) - gap)


def detached(**tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape, as `caveat._numerics.alike`: a fit keeps no graph."""
    return [x.detach() for x in alike(**tensors)]
