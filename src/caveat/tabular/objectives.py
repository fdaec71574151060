"""What networks of tables are trained on, and stopped by."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from caveat.tabular.network import Shape
from caveat.train import objectives


def loss_of(shape: Shape, weighted: bool) -> Any:
    """The loss of the method, with or without weights beside the targets."""
    if shape.method == "sngp" and not shape.classes:
        return _weighted_square if weighted else nn.MSELoss()
    return objectives.loss_of(shape.classes, weighted)


def _weighted_square(returned: Tensor, targets: Any) -> Tensor:
    values, weights = targets
    return ((returned - values).square().mean(1) * weights).mean()
