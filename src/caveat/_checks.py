"""What every metric asks of its tensors: rows that belong together, real probabilities, labels in range, no NaN."""

from __future__ import annotations

import torch
from torch import Tensor

from caveat._shapes import describe, require_finite, require_floating, require_rows
from caveat.errors import InvalidArgumentError, NotProbabilitiesError, explain

_SUM_TOLERANCE = 1e-3
_LEAST_PROBABILITY = -1e-6


def classified(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) in their own dtype and labels (N,) int64, batch axes flattened, both checked.

    Raises:
        InvalidArgumentError: shapes that do not fit, no row, fewer than two classes, or a label that is no class.
        NotFiniteError: NaN among the probabilities.
        NotProbabilitiesError: negative values, or rows that do not sum to one within 1e-3.
    """
    p, y = with_labels(probabilities, labels, "probabilities")
    _check_probabilities(p)
    return p, y


def with_labels(scores: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Scores (N, C) and labels (N,) int64 whose shapes fit and whose labels are classes; values are not looked at."""
    require_rows(scores, name)
    require_floating(scores, name, cause="class numbers in place of their scores", fix="pass (B, C) floats")
    if scores.ndim < 2 or scores.shape[:-1] != labels.shape:
        raise InvalidArgumentError(
            explain(
                f"{name} must be (B..., C) and labels (B...).",
                got=f"{name}: {describe(scores)}; labels: {describe(labels)}",
                cause="one-hot labels, the two arguments the wrong way round, or a binary probability without its "
                "class axis",
                fix="labels.argmax(-1) for one-hot labels; torch.stack((1 - p, p), -1) for the probability of yes",
            )
        )
    C = scores.shape[-1]
    y = labels.reshape(-1)
    if C < 2 or y.is_floating_point() or y.is_complex():
        raise InvalidArgumentError(
            explain(
                "There must be at least two classes, and labels must be integers.",
                got=f"{name}: {describe(scores)}; labels: {describe(labels)}",
                cause="a single column of the probability of yes, or labels read as floats",
                fix="torch.stack((1 - p, p), -1); labels.long()",
            )
        )
    y = y.to(scores.device, torch.int64)
    low, high = int(y.amin()), int(y.amax())
    if low < 0 or high >= C:
        raise InvalidArgumentError(
            explain(
                f"Labels must be class numbers, 0 to {C - 1}.",
                got=f"labels from {low} to {high}",
                cause="classes numbered from 1, or an ignore index such as -1 or 255",
                fix="labels - 1, or leave those rows out: keep = labels >= 0",
            )
        )
    return scores.reshape(-1, C), y


def _check_probabilities(p: Tensor) -> None:
    sums = p.sum(-1, dtype=torch.promote_types(p.dtype, torch.float32))
    least, low, high = float(p.amin()), float(sums.amin()), float(sums.amax())
    if low != low or high != high or abs(low) == float("inf") or abs(high) == float("inf"):
        require_finite(p, "probabilities")
    tolerance = max(_SUM_TOLERANCE, torch.finfo(p.dtype).eps)
    if least < _LEAST_PROBABILITY or max(high - 1, 1 - low) > tolerance:
        raise NotProbabilitiesError(
            explain(
                f"Probabilities must be at least 0 and sum to 1 within {tolerance:.2g} over the last axis.",
                got=f"smallest value {least:.4g}; sums {low:.4g} to {high:.4g}",
                cause="logits were passed, or the classes lie along another axis",
                fix="logits.softmax(-1), or probabilities.movedim(1, -1)",
            )
        )


def require_count(value: int, name: str, at_least: int) -> None:
    """Raise `InvalidArgumentError` unless `value` is an integer of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidArgumentError(
            explain(
                f"{name} must be an integer of at least {at_least}.",
                got=f"{name}={value!r}",
                cause="a computed number that came out as nothing, or a float",
                fix=f"{name}=15",
            )
        )
