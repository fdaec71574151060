"""What a two-headed network returned, as two tensors of one shape: a pair, or one tensor split in halves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from caveat._checks import describe, require_floating
from caveat.errors import OutputMismatchError, explain


def split_pair(returned: Any, *, dim: int, names: str) -> tuple[Tensor, Tensor]:
    """Both heads, in single precision at least.

    Args:
        returned: (first, second), or one tensor with the first half of axis `dim` first.
        dim: the axis of one tensor that holds both.
        names: what the two are, for the message.

    Raises:
        OutputMismatchError: not two floating-point tensors, nor one whose axis `dim` has an even size.
    """
    if isinstance(returned, Tensor):
        if returned.ndim < 2 or returned.shape[dim] % 2 or returned.numel() == 0:
            raise OutputMismatchError(_not_a_pair(names, describe(returned)))
        first, second = returned.chunk(2, dim)
    else:
        items = cast("Sequence[Any]", returned) if isinstance(returned, tuple | list) else ()
        if len(items) != 2 or not all(isinstance(item, Tensor) for item in items):
            kinds = [type(item).__name__ for item in items]
            raise OutputMismatchError(_not_a_pair(names, f"parts {kinds}" if items else repr(cast(object, returned))))
        first, second = cast("Sequence[Tensor]", items)
    for part in (first, second):
        require_floating(
            part,
            f"Each of {names}",
            cause="class numbers or a target in place of what the network returns",
            fix="pass what the network returned first, then the target",
            error=OutputMismatchError,
        )
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    return first.to(dtype), second.to(dtype)


def _not_a_pair(names: str, got: str) -> str:
    return explain(
        f"This loss reads {names}: a pair of tensors, or one tensor that holds both halves on one axis.",
        got=got,
        cause="a network with one head, or one output too few for two halves",
        fix="end the network in caveat.layers.MeanAndLogVarianceHead or LogitsAndLogVarianceHead",
    )
