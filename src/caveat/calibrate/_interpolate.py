"""A piecewise linear map through knots, flat beyond the first and the last."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """y at `values` (...), of knots x (K,), not falling, and y (K,); where knots coincide the last counts.

    Example:
        >>> interpolate(torch.tensor([-1.0, 0.5, 9.0]), torch.tensor([0.0, 1.0]), torch.tensor([2.0, 4.0]))
        tensor([2., 3., 4.])
    """
    if len(x) == 1:
        return y[0].expand(values.shape)
    right = torch.searchsorted(x, values.contiguous(), right=True).clamp(1, len(x) - 1)
    left = right - 1
    width = x[right] - x[left]
    part = ((values - x[left]) / torch.where(width > 0, width, 1.0)).clamp(0, 1)
    part = torch.where(width > 0, part, (values >= x[right]).to(part.dtype))
    return y[left] + part * (y[right] - y[left])
