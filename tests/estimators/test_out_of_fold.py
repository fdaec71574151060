"""Sets too small to hold rows out: calibrated by folds, whose intervals and sets hold their level on new rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("sklearn")

import caveat
from caveat._estimators import (
    Classes,
    Kind,
    Learned,
    Model,
    Numbers,
    Training,
    fit_model,
    interval_of,
    predict_from,
    sets_of,
)
from caveat._estimators._held_out import FOLDS, split_in_folds
from caveat.tabular import Classifier, Regressor
from caveat.train import Fit
from caveat.train._history import History


class Line(nn.Module):
    """A linear fit, or a softmax of one: what a kind trains where a test has to train hundreds."""

    def __init__(self, weights: Tensor, noise: float) -> None:
        super().__init__()
        self.weights, self.noise = nn.Parameter(weights), noise
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[:, :1])], 1) @ self.weights / self.temperature

    def sampler(self, output: Any) -> Any:
        return caveat.deterministic(self, output=output)


class Table:
    def __init__(self, x: Tensor) -> None:
        self.x = x

    def sort(self, answers: Any, weights: Any) -> tuple[Table, Any, None]:
        order = np.lexsort([*self.x.numpy().T, *answers.T])
        return Table(self.x[order]), order, None


TABLES = 30
trained: list[int] = []
"""How many rows each training had."""


def learn(training: Training) -> Learned:
    trained.append(len(training.kept))
    x = training.rows.x[training.kept]
    design = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    y = training.answers
    wanted = y if y.is_floating_point() else 6 * nn.functional.one_hot(y, training.target.count).float()  # too sure
    weights = torch.linalg.lstsq(design, wanted).solution
    noise = float((wanted - design @ weights).square().mean())
    network = Line(weights, noise)
    fit = Fit(network, History((0.0,), ()), 1, 1, False, 0)
    return Learned(None, None, training.rows.x, [fit], noise=max(noise, 1e-6))  # pyright: ignore


class Settings:
    calibration, random_state, draws = 0.15, 0, 1


def kind(*, folds: bool = True) -> Kind:
    unused: Any = None
    return Kind("test", ("test", 1), "row", "rows", unused, unused, unused, unused, lambda settings, *_: settings,
                learn, unused, unused, unused, unused, sampler=Line.sampler, folds=folds)  # fmt: skip


def numbers_of(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Six columns, of which some do nothing, and noise with a tail."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=generator)
    normal = torch.randn(rows, 3, generator=generator)
    y = x[:, :1] - 2 * x[:, 1:2] + normal[:, :1] / (normal[:, 1:].square().mean(1, keepdim=True) + 0.2).sqrt()
    return x, y.double()


def fit_numbers(x: Tensor, y: Tensor, *, folds: bool = True) -> Model:
    return fit_model(kind(folds=folds), Table(x), Numbers(("y",), (0.0,), (1.0,)), y, Settings())


@pytest.mark.slow
@pytest.mark.parametrize("rows", [40, 80, 130])
def test_intervals_of_small_tables_hold_their_level(rows: int) -> None:
    held: list[float] = []
    bare: list[float] = []
    for seed in range(TABLES):
        x, y = numbers_of(rows + 300, seed)
        model = fit_numbers(x[:rows], y[:rows])
        assert model.calibration.rows == rows
        for one, found in ((model, held), (fit_numbers(x[:rows], y[:rows], folds=False), bare)):
            low, high = interval_of(one, predict_from(one, x[rows:]), 0.9)  # pyright: ignore
            found.append(float(((low <= y[rows:]) & (y[rows:] <= high)).double().mean()))
    mean, error = np.mean(held), np.std(held) / TABLES**0.5
    assert 0.9 - 2.5 * error < mean < 0.95
    assert abs(mean - 0.9) < abs(np.mean(bare) - 0.9) + 0.03


@pytest.mark.slow
@pytest.mark.parametrize("rows", [45, 120])
def test_sets_of_small_tables_hold_their_level_and_rule_classes_out(rows: int) -> None:
    held: list[float] = []
    sizes: list[float] = []
    for seed in range(TABLES):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(3, (rows + 300,), generator=generator)
        x = nn.functional.one_hot(labels, 3) + 0.5 * torch.randn(rows + 300, 3, generator=generator)
        target = Classes("y", ("a", "b", "c"), (1, 1, 1))
        model = fit_model(kind(), Table(x[:rows]), target, labels[:rows], Settings())
        pred: Any = predict_from(model, x[rows:])
        sets = sets_of(model.calibration.scores, pred, 0.9)
        held.append(float(sets.gather(1, labels[rows:, None]).double().mean()))
        sizes.append(float(sets.double().sum(1).mean()))
    assert 0.9 - 2.5 * np.std(held) / TABLES**0.5 < np.mean(held) < 0.96
    assert np.mean(sizes) < 2


def test_the_model_sees_all_rows_and_each_fold_all_but_its_own() -> None:
    trained.clear()
    model = fit_numbers(*numbers_of(50, 0))
    assert trained == [50, *[40] * FOLDS]
    assert model.summary["rows_trained_on"] == 50
    assert model.describe_calibration() == "50 rows, each answered by networks that were trained without it (5 folds)"


def test_what_is_larger_holds_rows_out_and_what_is_smaller_says_that_nothing_calibrates_it() -> None:
    trained.clear()
    larger = fit_numbers(*numbers_of(200, 0))
    assert len(trained) == 1
    assert larger.describe_calibration() == "30 rows that were not trained on"
    tiny = fit_numbers(*numbers_of(19, 0))
    assert tiny.describe_calibration().startswith("none, too few rows to spare any: intervals are the networks' own")
    assert not tiny.calibration.rows


def test_equal_rows_are_in_one_fold_and_classes_in_all() -> None:
    x = torch.arange(60.0)[:, None].repeat(2, 1)
    labels = (x[:, 0] % 3).long()
    folds = split_in_folds(x, labels, 0, np.tile(np.arange(60), 2))
    assert np.array_equal(np.sum(folds, 0), np.ones(120))
    assert all(np.array_equal(out[:60], out[60:]) for out in folds)
    assert all(np.bincount(labels.numpy()[out], minlength=3).tolist() == [8, 8, 8] for out in folds)


def test_a_model_of_a_small_table_says_how_it_is_calibrated(tmp_path: Path) -> None:
    quick: dict[str, Any] = {"members": 1, "epochs": 2, "draws": 5, "width": 8}
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 2)), random.normal(size=40)
    model = Regressor(**quick).fit(x, y)
    model.save(tmp_path / "m")
    loaded = Regressor.load(tmp_path / "m")
    assert loaded.model_.describe_calibration() == model.model_.describe_calibration()
    assert "(5 folds)" in (tmp_path / "m" / "README.md").read_text()
    assert np.array_equal(loaded.predict_interval(x)[0], model.predict_interval(x)[0])
    asked = Classifier(calibration=0, **quick).fit(x, y > 0)
    asked.save(tmp_path / "n")
    assert "Calibration: none, as asked: every class is in a set." in (tmp_path / "n" / "README.md").read_text()
    assert "guarantee nothing" in (tmp_path / "n" / "README.md").read_text()
