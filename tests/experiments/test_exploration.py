"""What the experiments about exploring play on: known maxima, Gymnasium's pendulum, games with the right rewards."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the experiments' data are not beside the repository")


def load(name: str) -> ModuleType:
    path = ROOT / "experiments" / name / "run.py"
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module, before = importlib.util.module_from_spec(spec), list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


@pytest.fixture(scope="module")
def optimization() -> ModuleType:
    return load("bayesian_optimization")


@pytest.fixture(scope="module")
def learning() -> ModuleType:
    return load("gal_2016_rl")


@pytest.fixture(scope="module")
def bandits() -> ModuleType:
    return load("riquelme_2018_bandits")


def test_the_test_functions_have_their_known_maxima(optimization: Any) -> None:
    """Branin at (-pi, 12.275), (pi, 2.275), (9.42478, 2.475); Hartmann-6 at the point that its authors give."""
    at = torch.tensor([[-torch.pi, 12.275], [torch.pi, 2.275], [9.42478, 2.475]], dtype=torch.float64)
    unit = torch.stack(((at[:, 0] + 5) / 15, at[:, 1] / 15), 1)
    assert optimization.branin(unit).tolist() == pytest.approx([-0.397887] * 3, abs=1e-5)
    top = torch.tensor([[0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]], dtype=torch.float64)
    assert float(optimization.hartmann(top)) == pytest.approx(3.32237, abs=1e-4)
    elsewhere = torch.rand(2000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(optimization.hartmann(elsewhere).max()) < 3.32237


def test_the_pendulum_is_gymnasiums(learning: Any) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    state = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    env.state = state[0].numpy().copy()
    for torque in (2.0, -1.5, 0.3, 2.0, 2.0, 2.0):
        env.step([torque])
        state = learning.swung(state, torch.tensor([[torque]], dtype=torch.float64))
        assert state[0].tolist() == pytest.approx(list(env.state), abs=1e-9)


def test_the_chain_pays_twelve_to_who_goes_right(learning: Any) -> None:
    """From the second of ten states the right end is reached with the eighth of 19 steps; 11 more are paid as well."""
    for action, best in ((1, 12.0), (0, 0.019)):
        env, total, cut = learning.Chain(), 0.0, False
        seen, _ = env.reset(seed=0)
        assert seen.sum() == 2
        while not cut:
            _, reward, ended, cut, _ = env.step(action)
            total += reward
            assert not ended
        assert total == pytest.approx(best)


def test_the_chain_passes_gymnasiums_checks(learning: Any) -> None:
    pytest.importorskip("gymnasium")
    env = learning.Chain()
    assert env.observation_space.contains(env.reset()[0])
    assert env.observation_space.contains(env.step(env.action_space.sample())[0])


@needs_data
def test_mushrooms_are_worth_what_they_are_on_average(bandits: Any) -> None:
    game = bandits.game("mushroom", 0)
    assert game.contexts.shape == (2000, 117)
    assert set(game.contexts.sum(-1).tolist()) == {22.0}  # one value for each of 22 features
    poison = game.expected[:, 1] < 0
    assert float(poison.float().mean()) == pytest.approx(0.482, abs=0.04)
    eaten = game.rewards[poison, 1]
    assert set(eaten.tolist()) == {0.5, -3.5}
    assert float(eaten.mean()) == pytest.approx(-1.5, abs=0.2)
    assert bool((game.rewards[~poison, 1] == 0.5).all())


@needs_data
@pytest.mark.parametrize(("name", "inputs", "actions"), [("statlog", 9, 7), ("covertype", 54, 7), ("adult", 92, 14)])
def test_classes_pay_one_for_the_right_name(bandits: Any, name: str, inputs: int, actions: int) -> None:
    game = bandits.game(name, 1)
    assert game.contexts.shape == (2000, inputs)
    assert game.rewards.shape == (2000, actions)
    assert set(game.rewards.sum(-1).tolist()) == {1.0}


@needs_data
def test_jesters_jokes_are_rated_from_minus_to_plus_one(bandits: Any) -> None:
    game = bandits.game("jester", 0)
    assert game.contexts.shape == (2000, 32)
    assert game.rewards.shape == (2000, 8)
    assert float(game.rewards.abs().max()) <= 1


def test_the_wheels_rim_pays_in_its_quadrant_alone(bandits: Any) -> None:
    game = bandits.game("wheel", 0)
    rim = game.contexts.norm(dim=-1) >= 0.95
    assert float(rim.float().mean()) == pytest.approx(1 - 0.95**2, abs=0.02)
    assert set(game.expected[~rim].argmax(-1).tolist()) == {4}
    best = game.expected[rim].argmax(-1)
    right, up = game.contexts[rim, 0] > 0, game.contexts[rim, 1] > 0
    assert bool((best == (~right).long() * 2 + (~up).long()).all())
