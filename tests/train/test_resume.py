"""Killed and started again: the result of an unbroken run, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from caveat.errors import InvalidArgumentError
from caveat.train import fit, fit_ensemble
from caveat.train._checkpoint import Checkpoint
from caveat.train._settings import describe_setting

from .networks import distance, mlp, regression, with_batch_norm

LOSS = nn.MSELoss()
KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
import torch
from torch import nn
from caveat import _progress
from caveat.train import _checkpoint as checkpoint, fit_ensemble
from train.networks import regression, with_batch_norm
checkpoint._LEAST_SECONDS, _progress._SHARE = 0.0, 0
def slow(returned, target):
    time.sleep(0.002)
    return nn.functional.mse_loss(returned, target)
networks = fit_ensemble(with_batch_norm, slow, regression(), members=2, epochs=60, batch_size=16, patience=None,
    seed=3, checkpoint={path!r}, backend={backend!r})
torch.save([network.state_dict() for network in networks], {path!r} + "/result.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_killed_in_the_middle_and_started_again(tmp_path: Path, *, backend: str) -> None:
    results: list[Any] = []
    for name, kill in (("unbroken", False), ("killed", True)):
        folder = tmp_path / name
        code = KILLED.format(folder=str(Path(__file__).parent.parent), path=str(folder), backend=backend)
        if kill:
            process = subprocess.Popen([sys.executable, "-c", code])
            while not list(folder.glob("run*.safetensors")):
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        subprocess.run([sys.executable, "-c", code], check=True)
        results.append(torch.load(folder / "result.pt", weights_only=True))
    for a, b in zip(*results, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


class Stopped(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Every epoch is kept, and the run ends after some."""
    save = Checkpoint.save

    def saved(self: Checkpoint, training: Any) -> None:
        self._rhythm._due = 0.0
        save(self, training)
        if training.epoch == epochs:
            raise Stopped

    monkeypatch.setattr(Checkpoint, "save", saved)


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_stopped_at_any_epoch_and_taken_up(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where some members have stopped early before."""
    settings: dict[str, Any] = {
        "members": 4, "epochs": 25, "batch_size": 32, "patience": 3, "learning_rate": 0.05, "seed": 1,
        "backend": "vectorized",
    }  # fmt: skip
    unbroken = fit_ensemble(mlp, LOSS, regression(), **settings)
    with monkeypatch.context() as patch:
        stop_after(patch, stop)
        with pytest.raises(Stopped):
            fit_ensemble(mlp, LOSS, regression(), checkpoint=tmp_path, **settings)
    resumed = fit_ensemble(mlp, LOSS, regression(), checkpoint=tmp_path, **settings)
    assert [found.history for found in resumed.fits] == [found.history for found in unbroken.fits]
    assert all(distance(a, b) == 0 for a, b in zip(resumed, unbroken, strict=True))


class Counting(nn.Module):
    """What counts its passes, in a number, a list, a plain tensor and a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.passes, self.seen, self.trend, self.notes = mlp(), 0, [], torch.zeros(()), {"passes": 0.0}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.passes += 1
            self.seen.append(len(x))
            self.trend = 0.9 * self.trend + 0.1 * x.mean().detach()
            self.notes["passes"] += 0.5
        scale = 1 + 0.01 * (self.passes + len(self.seen) + self.notes["passes"])
        return self.network(x) * scale + self.trend


class Annealed(nn.Module):
    """A loss whose weight grows with every call, as that of a divergence may."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("total", torch.zeros(()))

    def forward(self, returned: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.total += 0.01
        return (1 + 0.01 * self.calls + self.total) * LOSS(returned, targets)


class AnnealedFunction:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, returned: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (1 + 0.01 * self.calls) * LOSS(returned, targets)


@pytest.mark.parametrize("make_loss", [lambda: LOSS, Annealed, AnnealedFunction])
@pytest.mark.parametrize("build", [mlp, Counting])
def test_what_is_counted_in_attributes_is_kept(
    build: Any, make_loss: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"members": 2, "epochs": 5, "batch_size": 32, "seed": 1, "backend": "loop"}
    unbroken = fit_ensemble(build, make_loss(), regression(), **settings)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            fit_ensemble(build, make_loss(), regression(), checkpoint=tmp_path, **settings)
    resumed = fit_ensemble(build, make_loss(), regression(), checkpoint=tmp_path, **settings)
    assert [found.history for found in resumed.fits] == [found.history for found in unbroken.fits]
    assert all(distance(a, b) == 0 for a, b in zip(resumed, unbroken, strict=True))


def test_a_finished_run_is_read_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    first, again = with_batch_norm(), with_batch_norm()
    found = fit(first, LOSS, regression(), epochs=3, checkpoint=path)
    assert fit(again, LOSS, regression(), epochs=3, checkpoint=path).history == found.history
    assert distance(first, again) == 0


def test_a_checkpoint_is_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    network = fit(with_batch_norm(), LOSS, regression(), epochs=2, checkpoint=path).model
    tensors = safetensors.torch.load_file(path)
    assert torch.equal(tensors["member.0.0"], network[0].weight.detach())
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


@pytest.mark.parametrize(
    ("build", "rows", "changed", "named"),
    [
        (with_batch_norm, 120, {}, "network"),
        (lambda: mlp(0.3), 120, {}, "network"),
        (mlp, 119, {}, "data"),
        (mlp, 120, {"learning_rate": 0.5}, "learning_rate"),
        (mlp, 120, {"epochs": 9}, "epochs"),
        (mlp, 120, {"validation_loss": nn.L1Loss()}, "validation_loss"),
    ],
)
def test_a_checkpoint_of_another_training_is_named(
    build: Any, rows: int, changed: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    fit(mlp(), LOSS, regression(), epochs=2, checkpoint=path)
    with pytest.raises(InvalidArgumentError, match=named):
        fit(build(), LOSS, regression(rows), **{"epochs": 2, **changed}, checkpoint=path)


def l1(factor: float) -> Any:
    return lambda network: factor * sum(p.abs().sum() for p in network.parameters())


def sgd(rate: float) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


class Scaled:
    """A loss that is an object, and reads its factor in a method."""

    def __init__(self, factor: float) -> None:
        self.factor, self.calls = factor, 0

    def by(self) -> float:
        return self.factor

    def __call__(self, returned: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.by() * nn.functional.mse_loss(returned, target)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("penalty", None, l1(0.1)),
        ("penalty", l1(0.1), l1(0.2)),
        ("loss", nn.HuberLoss(delta=0.1), nn.HuberLoss(delta=5.0)),
        ("loss", Scaled(1.0), Scaled(2.0)),
        ("loss", LOSS, torch.compile(nn.L1Loss(), backend="eager")),
        ("validation_loss", lambda r, t: (r - t).abs().mean(), lambda r, t: (r + t).abs().mean()),
        ("optimizer", sgd(0.1), sgd(0.2)),
        ("optimizer", partial(torch.optim.SGD, lr=0.1), partial(torch.optim.SGD, lr=0.2)),
        ("schedule", lambda t: 1 - 0.5 * t, lambda t: 1 - 0.6 * t),
    ],
)
def test_a_setting_of_the_same_name_is_another(name: str, first: Any, second: Any, tmp_path: Path) -> None:
    def train(setting: Any) -> None:
        settings = {"loss": LOSS, "data": regression(), "epochs": 2, name: setting}
        fit(mlp(), **settings, checkpoint=tmp_path / "run.safetensors")

    train(first)
    train(first)
    with pytest.raises(InvalidArgumentError, match=f"{name} "):
        train(second)


def test_class_weights_belong_to_a_loss() -> None:
    weighted = [nn.CrossEntropyLoss(weight=torch.tensor(weights)) for weights in ([1.0, 5.0], [1.0, 5.0], [1.0, 6.0])]
    first, same, other = map(describe_setting, weighted)
    assert first == same != other


def test_the_trained_network_is_not_part_of_a_setting() -> None:
    def told(network: nn.Module) -> Any:
        return describe_setting(lambda _: sum(p.abs().sum() for p in network.parameters()), network)

    first, second = mlp(), mlp()
    nn.init.zeros_(next(second.parameters()))
    assert told(first) == told(second)


def test_what_a_function_does_not_read_is_not_part_of_it() -> None:
    options = SimpleNamespace(rate=0.1, resume=False)

    def make(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, lr=options.rate)

    before = describe_setting(make)
    options.resume = True
    assert describe_setting(make) == before
    options.rate = 0.2
    assert describe_setting(make) != before


@pytest.mark.slow
def test_another_process_describes_a_setting_the_same() -> None:
    source = "lambda x: x in {'a', 'b', 'c'}"
    code = f"from caveat.train._settings import describe_setting as d; print(d({source}))"
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env).stdout
    assert said.strip() == describe_setting(eval(source))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x80\x04\x95pickle"])
def test_a_file_that_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidArgumentError, match="caveat has written"):
        fit(mlp(), LOSS, regression(), epochs=2, checkpoint=path)
    assert path.read_bytes() == content
