"""What every fit asks of its tensors: scores that go with their labels, targets that go with their predictions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat.errors import InvalidArgument, NotFinite, explain
from caveat.numerics import accumulator
from caveat.shapes import describe, require_floating

LEAST = -745.0
"""The log of the smallest float64: where a class that was ruled out, -inf, is set for a fit."""


def scored(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (S, N, C) in float64, detached, and labels (N,): draws first, S = 1 without them.

    Which it is follows from the labels' axes: logits (B..., C) or (S, B..., C) beside labels (B...).

    Raises:
        InvalidArgument: shapes that do not fit, no rows, one class, or a label that is no class.
        NotFinite: NaN or +inf among the scores.
    """
    scores = as_scores(logits)
    batch = labels.shape
    if labels.numel() == 0 or (scores.shape[:-1] != batch and scores.shape[1:-1] != batch) or scores.shape[0] == 0:
        raise InvalidArgument(
            explain(
                "logits must be (B..., C) or (S, B..., C), and labels (B...).",
                got=f"logits: {describe(logits)}; labels: {describe(labels)}",
                cause="one-hot labels, no rows, or a binary score without its class axis",
                fix="labels.argmax(-1) for one-hot labels; torch.stack((torch.zeros_like(z), z), -1) for one score",
            )
        )
    C = scores.shape[-1]
    if labels.is_floating_point() or int(labels.amin()) < 0 or int(labels.amax()) >= C:
        raise InvalidArgument(
            explain(
                f"Labels must be integers, 0 to {C - 1}.",
                got=f"{describe(labels)} from {labels.amin().item()} to {labels.amax().item()}",
                cause="classes numbered from 1, or an ignore index such as -1 or 255",
                fix="labels.long() - 1, or leave those rows out: keep = labels >= 0",
            )
        )
    return scores.reshape(-1, labels.numel(), C), labels.reshape(-1).to(scores.device, torch.int64)


def as_scores(logits: Tensor) -> Tensor:
    """Scores (..., C) in float64, detached, with classes that are ruled out (-inf) at the smallest log.

    Raises:
        InvalidArgument: not floats, or fewer than two classes.
        NotFinite: NaN or +inf.
    """
    require_floating(logits, "logits", cause="class numbers in place of their scores", fix="pass (B, C) floats")
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise InvalidArgument(
            explain(
                "logits must have a batch axis and at least two classes on the last one.",
                got=describe(logits),
                cause="a binary score without its class axis",
                fix="torch.stack((torch.zeros_like(z), z), -1)",
            )
        )
    wide = logits.detach().to(accumulator(logits.device))
    if bool(wide.isnan().any()) or bool((wide == math.inf).any()):
        raise NotFinite(
            explain(
                "Logits must be numbers; -inf, a class that is ruled out, is allowed.",
                got="NaN or +inf",
                cause="weights that diverged, or the log of something that is not a probability",
                fix="look at logits.isfinite(); probabilities.log() for probabilities",
            )
        )
    return wide.clamp(min=LEAST)


def same_shape(**tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape, not empty, finite, detached and in float64.

    Raises:
        InvalidArgument: shapes that differ, or no rows.
        NotFinite: NaN or infinity.
    """
    *_, (last_name, last) = tensors.items()
    for name, x in tensors.items():
        if x.shape != last.shape or x.numel() == 0 or x.ndim == 0:
            raise InvalidArgument(
                explain(
                    f"{name} and {last_name} must have the same shape, with at least one row.",
                    got=f"{name}: {describe(x)}; {last_name}: {describe(last)}",
                    cause="targets (B,) beside predictions (B, 1), or an empty calibration split",
                    fix=f"{name}.reshape({tuple(last.shape)})",
                )
            )
        if not bool(x.isfinite().all()):
            raise NotFinite(
                explain(
                    f"{name} must be finite.",
                    got=f"NaN or infinity at {int((~x.isfinite()).sum())} of {x.numel()} values",
                    cause="a network that diverged, or missing targets coded as NaN",
                    fix=f"leave these rows out of every tensor: keep = {name}.isfinite()",
                )
            )
    return [x.detach().to(accumulator(x.device)) for x in tensors.values()]


def require_positive(x: Tensor, name: str) -> None:
    """Raise `InvalidArgument` unless every value is above 0."""
    if not bool((x > 0).all()):
        raise InvalidArgument(
            explain(
                f"{name} must be positive.",
                got=f"values down to {float(x.amin()):.4g}",
                cause="a log-variance in place of a variance, or a predictive without observation noise",
                fix="log_variance.exp(), or declare the noise: Mean(noise_variance=...)",
            )
        )


def require_alpha(value: float, name: str = "alpha") -> None:
    """Raise `InvalidArgument` unless `value` lies between 0 and 1, both excluded."""
    if not 0 < value < 1:
        raise InvalidArgument(
            explain(
                f"{name} must lie between 0 and 1, both excluded.",
                got=f"{name}={value!r}",
                cause="a share in percent",
                fix=f"{name}=0.1",
            )
        )


def require_at_least_zero(value: float, name: str) -> None:
    """Raise `InvalidArgument` unless `value` is at least 0."""
    if not value >= 0:
        raise InvalidArgument(
            explain(
                f"{name} must be at least 0.",
                got=f"{name}={value!r}",
                cause="the logarithm of a penalty in place of the penalty",
                fix=f"{name}=0.0",
            )
        )
