"""Small networks on a line that are trained a few steps at a time, and what can be changed while they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from caveat._seeds import fold_in
from caveat.losses import beta_nll

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "tanh": torch.tanh,
    "gelu": gelu,
    "sine": torch.sin,
}
USUAL_NOISE = 0.15
"""Standard deviation that the noise is drawn to where no point says anything of it."""
_NOISE_WEIGHT = 0.02
_LEARNING_RATE, _WEIGHT_DECAY = 0.008, 1e-3


class LineNetwork(nn.Module):
    """Two hidden layers, each followed by dropout: x (B, 1) to mean and log-variance (B, 2).

    The input is divided by a length-scale, which is the same as a prior on the first weights of that scale; it, the
    non-linearity and the rate may change between two steps of training.

    See "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", Gal and Ghahramani,
    2016.

    Example:
        >>> LineNetwork(8)(torch.zeros(3, 1)).shape
        torch.Size([3, 2])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(1, width), nn.Linear(width, width), nn.Linear(width, 2)
        self.drop_first, self.drop_second = nn.Dropout(0.0), nn.Dropout(0.0)
        self.nonlinearity = relu
        self.length_scale = 1.0
        nn.init.normal_(self.first.weight)
        nn.init.uniform_(self.first.bias, -3, 3)

    def adapt(self, nonlinearity: str, rate: float, length_scale: float) -> None:
        """Takes other settings, and keeps the weights."""
        self.nonlinearity, self.length_scale = NONLINEARITIES[nonlinearity], length_scale
        self.drop_first.p = self.drop_second.p = rate

    def forward(self, x: Tensor) -> Tensor:
        """Returns mean and log-variance, (B, 2)."""
        hidden = self.drop_first(self.nonlinearity(self.first(x / self.length_scale)))
        return self.head(self.drop_second(self.nonlinearity(self.second(hidden))))


@dataclass(frozen=True, eq=False)
class Member:
    """A network and what trains it."""

    network: LineNetwork
    optimizer: torch.optim.Optimizer


def make_members(count: int, width: int, seed: int) -> list[Member]:
    """Returns networks with first weights of their own, and their optimizers; the global random state stays."""
    members: list[Member] = []
    for number in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold_in(seed, "first weights", number))
            network = LineNetwork(width)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        members.append(Member(network.eval(), optimizer))
    return members


def train_steps(member: Member, x: Tensor, y: Tensor, grid: Tensor, steps: int) -> float:
    """Takes steps on all points at once, with dropout on, and returns the last loss, beta-NLL.

    Args:
        member: Network and optimizer.
        x: Inputs (N, 1).
        y: Targets (N, 1).
        grid: Where the noise is drawn to the usual one, (G, 1).
        steps: Number of steps, at least 1.
    """
    usual = 2 * torch.tensor(USUAL_NOISE).log()
    loss = torch.zeros(())
    member.network.train()
    for _ in range(steps):
        member.optimizer.zero_grad()
        returned = member.network(torch.cat([x, grid]))
        loss = beta_nll(returned[: len(x)], y)
        pulled = (returned[len(x) :, 1] - usual).square().mean()
        (loss + _NOISE_WEIGHT * pulled).backward()
        nn.utils.clip_grad_norm_(member.network.parameters(), 5.0)
        member.optimizer.step()
    member.network.eval()
    return float(loss.detach())
