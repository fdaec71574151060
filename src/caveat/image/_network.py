"""Networks of pictures: a small residual network from scratch, or a head on the features of a frozen backbone.

Dropout begins in the last stage only, and what comes before the first dropout is computed once for all draws: a draw
costs a fraction of a pass. See "Deep Residual Learning for Image Recognition", He et al., 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caveat._estimators import SharedShape, Standardized, perceptron

_STAGES = 3


@dataclass(frozen=True, kw_only=True)
class Shape(SharedShape):
    """All that is needed to build a network; its width is the channels of the first stage, or those on features.

    Fields:
        inputs: Channels of pictures, or features of a backbone.
        pictures: Whether the network reads pictures; else it reads features.
    """

    inputs: int
    pictures: bool


class PictureNetwork(nn.Module):
    """Pictures (B, channels, H, W) uint8, or features (B, F), to logits (B, C) or means and log-variances (B, 2 D)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.body = _residual_body(shape) if shape.pictures else Standardized(shape.inputs)
        hidden = (shape.width * 2 ** (_STAGES - 1),) if shape.pictures else (shape.inputs, shape.width)
        self.head = nn.Sequential(*perceptron((*hidden, shape.outputs), shape.dropout))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns what the network says of pictures or features."""
        ready = inputs.float() / 127.5 - 1 if self.shape.pictures else inputs
        returned = self.head(self.body(ready))
        return returned / cast(Tensor, self.temperature) if self.shape.classes else returned


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip, the first with ``stride``; whole channels are dropped between them."""

    def __init__(self, inputs: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        same = inputs == width and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's features."""
        inner = self.dropout(F.relu(self.first_norm(self.first(x))))
        return F.relu(self.second_norm(self.second(inner)) + self.skip(x))


def _residual_body(shape: Shape) -> nn.Sequential:
    width = shape.width
    layers: list[nn.Module] = [
        nn.Conv2d(shape.inputs, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    for stage in range(_STAGES):
        inputs, outputs = width * 2 ** max(stage - 1, 0), width * 2**stage
        last = stage == _STAGES - 1
        layers.append(ResidualBlock(inputs, outputs, 1 if stage == 0 else 2, shape.dropout if last else 0.0))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
