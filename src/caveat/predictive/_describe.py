"""The one line that a predictive prints as."""

from __future__ import annotations

import torch
from torch import Tensor


def draws_text(count: Tensor) -> str:
    """How many draws, as `100`, or as `20..100` where rows differ.

    Example:
        >>> draws_text(torch.tensor([20, 100, 40]))
        '20..100'
    """
    if count.numel() == 0:
        return "0"
    least, most = int(count.min()), int(count.max())
    return str(least) if least == most else f"{least}..{most}"


def describe_predictive(kind: str, *, kept: bool, count: Tensor, dtype: torch.dtype, **axes: object) -> str:
    """`Kind(batch=(31,), classes=10, draws=100, float32)`."""
    parts = [f"{name}={value}" for name, value in axes.items()]
    parts += [f"draws={draws_text(count)}{' (kept)' if kept else ''}", str(dtype).removeprefix("torch.")]
    return f"{kind}({', '.join(parts)})"
