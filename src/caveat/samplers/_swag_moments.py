"""Mean, variance and last deviations of a network's weights along its training, collected in any loop."""

from __future__ import annotations

import copy
from collections import deque

import torch
from torch import Tensor, nn

from caveat._checks import require_integer, require_model
from caveat.errors import InvalidArgumentError


class SwagMoments:
    """What SWAG keeps of a training run. Call ``update`` once an epoch, from when the learning rate is constant.

    Mean and variance are kept in float64 by Welford's update, the deviations in the network's own precision: as much
    memory as rank + 4 copies of the network, whatever the number of updates.

    Args:
        model: The network that is trained.
        rank: Number K of last deviations to keep; 0 for the diagonal alone.

    Raises:
        InvalidArgumentError: not a network, one without parameters, or a negative rank.

    See "A Simple Baseline for Bayesian Uncertainty in Deep Learning", Maddox et al., 2019, algorithm 1.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> moments = SwagMoments(network, rank=3)
        >>> for epoch in range(5):
        ...     _ = nn.init.constant_(network.weight, float(epoch))
        ...     moments.update()
        >>> moments.count, moments.mean["weight"].tolist(), moments.variance("weight").tolist()
        (5, [[2.0, 2.0]], [[2.0, 2.0]])
    """

    def __repr__(self) -> str:
        return f"SwagMoments(count={self.count}, rank={self.rank})"

    def __init__(self, model: nn.Module, rank: int = 20) -> None:
        require_model(model)
        if not any(True for _ in model.parameters()):
            raise _invalid(f"{type(model).__name__}", "pass the network itself, not its parameters")
        require_integer(rank, "rank", 0, fix="rank=20, or 0 for the diagonal alone")
        complex_valued = [name for name, parameter in model.named_parameters() if parameter.is_complex()]
        if complex_valued:
            raise _invalid(f"complex weights: {', '.join(complex_valued)}", "SWAG is of real weights: caveat.ensemble")
        self._network = model
        self.count = 0
        self.rank = rank
        self.mean: dict[str, Tensor] = {}
        self.deviations: dict[str, deque[Tensor]] = {}
        self._squares: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point():
                self.mean[name] = torch.zeros_like(parameter, dtype=torch.float64, requires_grad=False)
                self._squares[name] = torch.zeros_like(self.mean[name])
                self.deviations[name] = deque(maxlen=rank)

    @torch.no_grad()
    def update(self, model: nn.Module | None = None) -> None:
        """Adds the current weights; those of ``model``, if given, in place of the network that is watched.

        Raises:
            InvalidArgumentError: weights of other shapes, or not finite.
        """
        given = dict((self._network if model is None else model).named_parameters())
        if any(name not in given or given[name].shape != mean.shape for name, mean in self.mean.items()):
            raise _invalid("a network with other parameters", "pass snapshots of one network")
        if not all(bool(given[name].isfinite().all()) for name in self.mean):
            raise _invalid("weights that are not finite", "lower the learning rate: training has diverged")
        self.count += 1
        for name, mean in self.mean.items():
            value = given[name].detach().to(mean.device, torch.float64)
            apart = value - mean
            mean += apart / self.count
            self._squares[name] += apart * (value - mean)
            self.deviations[name].append((value - mean).to(given[name].dtype))

    def variance(self, name: str) -> Tensor:
        """The variance of a parameter over the updates, in float64; divided by their number, as in the paper."""
        return self._squares[name] / max(self.count, 1)

    def frozen(self, network: nn.Module) -> SwagMoments:
        """The same numbers, of ``network``, which further updates of these leave alone."""
        own = copy.copy(self)
        own._network = network
        own.mean = {name: mean.clone() for name, mean in self.mean.items()}
        own._squares = {name: squares.clone() for name, squares in self._squares.items()}
        own.deviations = {name: deviations.copy() for name, deviations in self.deviations.items()}
        return own

    def check(self, network: nn.Module, *, varied: bool = True) -> None:
        """Raises ``InvalidArgumentError`` unless there are two updates at least, of a network like this one.

        Where they are ``varied``, they must differ too.
        """
        if self.count < 2:
            raise _invalid(f"{self.count} update(s)", "call update() once an epoch, over ten epochs or more")
        if varied and not any(bool(squares.any()) for squares in self._squares.values()):
            fix = "append copy.deepcopy(network.state_dict()), as a state dict follows the network that it is of"
            raise _invalid(f"{self.count} times the same weights", fix)
        own = dict(network.named_parameters())
        if any(name not in own or own[name].shape != mean.shape for name, mean in self.mean.items()):
            raise _invalid("moments of another network", "pass the network that was trained")


def _invalid(got: str, fix: str) -> InvalidArgumentError:
    rule = "SWAG needs the weights of one network at two moments of its training, at least."
    return InvalidArgumentError(rule, got=got, cause="moments that were never updated, or mixed up", fix=fix)
