"""The estimators as scikit-learn and people use them: checks, shapes, seeds, weights, doubts, and folders."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from caveat.errors import InvalidArgumentError
from caveat.predictive import Categorical, Gaussian
from caveat.tabular import Classifier, DoubtfulDataWarning, InvalidDataError, InvalidModelError, Regressor
from caveat.tabular._network import METHODS

QUICK: dict[str, Any] = {"members": 2, "epochs": 25, "width": 24, "draws": 20}


def houses(rows: int = 240, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(seed)
    size, district = random.uniform(40, 200, rows), random.choice(["north", "south", "west"], rows)
    garden = random.random(rows) < 0.5
    price = 2 * size + 50 * (district == "west") + 20 * garden + random.normal(0, 10, rows)
    return {"size": size, "district": district.astype(object), "garden": garden}, price


@pytest.fixture(scope="module")
def regressor() -> Regressor:
    return Regressor(**QUICK).fit(*houses())


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    X, y = houses()
    return Classifier(**QUICK).fit(X, np.where(y > 240, "dear", "cheap"))


def test_what_is_less_sure_than_all_that_decided_is_deferred_in_every_unit() -> None:
    """Also where all of them may be answered, and the threshold by rank is infinite."""
    X, y = houses(400)
    east = np.array(["west", "east"], object)
    strange = {"size": np.array([100.0, 1e5]), "district": east, "garden": X["garden"][:2]}
    for unit in (1.0, 1e-6):
        model = Regressor(**QUICK).fit(X, y * unit)
        threshold = model.threshold_for_risk(X, y * unit, 0.1, tolerance=1e3 * unit)
        assert threshold.value == pytest.approx(model.uncertainty(X).max(), rel=1e-5)
        assert model.decide(X).answered.all()
        assert model.decide(strange).answered.tolist() == [True, False]


def test_an_empty_column_and_a_constant_target_are_learned_with_a_warning() -> None:
    X, y = houses(60)
    empty = {"nothing": np.full(60, np.nan), "neither": np.full(60, None), **X}
    with pytest.warns(DoubtfulDataWarning, match="every value is missing"):
        model = Regressor(**QUICK).fit(empty, y)
    assert [bool(column.note) for column in model.model_.reader.schema.columns] == [True, True, False, False, False]
    with pytest.warns(UserWarning, match="same value, so that there is nothing to learn"):
        flat = Regressor(**QUICK).fit(X, np.full(60, 3.5)).predict(X)
    np.testing.assert_allclose(flat, 3.5, atol=0.5)


def test_shapes_of_a_regressor(regressor: Regressor) -> None:
    X, y = houses(seed=1)
    mean, std = regressor.predict(X, return_std=True)
    low, high = regressor.predict_interval(X)
    assert mean.shape == std.shape == low.shape == high.shape == y.shape
    assert (low < high).all()
    assert isinstance(regressor.predictive(X), Gaussian)
    parts = regressor.decompose(X)
    np.testing.assert_allclose(parts["total"], parts["aleatoric"] + parts["epistemic"], rtol=1e-5)
    assert np.sqrt(np.mean((mean - y) ** 2)) < 0.5 * y.std()
    assert 0.8 <= np.mean((low <= y) & (y <= high)) <= 1.0


def test_shapes_of_a_classifier(classifier: Classifier) -> None:
    X, y = houses(seed=1)
    p = classifier.predict_proba(X)
    assert p.shape == (240, 2)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    assert classifier.score(X, np.where(y > 240, "dear", "cheap")) > 0.85
    assert isinstance(classifier.predictive(X), Categorical)
    sets = classifier.predict_set(X, 0.9)
    assert sets.dtype == bool
    assert sets[np.arange(240), p.argmax(1)].all()


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_what_was_never_seen_is_less_known(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    X, _ = houses(seed=1)
    usual = np.median(model.decompose(houses()[0])["epistemic"])
    cases = [("district", "abroad"), ("district", None), ("size", 2000.0), ("size", -500.0), ("size", np.nan)]
    for name, value in cases:
        asked = {**X, name: np.array([value] * 240, dtype=object)}
        assert (model.decompose(asked)["epistemic"] > usual).mean() >= 0.95, (name, value)


def test_doubt_grows_with_the_distance(regressor: Regressor) -> None:
    X, _ = houses(rows=4)
    spread = [regressor.decompose({**X, "size": np.full(4, far)})["epistemic"].mean() for far in (120, 400, 800, 8000)]
    assert spread == sorted(spread)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_and_comes_back_from_disk(method: str, tmp_path: Path) -> None:
    X, y = houses(120)
    for estimator, target in ((Regressor, y), (Classifier, np.where(y > 240, 1, 0))):
        model = estimator(method=method, **QUICK).fit(X, target)
        model.save(tmp_path / "model")
        again = estimator.load(tmp_path / "model")
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        epistemic = model.decompose(X)["epistemic"]
        np.testing.assert_allclose(again.decompose(X)["epistemic"], epistemic, rtol=1e-4, atol=1e-9)
        assert (epistemic > 0).all()


def test_several_targets() -> None:
    X, y = houses(120)
    model = Regressor(**QUICK).fit(X, np.stack([y, -y], 1))
    assert model.predict(X).shape == (120, 2)
    assert model.predict_interval(X)[0].shape == (120, 2)


def test_a_table_of_categories_alone(tmp_path: Path) -> None:
    X, y = houses(120)
    only = {"district": X["district"], "garden": X["garden"]}
    model = Classifier(**QUICK).fit(only, np.where(y > 240, "dear", "cheap"))
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(Classifier.load(tmp_path / "m").predict(only), model.predict(only))


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    X, y = houses(80)
    order = np.random.default_rng(3).permutation(80)
    turned = {name: values[order] for name, values in X.items()}
    first = Regressor(**QUICK).fit(X, y).predict(X)
    np.testing.assert_array_equal(first, Regressor(**QUICK).fit(turned, y[order]).predict(X))
    assert not np.array_equal(first, Regressor(**QUICK, random_state=1).fit(X, y).predict(X))


def test_weights_of_any_size_and_class_weights() -> None:
    X, y = houses(120)
    heavy = np.where(y > 240, 30.5, 0.5)
    dear = np.where(y > 240, "dear", "cheap")
    plain, weighted, balanced = (
        Classifier(**{**QUICK, "calibration": 0.0}, class_weight=given).fit(X, dear, sample_weight=weights)
        for given, weights in ((None, None), (None, heavy), ({"dear": 60, "cheap": 1}, None))
    )
    for other in (weighted, balanced):
        assert other.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean()
    Regressor(**QUICK).fit(X, y, sample_weight=heavy)


def test_global_random_states_stay() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    X, y = houses(60)
    Regressor(**QUICK).fit(X, y).predict(X)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_in_a_pipeline_a_search_and_a_cross_validation() -> None:
    X, y = np.linspace(0, 1, 90)[:, None], np.linspace(0, 3, 90)
    pipe = make_pipeline(FunctionTransformer(), Regressor(**QUICK))
    assert len(cross_val_score(pipe, X, y, cv=2)) == 2
    found = GridSearchCV(clone(pipe), {"regressor__dropout": [0.05, 0.2]}, cv=2).fit(X, y)
    assert found.predict(X).shape == (90,)


def test_frames_of_pandas_and_polars_and_arrow_give_the_same() -> None:
    pandas, polars, arrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    X, y = houses(60)
    plain = {name: values.tolist() for name, values in X.items()}
    model = Regressor(**QUICK).fit(pandas.DataFrame(plain), pandas.Series(y, name="price"))
    assert list(model.feature_names_in_) == list(X)
    assert model.model_.target.names == ("price",)
    for frame in (pandas.DataFrame(plain), polars.DataFrame(plain), arrow.table(plain), X):
        np.testing.assert_array_equal(model.predict(frame), model.predict(X))


def test_an_estimator_can_be_pickled_by_scikit_learn(regressor: Regressor) -> None:
    X, _ = houses()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(regressor)).predict(X), regressor.predict(X))


def test_before_fit_nothing_is_known() -> None:
    with pytest.raises(NotFittedError):
        Regressor().predict([[1.0]])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"members": 0}, "members"),
        ({"draws": 1}, "draws must be an integer of at least 2"),
        ({"dropout": 1.0}, "dropout"),
        ({"calibration": 1.0}, "calibration"),
        ({"categorical": ["nowhere"]}, "nowhere"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        Regressor(**settings).fit(*houses(60))


def test_tables_that_cannot_be_used(regressor: Regressor) -> None:
    X, y = houses(60)
    with pytest.raises(InvalidDataError, match="'size' must hold finite numbers"):
        regressor.predict({**X, "size": np.where(np.arange(60) == 7, np.inf, X["size"])})
    with pytest.raises(InvalidDataError, match="no column 'garden'"):
        regressor.predict({"size": X["size"], "district": X["district"], "lawn": X["garden"]})
    with pytest.raises(InvalidDataError, match="row 5"):
        Regressor(**QUICK).fit(X, np.where(np.arange(60) == 5, np.nan, y))
    with pytest.raises(InvalidDataError, match="two classes"):
        Classifier(**QUICK).fit(X, ["same"] * 60)
    with pytest.raises(InvalidArgumentError, match="level"):
        regressor.predict_interval(X, 90)


def test_ten_thousand_categories_are_learned_from() -> None:
    random = np.random.default_rng(0)
    X = {"code": np.array([f"c{k}" for k in random.integers(0, 10_000, 3000)]), "x": random.normal(size=3000)}
    model = Regressor(members=1, epochs=2, width=16, draws=10).fit(X, X["x"])
    assert np.isfinite(model.predict(X)).all()


# -- on disk -----------------------------------------------------------------------------------------------------------


def test_labels_keep_their_type(tmp_path: Path) -> None:
    X, y = houses(60)
    for labels in (y > 240, (y > 240).astype(int), np.where(y > 240, 2.0, 1.0), np.where(y > 240, "a", "b")):
        model = Classifier(**QUICK).fit(X, labels)
        model.save(tmp_path / "m")
        found = Classifier.load(tmp_path / "m").predict(X)
        assert found.dtype.kind == labels.dtype.kind
        np.testing.assert_array_equal(found, model.predict(X))


def damage(folder: Path, how: str) -> None:
    about, weights = folder / "caveat.json", folder / "model.safetensors"
    if how == "weights changed":
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        weights.write_bytes(content)
    elif how == "weights cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "weights gone":
        weights.unlink()
    elif how == "about cut":
        about.write_text(about.read_text()[:-300])
    elif how == "about gone":
        about.unlink()
    elif how == "card changed":
        (folder / "README.md").write_text("trust me")
    else:
        state = json.loads(about.read_text())
        if how == "policy changed":
            state["policy"] = {"measure": "total_variance", "threshold": 1e9}
        elif how == "newer":
            state["version"] = 99
        elif how == "not a model":
            state = [1, 2]
        about.write_text(json.dumps(state))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("weights changed", "model.safetensors is not what was saved"),
        ("weights cut", "model.safetensors is not what was saved"),
        ("weights gone", "model.safetensors is missing"),
        ("about cut", "caveat.json cannot be read"),
        ("about gone", "without one"),
        ("card changed", "README.md is not what was saved"),
        ("policy changed", "caveat.json is not what was saved"),
        ("newer", "made by a newer caveat|saved by a newer caveat"),
        ("not a model", "caveat.json cannot be read"),
    ],
)
def test_a_folder_that_is_not_as_it_was_saved_is_refused(
    regressor: Regressor, tmp_path: Path, how: str, says: str
) -> None:
    regressor.save(tmp_path / "m")
    damage(tmp_path / "m", how)
    with pytest.raises(InvalidModelError, match=says):
        Regressor.load(tmp_path / "m")


def test_a_model_does_not_overwrite_what_is_no_model(regressor: Regressor, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.csv").write_text("a")
    with pytest.raises(InvalidModelError, match="holds something else"):
        regressor.save(tmp_path / "data")
    regressor.save(tmp_path / "m")
    regressor.save(tmp_path / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "m"]


def test_a_save_that_fails_leaves_the_old_model(
    regressor: Regressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regressor.save(tmp_path / "m")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("caveat._estimators._model_folder.write", full)
    with pytest.raises(InvalidModelError, match="No space left on device"):
        regressor.save(tmp_path / "m")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    Regressor.load(tmp_path / "m")


def test_the_other_class_says_which_one_is_meant(regressor: Regressor, tmp_path: Path) -> None:
    regressor.save(tmp_path / "m")
    with pytest.raises(InvalidArgumentError, match=r"caveat.tabular.Regressor.load"):
        Classifier.load(tmp_path / "m")
    shutil.rmtree(tmp_path / "m")
    with pytest.raises(InvalidModelError, match="not there"):
        Regressor.load(tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Regressor, Classifier])
def test_scikit_learn_s_own_checks(kind: Any) -> None:
    import warnings

    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that are skipped
        check_estimator(kind(members=2, epochs=30, width=32, draws=20))


def test_a_threshold_bounds_the_risk_and_is_saved(classifier: Classifier, regressor: Regressor, tmp_path: Path) -> None:
    X, y = houses(400, seed=2)
    dear = np.where(y > 240, "dear", "cheap")
    with pytest.raises(InvalidArgumentError, match="threshold must be chosen"):
        Classifier.of_model(classifier.model_).decide(X)
    model = Classifier.of_model(classifier.model_)
    threshold = model.threshold_for_risk(X, dear, 0.1)
    made = model.decide(X)
    answered = made.answered.numpy()
    assert (model.uncertainty(X) <= threshold.value).tolist() == answered.tolist()
    assert np.mean(model.predict(X)[answered] != dear[answered]) <= 0.1
    assert (model.predict_or_abstain(X, abstained="?")[~answered] == "?").all()
    model.save(tmp_path / "m")
    assert (Classifier.load(tmp_path / "m").decide(X).answered.numpy() == answered).all()
    with pytest.raises(InvalidDataError, match="classes of training"):
        model.threshold_for_risk(X, np.full(400, "free"), 0.1)
    with pytest.raises(InvalidArgumentError, match="must leave a fraction"):
        model.choose_threshold(false_alarms=0.0, confidence=0.9)
    numbers = Regressor.of_model(regressor.model_)
    with pytest.raises(InvalidArgumentError, match="tolerance"):
        numbers.threshold_for_cost(X, y, 0.2)
    numbers.threshold_for_cost(X, y, 0.2, tolerance=15.0)
    assert np.isnan(numbers.predict_or_abstain(X)).sum() == (~numbers.decide(X).answered.numpy()).sum()
    assert numbers.choose_threshold(false_alarms=0.2).coverage >= 0.8
