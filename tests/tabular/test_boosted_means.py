"""Means of boosted trees beside those of networks: held-out rows say how far to follow them, and all else stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from caveat._estimators import Numbers, Training
from caveat._estimators._calibration import calibrate, share_of_others
from caveat._estimators._model import summarize_draws
from caveat._tables import Table, TableReader, TrainingTable, as_columns, learn_table, row_place
from caveat.tabular import InvalidModelError, Regressor
from caveat.tabular._boosting import boost_means
from caveat.tabular._settings import Settings

QUICK: dict[str, Any] = {"members": 2, "epochs": 8, "width": 16, "draws": 10}
Rows = tuple[dict[str, np.ndarray], np.ndarray]


def squares(rows: int = 600, seed: int = 0) -> Rows:
    """What trees find at once and small networks do not: a chessboard, and categories that turn it."""
    random = np.random.default_rng(seed)
    x, z = random.uniform(-2, 2, (2, rows))
    color = random.choice(["red", "green", "blue"], rows).astype(object)
    y = np.sign(np.floor(x) % 2 - 0.5) * np.sign(np.floor(z) % 2 - 0.5) * (color != "red")
    x[random.random(rows) < 0.05] = np.nan
    return {"x": x, "z": z, "color": color}, 40 + 10 * (y + 0.1 * random.normal(size=rows))


def line(rows: int = 600, seed: int = 0) -> Rows:
    x = np.random.default_rng(seed).normal(size=(rows, 3))
    return {f"x{k}": x[:, k] for k in range(3)}, x @ [1.0, -2.0, 3.0]


@pytest.fixture(scope="module")
def model() -> Any:
    return Regressor(**QUICK).fit(*squares())


def share_of(model: Any) -> list[float]:
    return model.model_.networks[0].share.tolist()


def rmse(model: Any, rows: Rows) -> float:
    return float(np.sqrt(np.mean((model.predict(rows[0]) - rows[1]) ** 2)))


def without_trees(monkeypatch: pytest.MonkeyPatch, rows: Rows, **given: Any) -> Any:
    monkeypatch.setattr("caveat.tabular._training.boost_means", lambda training, inputs: None)
    return Regressor(**{**QUICK, **given}).fit(*rows)


def test_trees_are_followed_where_they_know_better(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_of(model)[0] > 0.4
    new = squares(seed=1)
    assert rmse(model, new) < 0.85 * rmse(without_trees(monkeypatch, squares()), new)
    low, high = model.predict_interval(new[0])
    assert np.mean((low <= new[1]) & (new[1] <= high)) > 0.82


def test_networks_stay_as_they_are_where_trees_know_less(monkeypatch: pytest.MonkeyPatch) -> None:
    new, longer = line(seed=1), {"epochs": 60}
    mixed, alone = Regressor(**{**QUICK, **longer}).fit(*line()), without_trees(monkeypatch, line(), **longer)
    assert share_of(mixed)[0] < 0.2
    assert rmse(mixed, new) < 1.02 * rmse(alone, new)


def test_training_does_not_see_the_trees(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = without_trees(monkeypatch, squares())
    for a, b in zip(model.model_.networks, alone.model_.networks, strict=True):
        weights = a.state_dict()
        weights.pop("share")
        for name, tensor in b.state_dict().items():
            assert torch.equal(weights[name], tensor), name


def test_a_mean_is_mixed_by_its_share_and_variances_are_those_of_the_networks(model: Any) -> None:
    X, _ = squares(seed=2)
    saved = model.model_
    rows = saved.reader.read(Table(as_columns(X), row_place))
    trees = saved.networks[0].other_means(rows)
    share = share_of(model)[0]
    mixed = summarize_draws(saved, rows)
    try:
        for network in saved.networks:
            network.share.zero_()
        own = summarize_draws(saved, rows)
    finally:
        for network in saved.networks:
            network.share.fill_(share)
    torch.testing.assert_close(mixed.moments.mean, (1 - share) * own.moments.mean + share * trees, rtol=1e-4, atol=3e-3)
    torch.testing.assert_close(mixed.noise, own.noise)
    torch.testing.assert_close(mixed.moments.variance, (1 - share) ** 2 * own.moments.variance, rtol=1e-2, atol=1e-3)


def test_the_scores_within_rows_are_those_of_the_trees(model: Any) -> None:
    X, _ = squares(seed=2)
    reader = model.model_.reader
    rows = reader.read(Table(as_columns(X), row_place))
    encoded = replace(reader, trees=None).read(Table(as_columns(X), row_place))
    within = model.model_.networks[0].other_means(rows)
    torch.testing.assert_close(within, reader.trees.scores(reader.compared(encoded)))


def test_a_folder_gives_the_same_digits_and_its_card_says_the_share(model: Any, tmp_path: Path) -> None:
    X, _ = squares(seed=1)
    model.save(tmp_path / "m")
    again = Regressor.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.predict_interval(X), model.predict_interval(X))
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"The mean is by {share_of(model)[0]:.0%} that of 300 boosted trees" in card


def test_a_folder_without_its_trees_or_with_others_is_refused(model: Any, tmp_path: Path) -> None:
    saved, trees = model.model_, model.model_.reader.trees.tensors()
    for tensors in ({}, {**trees, "left": trees["left"] * 0}, {**trees, "base": trees["base"].repeat(2)}):
        odd = replace(saved, kind=replace(saved.kind, tensors=lambda model, tensors=tensors: tensors))
        Regressor.of_model(odd).save(tmp_path / "m")
        with pytest.raises(InvalidModelError, match="trees"):
            Regressor.load(tmp_path / "m")


@pytest.mark.parametrize("strange", [{"x": 1e3}, {"z": -1e3}, {"color": "never seen"}])
def test_strange_rows_are_less_known_than_usual_ones(model: Any, strange: dict[str, Any]) -> None:
    X, _ = squares(seed=2)
    ((name, value),) = strange.items()
    odd = {**X, name: np.full(len(X[name]), value, dtype=X[name].dtype)}
    usual, found = (model.decompose(part)["epistemic"] for part in (X, odd))
    assert np.mean(found > np.median(usual)) > 0.95


def test_rows_in_another_order_give_the_same_model(model: Any) -> None:
    X, y = squares()
    back = Regressor(**QUICK).fit({name: values[::-1] for name, values in X.items()}, y[::-1])
    np.testing.assert_array_equal(back.predict(X), model.predict(X))


def test_other_rows_choose_the_share_anew(model: Any) -> None:
    X, y = squares(200, seed=3)
    saved, before = model.model_, share_of(model)
    rows = saved.reader.read(Table(as_columns(X), row_place))
    answers = saved.target.standardized(y[:, None])
    try:
        own = saved.networks[0].share.clone()
        moved = calibrate(saved, rows, summarize_draws(saved, rows).moments.mean)  # as if the answers were right
        assert moved.networks[0].share[0] == pytest.approx(before[0] * 200 / 250, rel=0.05)
        calibrate(saved, rows, answers)
        assert saved.networks[0].share[0] > 0.3
    finally:
        for network in saved.networks:
            network.share.copy_(own)


@pytest.mark.parametrize("method", ["mc_dropout", "concrete_dropout", "sngp"])
def test_every_method_mixes_several_targets(method: str, tmp_path: Path) -> None:
    X, y = squares()
    found = Regressor(method=method, **QUICK).fit(X, np.stack([y, np.nan_to_num(X["x"])], 1))
    assert len(share_of(found)) == 2
    assert share_of(found)[0] > 0.3
    found.save(tmp_path / "m")
    np.testing.assert_array_equal(Regressor.load(tmp_path / "m").predict(X), found.predict(X))


def test_small_tables_choose_by_their_folds() -> None:
    X, y = squares(120)
    z = X["z"].copy()
    found = Regressor(**QUICK).fit({"z": z}, np.floor(2 * z) % 2)
    assert found.model_.summary["folds"] == 5
    assert share_of(found)[0] > 0.3
    assert Regressor(**QUICK, calibration=0).fit(X, y).model_.reader.trees is None  # nothing would choose


def test_weights_and_many_targets_reach_the_trees() -> None:
    X, y = squares(100)
    schema, typed = learn_table(as_columns(X))
    rows = TrainingTable(schema, typed.numbers, schema.encode(typed))
    inputs = TableReader(rows.schema).compared(rows.encoded)

    def trees_of(targets: int, weights: torch.Tensor | None = None) -> Any:
        answers = torch.from_numpy(y)[:, None].float().repeat(1, targets)
        target = Numbers(tuple(map(str, range(targets))), (0.0,) * targets, (1.0,) * targets, flat=False)
        return boost_means(Training(rows, np.arange(100), answers, weights, target, Settings()), inputs)

    assert torch.equal(trees_of(2).scores(inputs)[:, 1:], trees_of(1).scores(inputs))
    half = torch.where(torch.from_numpy(y) > 40, 1.5, 0.5).float()
    assert float(trees_of(1, half).base) > float(trees_of(1).base)
    assert trees_of(20) is None  # a target would be left with less than 20 rounds


def test_a_row_far_off_does_not_choose_for_all() -> None:
    random = torch.Generator().manual_seed(0)
    y = torch.randn(500, 1, generator=random, dtype=torch.float64)
    mean = y + 0.3 * torch.randn(500, 1, generator=random, dtype=torch.float64)
    other = y + 1.0 * torch.randn(500, 1, generator=random, dtype=torch.float64)
    other[0] += 300
    y[0] += 600
    assert float(share_of_others(mean, other, y, torch.ones_like(y))) < 0.25
    assert float(((other - mean) * (y - mean)).sum() / (other - mean).square().sum()) > 0.9  # by least squares


def test_folds_of_which_one_is_too_small_for_trees_are_calibrated() -> None:
    x = np.random.default_rng(0).normal(size=(20, 1))
    x[1:3] = x[0]  # equal rows are in one fold: what is left of 20 rows differs from fold to fold
    model = Regressor(members=1, epochs=1, width=4, draws=4).fit(x, x[:, 0]).model_
    assert model.calibration.rows == 20
    assert model.networks[0].share.tolist() == [0.0]  # one fold cannot say how far to follow them
