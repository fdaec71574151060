"""What the experiments on pictures make: fooling ones, and blurred, dark and cut ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Returns a function that loads an experiment's run.py and leaves the path and the modules as they were."""
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    for name in ("records", "digits"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load_experiment(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"pictures_{name}", EXPERIMENTS / name / "run.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_experiment


def _network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)).eval()
    network[-1].weight.data *= 5  # as steep as a trained one
    return network


@pytest.mark.parametrize("masks", [0, 4])
def test_gradient_makes_pictures_that_the_network_is_sure_of(load: Load, masks: int) -> None:
    fooling, network = load("nguyen_2015_fooling"), _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wanted = torch.arange(10)
    start = 0.2 * torch.rand(10, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    made = fooling.ascend(network, start, wanted, 60, masks, seed=0)
    assert made.min() >= 0
    assert made.max() <= 1
    p = network(made).softmax(-1).detach()
    assert torch.equal(p.argmax(-1), wanted)
    assert float(p.amax(-1).amin()) > 0.9 > float(network(start).softmax(-1).detach().amax())
    assert not network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_shuffled_pixels_are_those_of_the_digit(load: Load) -> None:
    fooling = load("nguyen_2015_fooling")
    digits = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    shuffled = fooling.pictures(_network(), digits, 0, 1)["shuffled pixels"]
    assert torch.equal(shuffled.flatten(1).sort(-1).values, digits.flatten(1).sort(-1).values)
    assert not torch.equal(shuffled, digits)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_spoiled_pictures_are_as_they_are_told(load: Load, level: int) -> None:
    run = load("low_quality")
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    cut = run.cut(x, level)
    rows = 28 - 7 * level
    assert torch.equal(cut[..., :rows, :], x[..., :rows, :])
    assert not cut[..., rows:, :].any()
    share = (0.5, 0.25, 0.1)[level - 1]
    torch.testing.assert_close(run.dark(x, level), share * x, rtol=0, atol=1 / 255)
    # A point, blurred by so many pixels: what it spreads to has that standard deviation along each side.
    point = torch.zeros(1, 1, 28, 28)
    point[..., 14, 14] = 1
    spread = run.blurred(point, level)[0, 0]
    at = torch.arange(28.0) - 14
    assert float((spread.sum(0) * at**2).sum() / spread.sum()) == pytest.approx(level**2, rel=0.05)
