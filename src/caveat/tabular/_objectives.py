"""What networks of tables are trained on, and stopped by."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from caveat._estimators import loss_of as loss_of_kind
from caveat.tabular._network import Shape


def loss_of(shape: Shape, weighted: bool) -> Any:
    """The loss of the method, with or without weights beside the targets."""
    if shape.method == "sngp" and not shape.classes:
        return _weighted_square if weighted else nn.MSELoss()
    return loss_of_kind(shape.classes, weighted)


def _weighted_square(returned: Tensor, targets: Any) -> Tensor:
    values, weights = targets
    return ((returned - values).square().mean(1) * weights).mean()
