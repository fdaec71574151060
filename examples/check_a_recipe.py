"""The doctor: what two recipes for Monte-Carlo dropout do to a network with batch normalization.

Run: python examples/check_a_recipe.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat


class Net(nn.Module):
    """Batch normalization, a dropout module, and dropout as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2))
        self.hidden, self.head = nn.Linear(64, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(self.body(x)).relu()
        return self.head(F.dropout(hidden, 0.4, self.training))


def train_mode(model: nn.Module, x: Tensor) -> Tensor:
    """The whole network in train mode: batch normalization comes along."""
    model.train()
    with torch.no_grad():
        return torch.stack([model(x) for _ in range(50)])


def switch_modules(model: nn.Module, x: Tensor) -> Tensor:
    """Dropout modules alone: the function stays silent."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        outputs = torch.stack([model(x) for _ in range(50)])
    model.eval()
    return outputs


def main() -> None:
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(16, 8)
    for recipe in (train_mode, switch_modules):
        print(f"== {recipe.__name__}\n{caveat.doctor(model, x, recipe)}\n")


if __name__ == "__main__":
    main()
