"""A training that is interrupted leaves the network usable and nothing of its own behind."""

from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

import caveat

X = torch.linspace(-1, 1, 40)[:, None]


class Interrupting:
    """A loss at whose ``at``-th call Ctrl-C is pressed."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, returned: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return nn.functional.mse_loss(returned, targets)


def build() -> nn.Sequential:
    # (A bias before batch normalization has no gradient but rounding, which differs in a stack on some processors.)
    return nn.Sequential(nn.Linear(1, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


def world() -> list[Any]:
    """What a training could leave changed, besides the network."""
    modes = [type(mode) for mode in _get_current_function_mode_stack()]
    numpy = np.random.get_state()  # noqa: NPY002  # what a network of the user's could draw from
    states = [random.getstate(), tuple(numpy[1]), torch.get_rng_state().tolist()]
    return [torch.is_grad_enabled(), modes, *states]


@pytest.mark.parametrize("at", [1, 2, 3, 7, 20])
def test_an_interrupted_fit_leaves_a_network_of_its_own(at: int) -> None:
    torch.manual_seed(0)
    network, before = build(), world()
    held = list(network.parameters())
    with pytest.raises(KeyboardInterrupt):
        caveat.fit(network, Interrupting(at), (X, X**2), epochs=30, batch_size=16, progress=False)
    assert world() == before
    assert all(now is then for now, then in zip(network.parameters(), held, strict=True))
    tensors = [*network.parameters(), *network.buffers()]
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)  # none is part of a stack
    assert all(parameter.grad is None for parameter in network.parameters())
    fitted = caveat.fit(network, nn.MSELoss(), (X, X**2), epochs=2, progress=False)
    assert not fitted.model.training


@pytest.mark.parametrize("at", [2, 9, 30])
@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_an_interrupted_ensemble_leaves_nothing_behind(at: int, backend: Literal["vectorized", "loop"]) -> None:
    before = world()
    with pytest.raises(KeyboardInterrupt):
        caveat.fit_ensemble(
            build, Interrupting(at), (X, X**2), members=3, epochs=30, batch_size=16, backend=backend, progress=False
        )
    assert world() == before
    fitted = caveat.fit_ensemble(build, nn.MSELoss(), (X, X**2), members=2, epochs=2, progress=False)
    assert len(fitted) == 2
