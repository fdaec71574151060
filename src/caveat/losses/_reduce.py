"""Missing targets, weights and the reduction, the same for every loss.

Nothing here looks at values to decide: the losses run inside ``torch.vmap`` and ``torch.func.grad``.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from caveat._checks import describe, require_choice
from caveat.errors import InvalidArgumentError

Reduction = Literal["mean", "sum", "none"]


def check_reduction(reduction: str) -> None:
    """Raise `InvalidArgumentError` unless it is "mean", "sum" or "none"."""
    require_choice(reduction, "reduction", get_args(Reduction))


def check_target(target: Tensor, shape: torch.Size, kind: str) -> None:
    """Raise `InvalidArgumentError` unless the target has exactly this shape, with something in it."""
    if target.shape != shape or target.numel() == 0:
        raise InvalidArgumentError(
            f"The target must have {kind}, {tuple(shape)}, and at least one element.",
            got=describe(target),
            cause="targets (B,) beside predictions (B, 1), which would broadcast to (B, B)",
            fix=f"reshape it: target.reshape({tuple(shape)})",
        )


def with_mask(observed: Tensor, mask: Tensor | None) -> Tensor:
    """Where there is a target and the mask, if any, says so too.

    Raises:
        InvalidArgumentError: the mask is not boolean, or its shape is not that of the target's leading axes.
    """
    if mask is None:
        return observed
    if mask.dtype != torch.bool:
        raise InvalidArgumentError(
            "mask must be boolean: True where the target was observed.",
            got=describe(mask),
            cause="a mask of zeros and ones, or weights",
            fix="mask.bool(); weights go into weight=",
        )
    return observed & _over(mask, observed, "mask")


def reduce_loss(loss: Tensor, observed: Tensor, weight: Tensor | None, reduction: Reduction) -> Tensor:
    """Returns the weighted loss of the observed elements, reduced.

    "mean" divides by the sum of the weights of the observed elements (their number, if there are no weights), and is
    0 where nothing was observed; "none" holds 0 where the target is missing.
    """
    share = observed.to(loss.dtype)
    if weight is not None:
        share = share * _over(weight, observed, "weight").to(loss.dtype)
    weighted = loss * share
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    total = share.sum()
    return weighted.sum() / torch.where(total > 0, total, 1.0)


def _over(x: Tensor, target: Tensor, name: str) -> Tensor:
    """A tensor over the target's leading axes, with axes of one at the end."""
    if x.ndim == 0 or x.shape != target.shape[: x.ndim]:
        raise InvalidArgumentError(
            f"{name} must have the shape of the target or of its leading axes: one value per row, (B,).",
            got=f"{describe(x)} for a target of shape {tuple(target.shape)}",
            cause="a value for each class or target dimension, or another batch",
            fix=f"{name} of shape ({target.shape[0]},) for one value per row",
        )
    return x.reshape(x.shape + (1,) * (target.ndim - x.ndim))
