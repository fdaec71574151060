"""Gradients of draws are those of the draws also where a part of the network would be computed anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import checkpoint

import caveat


class Checkpointed(nn.Module):
    """A part with dropout under checkpointing of the kind ``reentrant``; None: under none."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.first, self.last, self.reentrant = nn.Linear(5, 16), nn.Linear(16, 2), reentrant
        self.part = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = (
            self.part(h)
            if self.reentrant is None
            else checkpoint.checkpoint(self.part, h, use_reentrant=self.reentrant)
        )
        return self.last(h)


@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("sampler_of", [caveat.mc_dropout, lambda model, **s: caveat.ensemble([model.train()], **s)])
def test_gradients_of_draws_are_those_without_checkpointing(sampler_of: Any, reentrant: bool, backend: Any) -> None:
    network, x = Checkpointed(None).eval(), torch.randn(3, 5)
    before = checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator
    found = list[Tensor]()
    for network.reentrant in (None, reentrant):
        inputs = x.clone().requires_grad_()
        sampler = sampler_of(network, output=caveat.Mean(), backend=backend)
        size = {} if sampler.size else {"n": 4}
        caveat.draws(sampler, inputs, gradient=True, **size).square().sum().backward()
        assert inputs.grad is not None
        found.append(inputs.grad)
    torch.testing.assert_close(*found)
    assert before == (checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator)
