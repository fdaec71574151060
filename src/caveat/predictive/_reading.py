"""Reading a return: the one tensor in it, its class axis moved last, a pair stacked. Nothing is guessed from values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from caveat._checks import describe, require_floating, require_integer, require_rank
from caveat.errors import OutputMismatchError
from caveat.predictive._protocol import Select
from caveat.predictive._select import only_tensor, selected

_MOST_AXES = 3
"""(B, C) and (B, T, C) have the classes last; with more axes it is as likely (B, C, H, W)."""


def one_tensor(output: object, select: Select, returned: Any) -> Tensor:
    """The selected part, if it is a floating-point tensor with a batch axis."""
    bare = select is None and isinstance(returned, Tensor)
    part = returned if bare else selected(returned, select)
    x = part if isinstance(part, Tensor) else only_tensor(part, repr(output))
    _check_numbers(x, output)
    return x


def _check_numbers(x: Tensor, output: object) -> None:
    if x.is_floating_point() and x.ndim >= 1:  # before all words: they take longer than a small layer
        return
    require_floating(
        x,
        f"What {output} reads",
        cause="the network returns class indices (an argmax), or another part was meant",
        fix="return scores before argmax, or choose the part with select=",
        error=OutputMismatchError,
    )
    require_rank(
        x,
        1,
        f"What {output} reads",
        cause="the network reduces over the batch, for instance because it returns its loss",
        fix="return one value per row, or choose the part with select=",
        error=OutputMismatchError,
    )


def check_class_dim(class_dim: object) -> None:
    """Raise `InvalidArgumentError` unless it is an integer or None."""
    fix = "Logits(class_dim=1) for (B, C, H, W), Logits() where classes are last"
    cause = "the number of classes or a name was passed, or a float"
    require_integer(class_dim, "class_dim", optional=True, cause=cause, fix=fix)


def classes_last(x: Tensor, class_dim: int | None, output: object) -> Tensor:
    """Scores with the class axis moved last, after checks of that axis."""
    if class_dim is None and 2 <= x.ndim <= _MOST_AXES and x.shape[-1] >= 2:  # before all words, see _check_numbers
        return x
    require_rank(
        x,
        2,
        f"What {output} reads",
        cause="a yes-or-no network that returns one logit per row, or a missing batch axis",
        fix="declare output=BinaryLogit(), or add the batch axis: x[None]",
        error=OutputMismatchError,
    )
    if class_dim is None and x.ndim > _MOST_AXES:
        name = type(output).__name__
        raise OutputMismatchError(
            "The class axis of values with four or more axes must be said.",
            got=f"{describe(x)}, and no class_dim",
            cause="a network for images, whose classes are on axis 1: (B, C, H, W)",
            fix=f"output=caveat.{name}(class_dim=1), or class_dim=-1 where classes are last",
        )
    class_dim = -1 if class_dim is None else class_dim
    axis = class_dim + x.ndim if class_dim < 0 else class_dim
    if not 0 < axis < x.ndim:
        raise OutputMismatchError(
            "class_dim must name an axis of the output that is not the batch axis 0.",
            got=f"class_dim={class_dim} for {describe(x)}",
            cause="the axis counted without the batch axis",
            fix="Logits(class_dim=1) for (B, C, H, W), Logits() where classes are last",
        )
    if x.shape[axis] < 2:
        raise OutputMismatchError(
            f"{output} reads at least two classes.",
            got=f"{describe(x)} with {x.shape[axis]} along axis {class_dim}",
            cause="a yes-or-no network that returns one logit per row",
            fix="declare output=BinaryLogit(); of one probability p return torch.cat([1 - p, p], -1)",
        )
    return x.movedim(axis, -1)


def stacked_pair(part: Any, output: object) -> Tensor:
    """A pair of tensors, or the halves of one tensor's last axis, stacked as (B..., D, 2)."""
    if isinstance(part, Tensor):
        _check_numbers(part, output)
        if part.ndim > _MOST_AXES:
            raise OutputMismatchError(
                f"{output} must be given a pair where values have four or more axes.",
                got=f"one tensor of {describe(part)}, whose halves could be along any axis",
                cause="a network for images, with means and variances on axis 1: (B, 2D, H, W)",
                fix=f"{type(output).__name__}(select=lambda out: out.chunk(2, 1)), or chunk(2, -1)",
            )
        if part.ndim >= 2 and part.shape[-1] == 2:
            return part.unsqueeze(-2)
        if part.ndim < 2 or part.shape[-1] % 2 or part.shape[-1] == 0:
            raise _pair_mismatch(output, describe(part))
        return torch.stack(part.chunk(2, -1), -1)
    items = cast("Sequence[Any]", part) if isinstance(part, tuple | list) else ()
    if len(items) != 2 or not all(isinstance(item, Tensor) for item in items):
        only_tensor(part, repr(output))
    mean, spread = cast("Sequence[Tensor]", items)
    _check_numbers(mean, output)
    _check_numbers(spread, output)
    if mean.shape != spread.shape:
        raise _pair_mismatch(output, f"{describe(mean)} and {describe(spread)}")
    dtype = torch.promote_types(mean.dtype, spread.dtype)
    return torch.stack([mean.to(dtype), spread.to(dtype)], -1)


def _pair_mismatch(output: object, got: str) -> OutputMismatchError:
    return OutputMismatchError(
        f"{output} reads a pair of one shape (B..., D), or one tensor (B..., 2D) with the means first.",
        got=got,
        cause="a network that returns means only, or one variance for several targets",
        fix="declare output=Mean(noise_variance=...), or expand the variance to the mean's shape",
    )
