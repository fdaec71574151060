"""The estimators as scikit-learn and people use them: shapes, seeds, weights, doubts, cuts, and errors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
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

from caveat.decide import NoThresholdError
from caveat.errors import InvalidArgumentError
from caveat.metrics import out_of_distribution
from caveat.predictive import Categorical, Gaussian
from caveat.text import Classifier, DoubtfulDataWarning, InvalidDataError, Regressor

Corpus = Callable[..., tuple[list[str], np.ndarray]]


def lowered(texts: list[str]) -> list[str]:
    return [text.lower() for text in texts]


def test_a_classifier_learns_and_is_calibrated(classifier: Classifier, corpus: Corpus) -> None:
    X, y = corpus(200, seed=1)
    p = classifier.predict_proba(X)
    assert p.shape == (200, 3)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    assert classifier.score(X, y) > 0.95
    assert isinstance(classifier.predictive(X), Categorical)
    assert classifier.classes_.tolist() == ["food", "light", "music"]
    parts = classifier.decompose(X)
    np.testing.assert_allclose(parts["total"], parts["aleatoric"] + parts["epistemic"], atol=1e-6)
    sets = classifier.predict_set(X, 0.9)
    assert sets.dtype == bool
    assert sets[np.arange(200), p.argmax(1)].all()
    held = classifier.model_.calibration
    assert held.rows == 45
    assert 0.3 <= held.temperature <= 5  # 45 rows of which none is wrong do not make it certain


def test_a_regressor_learns_and_its_intervals_hold(regressor: Regressor, rated: Corpus) -> None:
    X, y = rated(200, seed=1)
    mean, std = regressor.predict(X, return_std=True)
    low, high = regressor.predict_interval(X)
    assert mean.shape == std.shape == low.shape == high.shape == y.shape
    assert np.sqrt(np.mean((mean - y) ** 2)) < 0.6 * y.std()
    assert isinstance(regressor.predictive(X), Gaussian)
    # 45 held-out rows at 0.9: Beta(42, 4), 0.91 +- 0.04; and 200 rows to see it by, 0.02.
    assert 0.75 <= np.mean((low <= y) & (y <= high)) <= 1
    narrow, wide = (regressor.predict_interval(X, level) for level in (0.5, 0.95))
    assert (wide[1] - wide[0] > narrow[1] - narrow[0]).all()
    with pytest.raises(InvalidArgumentError, match="level"):
        regressor.predict_interval(X, 90)


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_unheard_words_are_less_known(kind: str, request: pytest.FixtureRequest, unheard: list[str]) -> None:
    model = request.getfixturevalue(kind)
    X, _ = request.getfixturevalue("corpus" if kind == "classifier" else "rated")()
    usual = np.median(model.decompose(X)["epistemic"])
    assert np.mean(model.decompose(unheard)["epistemic"] > usual) >= 0.95


def test_a_cut_keeps_its_share_and_refuses_what_is_out_of_scope(
    classifier: Classifier, corpus: Corpus, unheard: list[str]
) -> None:
    inside, _ = corpus(300, seed=2)
    with pytest.raises(InvalidArgumentError, match="threshold must be chosen"):
        classifier.decide(inside)
    by = [torch.from_numpy(classifier.uncertainty(part, "mutual_information")) for part in (inside, unheard)]
    assert float(out_of_distribution(*by).auroc) > 0.9
    model = clone(classifier)
    model.model_, model.classes_ = classifier.model_, classifier.classes_
    cut = model.choose_threshold(inside, false_alarms=0.1)
    made = model.decide(inside)
    assert made.coverage == cut.coverage
    assert 0.9 <= cut.coverage <= 0.92
    assert model.decide(unheard).coverage < 0.5
    answers = model.predict_or_abstain([*inside[:20], *unheard], abstained="?")
    refused = ~model.decide([*inside[:20], *unheard]).answered.numpy()
    assert (answers[refused] == "?").all()
    assert (answers[~refused] == model.predict([*inside[:20], *unheard])[~refused]).all()
    assert model.decide(unheard[:2], ids=["a", "b"]).records()[0]["id"] == "a"
    by_held_out = model.choose_threshold(false_alarms=0.1, measure="mutual_information")
    assert "45 sentences" in by_held_out.why
    assert model.model_.policy["measure"] == "mutual_information"
    np.testing.assert_array_equal(model.uncertainty(inside), model.uncertainty(inside, "mutual_information"))
    with pytest.raises(NoThresholdError):
        model.choose_threshold(false_alarms=0.01, confidence=0.99)
    for wrong in (5, 1.0, -0.1, "few"):
        with pytest.raises(InvalidArgumentError, match="false_alarms"):
            model.choose_threshold(false_alarms=wrong)
    with pytest.raises(InvalidArgumentError, match="measure of classification"):
        model.uncertainty(inside, "total_variance")


def test_the_held_out_sentences_are_cut_exactly(classifier: Classifier) -> None:
    """Predictions use the draws that calibration used: the share of held-out sentences above the cut is as promised."""
    by = classifier.model_.calibration.uncertainty["predictive_entropy"]
    model = clone(classifier)
    model.model_, model.classes_ = classifier.model_, classifier.classes_
    cut = model.choose_threshold(false_alarms=0.2)
    assert float((by <= cut.value).double().mean()) == cut.coverage


def test_a_regressor_abstains(regressor: Regressor, rated: Corpus, unheard: list[str]) -> None:
    X, _ = rated(100, seed=2)
    model = clone(regressor)
    model.model_ = regressor.model_
    model.choose_threshold(X, false_alarms=0.1)
    answers = model.predict_or_abstain(X)
    assert np.isnan(answers).mean() == pytest.approx(0.1)
    known = ~np.isnan(answers)
    np.testing.assert_allclose(answers[known], model.predict(X)[known])
    assert model.uncertainty(unheard).shape == (len(unheard),)


def test_the_order_of_rows_does_not_matter_and_the_seed_does(corpus: Corpus, quick: dict[str, Any]) -> None:
    X, y = corpus(120)
    settings = quick | {"epochs": 2}
    order = np.random.default_rng(5).permutation(120)
    first = Classifier(**settings).fit(X, y).predict_proba(X)
    turned = Classifier(**settings).fit([X[k] for k in order], y[order]).predict_proba(X)
    np.testing.assert_array_equal(first, turned)
    other = Classifier(**settings, random_state=1).fit(X, y).predict_proba(X)
    assert np.abs(first - other).max() > 1e-3


def test_a_row_is_predicted_alike_in_any_company(classifier: Classifier, corpus: Corpus, unheard: list[str]) -> None:
    X = [*corpus(30, seed=3)[0], "play", " ".join(["please play jazz"] * 10), unheard[0]]
    together = classifier.predict_proba(X)
    alone = np.concatenate([classifier.predict_proba([x]) for x in X[-4:]])
    np.testing.assert_allclose(alone, together[-4:], atol=1e-5)


def test_scikit_learn_can_handle_it(corpus: Corpus, rated: Corpus, quick: dict[str, Any]) -> None:
    X, y = corpus(90)
    settings = quick | {"epochs": 3}
    made = clone(Classifier(**settings, encoder=None))
    assert made.get_params()["width"] == settings["width"]
    assert made.set_params(width=8).width == 8
    assert cross_val_score(made, X, y, cv=2).shape == (2,)
    search = GridSearchCV(Classifier(**settings), {"dropout": [0.1, 0.5]}, cv=2).fit(np.array(X), y)
    assert search.best_params_["dropout"] in (0.1, 0.5)
    piped = make_pipeline(FunctionTransformer(lowered), Classifier(**settings)).fit(X, y)
    assert piped.predict([text.upper() for text in X[:5]]).shape == (5,)
    assert cross_val_score(Regressor(**settings), *rated(80), cv=2).shape == (2,)
    with pytest.raises(NotFittedError):
        Classifier().predict(X)
    again = pickle.loads(pickle.dumps(piped))
    np.testing.assert_array_equal(again.predict_proba(X[:5]), piped.predict_proba(X[:5]))


def test_an_ensemble_has_members(corpus: Corpus, quick: dict[str, Any]) -> None:
    X, y = corpus(60)
    model = Classifier(**quick | {"epochs": 1}, method="ensemble", members=2).fit(X, y)
    assert len(model.model_.networks) == 2
    assert model.predictive(X[:2]).count == 20


def test_labels_keep_their_type(corpus: Corpus, quick: dict[str, Any]) -> None:
    X, y = corpus(60)
    settings = quick | {"epochs": 1}
    numbers = np.searchsorted(["food", "light", "music"], y)
    assert Classifier(**settings).fit(X, numbers * 10).predict(X[:3]).dtype == numbers.dtype
    assert set(Classifier(**settings).fit(X, list(numbers == 1)).classes_) == {False, True}


def test_weights_count(corpus: Corpus, quick: dict[str, Any]) -> None:
    X, y = corpus(100)
    settings = quick | {"epochs": 2}
    weights = (np.arange(100) % 3 > 0).astype(float)
    kept = np.flatnonzero(weights)
    left_out = Classifier(**settings).fit(X, y, sample_weight=weights).predict_proba(X[:9])
    without = Classifier(**settings).fit([X[k] for k in kept], y[kept]).predict_proba(X[:9])
    np.testing.assert_allclose(left_out, without, atol=1e-4)
    heavy = Classifier(**settings, class_weight={"food": 20.0, "light": 1.0, "music": 1.0}).fit(X, y)
    plain = Classifier(**settings).fit(X, y)
    assert heavy.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean()
    assert Classifier(**settings, class_weight="balanced").fit(X, y).score(X, y) > 0
    for wrong in (np.ones(3), np.zeros(100), -np.ones(100), np.full(100, np.nan)):
        with pytest.raises(InvalidArgumentError, match="weight"):
            Classifier(**settings).fit(X, y, sample_weight=wrong)


def test_several_targets(rated: Corpus, quick: dict[str, Any]) -> None:
    X, y = rated(80)
    two = np.stack([y, 1e6 - 100 * y], 1)
    model = Regressor(**quick | {"epochs": 2}).fit(X, two, sample_weight=np.linspace(1, 2, 80))
    mean, std = model.predict(X[:5], return_std=True)
    assert mean.shape == std.shape == (5, 2)
    assert model.predict_interval(X[:5])[0].shape == (5, 2)
    assert abs(mean[:, 1].mean() - 1e6) < 1000
    model.choose_threshold(X[:30])
    assert model.predict_or_abstain(X[:5]).shape == (5, 2)


def test_a_target_that_does_not_vary(rated: Corpus, quick: dict[str, Any]) -> None:
    X, _ = rated(140)
    with pytest.warns(UserWarning, match="nothing to learn"):
        model = Regressor(**quick | {"epochs": 2}).fit(X, np.full(140, 3.0))
    assert np.abs(model.predict(X[:5]) - 3).max() < 1


def test_long_sentences_are_cut_and_said_to_be(corpus: Corpus, quick: dict[str, Any]) -> None:
    X, y = corpus(60)
    long = [*X[:-1], " ".join(X[:9])]
    with pytest.warns(DoubtfulDataWarning, match=r"1 of 60 sentences are longer than max_length=10 words"):
        model = Classifier(**quick | {"epochs": 1}, max_length=10).fit(long, y)
    assert model.model_.summary["rows_cut"] == 1
    with pytest.warns(DoubtfulDataWarning):
        cut = model.predict_proba([long[-1]])
    np.testing.assert_allclose(cut, model.predict_proba([" ".join(long[-1].split()[:10])]), atol=1e-6)


def test_equal_sentences_are_held_out_together(quick: dict[str, Any]) -> None:
    X = [f"play song {number % 40}x{number % 40}" for number in range(200)]
    y = ["a", "b"] * 100
    model = Classifier(**quick | {"epochs": 1}, calibration=0.2).fit(X, y)
    assert model.model_.summary["rows_held_out"] % 5 == 0
    assert model.model_.summary["rows_held_out"] >= 40


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (["a"] * 20, "one class only"),
        (["a", "b"] * 5, "20 sentences and 10 answers"),
        (["a", None] * 10, "row 1"),
        ([0.5, 1.5] * 10, "Regressor"),
        ([1.0, float("nan")] * 10, "row 1"),
        (["a", 1] * 10, "one type"),
        (np.eye(2)[[0, 1] * 10], "one for each sentence"),
        (None, "requires y"),
    ],
    ids=["one class", "length", "None", "continuous", "NaN", "mixed", "one-hot", "no y"],
)
def test_labels_that_cannot_be_learned(y: Any, said: str) -> None:
    with pytest.raises(InvalidDataError, match=said):
        Classifier(epochs=1).fit(["play jazz", "stop it"] * 10, y)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([1.0, float("nan")] * 10, "row 1"),
        ([1.0, 2.0, float("inf"), 3.0] * 5, "row 2"),
        ([1.0, "two"] * 10, "row 1"),
        ([1.0] * 19, "20 sentences and 19 answers"),
        (np.zeros((20, 2, 2)), "shape"),
    ],
    ids=["NaN", "infinite", "text", "length", "three axes"],
)
def test_targets_that_cannot_be_learned(y: Any, said: str) -> None:
    with pytest.raises(InvalidDataError, match=said):
        Regressor(epochs=1).fit(["play jazz", "stop it"] * 10, y)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "bagging"}, {"pooling": "max"}, {"fine_tune": True}, {"members": 0}, {"draws": 1}, {"max_length": 1},
        {"epochs": 0}, {"epochs": 1.5}, {"dropout": 0.0}, {"dropout": 1.0}, {"calibration": 1.0}, {"calibration": -0.1},
        {"validation": 0}, {"learning_rate": "fast"}, {"width": 0}, {"vocabulary": True},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be_used(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(settings))):
        Classifier(**settings).fit(["play jazz", "stop it"] * 10, ["a", "b"] * 10)


def test_nothing_to_choose_a_cut_by(quick: dict[str, Any]) -> None:
    model = Classifier(**quick | {"epochs": 1}).fit(["play jazz", "stop it"] * 10, ["a", "b"] * 10)
    assert model.model_.calibration.rows == 0
    assert model.predict_set(["play"]).all()
    with pytest.raises(InvalidArgumentError, match="not trained on"):
        model.choose_threshold()
