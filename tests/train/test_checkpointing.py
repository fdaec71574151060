"""A network whose parts are computed anew on the way back learns what it learns without that."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from caveat.errors import InvalidArgumentError
from caveat.train import fit, fit_ensemble

from .networks import regression

LOSS = nn.MSELoss()
SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 20, "learning_rate": 0.01, "seed": 3, "progress": False}


class Checkpointed(nn.Module):
    """Two parts with dropout inside, under checkpointing of the kind ``reentrant``; None: under none."""

    def __init__(self, reentrant: bool | None, nested: bool = False) -> None:
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(5, 16), nn.Linear(16, 1), nn.Dropout(0.2)
        self.part = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.3))
        self.reentrant, self.nested = reentrant, nested

    def anew(self, h: Tensor) -> Tensor:
        return self.drop(self.run(self.part, h) if self.nested else self.part(h))

    def run(self, part: Any, h: Tensor) -> Tensor:
        return part(h) if self.reentrant is None else checkpoint.checkpoint(part, h, use_reentrant=self.reentrant)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.first(x))
        return self.last(self.drop(self.run(self.anew, self.run(self.anew, h))))


@pytest.mark.parametrize("adversarial", [None, 0.02])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_changes_no_weight(reentrant: bool, nested: bool, adversarial: float | None) -> None:
    plain = Checkpointed(None, nested)
    network = copy.deepcopy(plain)
    network.reentrant = reentrant
    before = checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator
    for each in (plain, network):
        fit(each, LOSS, regression(), adversarial=adversarial, **SETTINGS)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, msg=name)
    assert before == (checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator)


@pytest.mark.parametrize("reentrant", [False, True])
def test_members_under_checkpointing_are_trained_one_by_one(reentrant: bool) -> None:
    members = fit_ensemble(lambda: Checkpointed(reentrant), LOSS, regression(), members=2, **SETTINGS)
    plain = fit_ensemble(lambda: Checkpointed(None), LOSS, regression(), members=2, **SETTINGS)
    assert members.backend == "loop"
    for one, other in zip(members, plain, strict=True):
        for value, expected in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(InvalidArgumentError, match="recomputed in the backward pass"):
        fit_ensemble(lambda: Checkpointed(reentrant), LOSS, regression(), members=2, backend="vectorized", **SETTINGS)
