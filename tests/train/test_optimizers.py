"""Another optimizer than AdamW, and a schedule of its learning rate: torch's own numbers, also when resumed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from caveat.errors import InvalidArgumentError
from caveat.train import Run, fit, fit_ensemble, fit_many

from .networks import distance, mlp, regression
from .test_resume import Stopped, stop_after

LOSS = nn.MSELoss()
EPOCHS = 20


def momentum(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01, amsgrad=True)


def cosine(t: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * t))


@pytest.mark.parametrize("make", [momentum, adam, None], ids=["momentum", "adam", "adamw"])
@pytest.mark.parametrize("schedule", [None, cosine], ids=["constant", "cosine"])
def test_full_batches_are_torchs_plain_loop(make: Any, schedule: Any) -> None:
    x, y = regression()
    ours, theirs = (mlp(0.0) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    settings = {"epochs": EPOCHS, "batch_size": len(x), "validation": None, "learning_rate": 0.01}
    fit(ours, LOSS, (x, y), optimizer=make, schedule=schedule, **settings)
    parameters = list(theirs.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01) if make is None else make(parameters)
    rates = [group["lr"] for group in optimizer.param_groups]
    for epoch in range(EPOCHS):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1.0 if schedule is None else schedule(epoch / EPOCHS))
        optimizer.zero_grad()
        LOSS(theirs(x), y).backward()
        optimizer.step()
    assert distance(ours, theirs) < 1e-9
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_a_schedule_in_a_stack_is_that_of_single_runs() -> None:
    settings: dict[str, Any] = {"members": 3, "epochs": 6, "batch_size": 32, "schedule": cosine, "seed": 2}
    stacked = fit_ensemble(mlp, LOSS, regression(), backend="vectorized", **settings)
    loop = fit_ensemble(mlp, LOSS, regression(), backend="loop", **settings)
    constant = fit_ensemble(mlp, LOSS, regression(), backend="loop", **{**settings, "schedule": None})
    assert max(distance(a, b) for a, b in zip(stacked, loop, strict=True)) < 1e-9
    assert min(distance(a, b) for a, b in zip(loop, constant, strict=True)) > 1e-6


def test_runs_of_other_lengths_have_each_its_own_schedule() -> None:
    runs = [Run(mlp, regression(), seed=seed, epochs=epochs, schedule=cosine) for seed, epochs in enumerate((3, 6, 3))]
    fits = fit_many(runs, LOSS)
    assert [found.epochs for found in fits] == [3, 6, 3]
    alone = [fit_many([run], LOSS)[0] for run in runs]
    assert max(distance(a.model, b.model) for a, b in zip(fits, alone, strict=True)) < 1e-9


def test_an_optimizer_of_ones_own_trains_members_in_a_loop() -> None:
    settings: dict[str, Any] = {"members": 2, "epochs": 25, "batch_size": 32, "optimizer": momentum}
    assert fit_ensemble(mlp, LOSS, regression(), **settings).backend == "loop"
    with pytest.raises(InvalidArgumentError, match="AdamW alone"):
        fit_ensemble(mlp, LOSS, regression(), backend="vectorized", **settings)


@pytest.mark.parametrize("make", [momentum, adam, None], ids=["momentum", "adam", "adamw"])
def test_stopped_and_resumed(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.safetensors"
    settings: dict[str, Any] = {"epochs": 9, "batch_size": 32, "optimizer": make, "schedule": cosine}
    unbroken, broken = mlp(), mlp()
    broken.load_state_dict(unbroken.state_dict())
    again = mlp()
    again.load_state_dict(unbroken.state_dict())
    history = fit(unbroken, LOSS, regression(), **settings).history
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Stopped):
            fit(broken, LOSS, regression(), checkpoint=path, **settings)
    assert fit(again, LOSS, regression(), checkpoint=path, **settings).history == history
    assert distance(again, unbroken) == 0
    with pytest.raises(InvalidArgumentError, match="schedule"):
        fit(mlp(), LOSS, regression(), checkpoint=path, **{**settings, "schedule": None})


def test_what_is_no_factory() -> None:
    with pytest.raises(InvalidArgumentError, match="optimizer must be a factory"):
        fit(mlp(), LOSS, regression(), epochs=1, optimizer=lambda parameters: 0.1)  # type: ignore[arg-type, return-value]
