"""Tails of a regression: chosen by held-out rows, in the predictive, the folder, the card and the scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from caveat._estimators._calibration import choose_tails
from caveat.tabular import InvalidModelError, Regressor

QUICK: dict[str, Any] = {"members": 2, "epochs": 12, "width": 16, "draws": 10}


def heavy(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two targets: the first with errors of Student's t with 3 degrees of freedom, the second with normal ones."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2))
    return x, np.stack([x[:, 0] + random.standard_t(3, rows), x[:, 1] + random.normal(size=rows)], 1)


@pytest.fixture(scope="module")
def model() -> Regressor:
    return Regressor(**QUICK).fit(*heavy(3000))


def test_held_out_rows_choose_the_tail_of_each_target(model: Regressor) -> None:
    first, second = model.model_.calibration.freedom
    assert first in (3, 4, 5)
    assert second is None or second >= 15
    x, y = heavy(2000, 1)
    pred, plain = model.predictive(x), torch.distributions.Normal
    normal = plain(pred.mean, pred.variance.sqrt()).log_prob(torch.from_numpy(y)).mean(0)
    gained = pred.log_prob(torch.from_numpy(y)).mean(0) - normal
    assert float(gained[0]) > 0.03
    assert float(gained[1]) > -0.005


@pytest.mark.parametrize("rows", [30, 300, 2000])
def test_normal_errors_are_rarely_given_tails_that_cost_them(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, 200, generator=generator, dtype=torch.float64).abs()
    chosen = choose_tails(scores / scores.square().mean(0).sqrt())
    assert np.mean([nu is not None for nu in chosen]) < 0.2
    student = torch.distributions.StudentT(4.0).sample((rows, 200)).abs().double()
    chosen = choose_tails(student / student.square().mean(0).sqrt())
    assert np.mean([nu is not None for nu in chosen]) > (0.9 if rows > 100 else 0.3)


def test_intervals_and_standard_deviations_are_those_of_the_scores(model: Regressor) -> None:
    x, y = heavy(4000, 2)
    low, high = model.predict_interval(x)
    assert np.abs(np.mean((low <= y) & (y <= high), 0) - 0.9).max() < 0.045
    scores = model.model_.calibration.scores
    torch.testing.assert_close(scores.square().mean(0), torch.ones(2, dtype=torch.float64))


def test_a_folder_keeps_the_tails_and_the_card_says_them(model: Regressor, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again, (x, y) = Regressor.load(tmp_path / "m"), heavy(50, 3)
    assert again.model_.calibration.freedom == model.model_.calibration.freedom
    a, b = (one.predictive(x).log_prob(torch.from_numpy(y)) for one in (model, again))
    np.testing.assert_array_equal(a, b)
    nu = model.model_.calibration.freedom[0]
    assert f"Student's t of {nu} degrees of freedom (`y0`)" in (tmp_path / "m" / "README.md").read_text()


@pytest.mark.parametrize("odd", [[3], [2, None], [3, None, None], [3.5, None], [10**9, None]])
def test_tails_that_are_none_are_refused(
    model: Regressor, tmp_path: Path, odd: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    calibration = replace(model.model_.calibration, freedom=tuple(odd))
    changed: Any = Regressor.of_model(replace(model.model_, calibration=calibration))
    monkeypatch.setattr("caveat._estimators._storage.model_card", lambda model: "")
    changed.save(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "caveat.json").read_text())["calibration"]["freedom"] == odd
    with pytest.raises(InvalidModelError, match="freedom"):
        Regressor.load(tmp_path / "m")
