"""The regression page's computing: what each control does to the picture, and what is refused."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from caveat.cli._playground._gaussian_process import condition
from caveat.cli._playground._regression import MEMBERS, MOST_LINES, Regression, Settings
from caveat.errors import InvalidArgumentError

POINTS = [[-2 + 0.1 * k, math.sin(-2 + 0.1 * k)] for k in range(20)]


def page(points: list[list[float]] = POINTS, **settings: Any) -> Regression:
    """A page with these points and settings."""
    state = Regression()
    state.apply({"settings": said(**settings), "points": points})
    return state


def said(**settings: Any) -> dict[str, Any]:
    return asdict(replace(Settings(), **settings))


def test_training_brings_the_mean_to_the_points() -> None:
    state = page(dropout=0.05)
    before = error_of(state)
    for _ in range(25):
        state.advance()
    assert error_of(state) < 0.3 * before
    assert state.step > 0


def error_of(state: Regression) -> float:
    picture = state.picture()
    near = [min(range(121), key=lambda k: abs(picture["x"][k] - x)) for x, _ in POINTS]
    return sum((picture["mean"][k] - y) ** 2 for k, (_, y) in zip(near, POINTS, strict=True)) / len(POINTS)


@pytest.mark.parametrize(
    "changed",
    [
        {"dropout": 0.5},
        {"nonlinearity": "tanh"},
        {"width": 20},
        {"length_scale": 0.3},
        {"draws": 30},
        {"method": "ensemble"},
        {"method": "gaussian_process"},
    ],
    ids=lambda changed: next(iter(changed.items()))[0] + "=" + str(next(iter(changed.values()))),
)
def test_a_control_changes_the_picture_at_once(changed: dict[str, Any]) -> None:
    state = page()
    state.advance()
    before = state.picture()
    state.apply({"settings": said(**changed)})
    after = state.picture()
    assert after["epistemic"] != before["epistemic"]
    assert after["draws"] == (MEMBERS if changed.get("method") == "ensemble" else changed.get("draws", before["draws"]))


def test_a_rate_keeps_what_was_learned_and_a_width_does_not() -> None:
    state = page()
    state.advance()
    state.apply({"settings": said(dropout=0.3)})
    assert state.step > 0
    state.apply({"settings": said(dropout=0.3, width=20)})
    assert state.step == 0


def test_the_same_draws_are_shown_until_training_moves_them() -> None:
    state = page()
    state.advance()
    first = state.picture()
    assert state.picture()["lines"] == first["lines"]
    assert len(first["lines"]) == MOST_LINES
    state.advance()
    assert state.picture()["lines"] != first["lines"]


def test_without_dropout_nothing_is_epistemic() -> None:
    picture = page(dropout=0.0).picture()
    assert max(picture["epistemic"]) == 0
    assert picture["draws"] == 1
    assert min(picture["aleatoric"]) > 0


def test_noise_is_aleatoric_where_points_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60, generator=generator).tolist()
    points = [[-3 + 0.1 * k, 0.0 if k < 30 else round(0.8 * noise[k], 3)] for k in range(60)]
    state = page(points, dropout=0.02)
    for _ in range(60):
        state.advance()
    aleatoric = state.picture()["aleatoric"]
    calm, noisy = aleatoric[36], aleatoric[78]  # at x = -2 and 1.5
    assert noisy > 2 * calm


def test_without_points_there_is_nothing_to_train() -> None:
    state = page(points=[])
    assert not state.resting
    state.picture()
    assert state.resting
    state.advance()
    assert state.step == 0
    state.apply({"points": POINTS})
    assert not state.resting


def test_training_rests_when_nothing_has_changed_for_long() -> None:
    state = page()
    state.advance()
    state.rested_at = state.step
    state.picture()
    assert state.resting
    state.apply({"seen": True})
    assert state.resting
    state.apply({"restart": True})
    assert not state.resting
    assert state.step == 0


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"settings": {**said(), "dropout": 1.5}}, "dropout must lie in"),
        ({"settings": {**said(), "method": "magic"}}, "method must be one of"),
        ({"settings": {**said(), "width": 10_000}}, "width must be an integer from 5 to 200"),
        ({"settings": {**said(), "draws": 10**9}}, "draws must be an integer"),
        ({"settings": {**said(), "other": 1}}, "'other' is not known"),
        ({"settings": {}}, "is missing"),
        ({"points": [[0.0, 99.0]]}, "A point must be"),
        ({"points": [[0.0]]}, "A point must be"),
        ({"points": "all"}, "Points must be"),
        ({"points": [[0.0, 0.0]] * 201}, "There may be 200 points"),
    ],
)
def test_what_is_out_of_range_is_refused_and_changes_nothing(message: dict[str, Any], words: str) -> None:
    state = page()
    with pytest.raises(InvalidArgumentError, match=words):
        state.apply(message)
    assert (state.settings, state.points) == (Settings(), POINTS)


def test_a_gaussian_process_is_the_textbooks() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(12, generator=generator, dtype=torch.float64) * 4 - 2
    y = x.sin() + 0.1 * torch.randn(12, generator=generator, dtype=torch.float64)
    grid = torch.linspace(-4, 4, 9, dtype=torch.float64)
    found = condition(x, y, grid, length_scale=0.9, draws=4000, seed=0)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (-((a[:, None] - b) ** 2) / (2 * 0.9**2)).exp()

    noise = found.aleatoric**2
    far = condition(x, y, torch.tensor([50.0], dtype=torch.float64), length_scale=0.9, draws=1, seed=0)
    variance = float(far.epistemic[0]) ** 2  # where no point says anything, the prior's
    inverse = torch.linalg.inv(variance * kernel(x, x) + noise * torch.eye(12, dtype=torch.float64))
    mean = variance * kernel(grid, x) @ inverse @ y
    covariance = variance * kernel(grid, grid) - variance**2 * kernel(grid, x) @ inverse @ kernel(x, grid)
    torch.testing.assert_close(found.mean, mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.epistemic, covariance.diagonal().sqrt(), atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(found.lines.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(found.lines.std(0), found.epistemic, atol=0.05, rtol=0.05)


def test_a_gaussian_process_trusts_a_single_point() -> None:
    one = torch.ones(1, dtype=torch.float64)
    found = condition(one, 2 * one, torch.tensor([1.0, 9.0], dtype=torch.float64), length_scale=1.0, draws=2, seed=0)
    assert found.mean.tolist() == pytest.approx([2.0, 0.0], abs=0.1)
