"""What cannot be used is refused before it changes an estimator; what is kept comes back from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from sklearn.base import clone

from caveat.cli._cli import main
from caveat.errors import InvalidArgumentError
from caveat.tabular import Classifier, Regressor

QUICK: dict[str, Any] = {"members": 1, "epochs": 3, "width": 8, "draws": 10}


def rows_of(count: int = 120, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(seed)
    a = random.normal(size=count)
    return {"a": a, "code": random.integers(0, 4, count)}, a + 0.2 * random.normal(size=count)


@pytest.mark.parametrize("how", ["interrupted", "refused"])
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows_of()
    model = Classifier(**QUICK).fit(X, np.where(y > 0, "healthy", "ill"))
    before = model.predict(X)
    other = X
    if how == "refused":
        other = {"b": np.array(["1", "2", "x"] * 40, dtype=object)}
    else:

        def interrupt(*given: Any, **named: Any) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr("caveat._estimators._estimator.fit_model", interrupt)
    with pytest.raises((KeyboardInterrupt, InvalidArgumentError)):
        model.fit(other, np.where(y > 0, "alive", "dead"))
    assert model.classes_.tolist() == ["healthy", "ill"]
    np.testing.assert_array_equal(model.predict(X), before)


def test_answers_that_do_not_fit_the_rows_choose_no_threshold() -> None:
    X, y = rows_of()
    labels = np.where(y > 0, "p", "q")
    classifier = Classifier(**QUICK).fit(X, labels)
    two = Regressor(**QUICK).fit(X, np.stack([y, -y], 1))
    wrong = ((classifier, labels[:1]), (classifier, labels[:5]), (two, y), (two, np.stack([y, -y], 1)[:5]))
    for model, answers in wrong:
        with pytest.raises(InvalidArgumentError):
            model.threshold_for_cost(X, answers, 0.2, tolerance=None if model is classifier else 0.5)
        assert model.model_.policy is None


def test_the_row_that_sets_a_threshold_is_answered_also_alone() -> None:
    X, y = rows_of(80)
    model = Regressor(**QUICK).fit(X, y)
    for share in (0.0, 0.1, 0.3):
        model.choose_threshold(X, false_alarms=share)
        answered = np.asarray(model.decide(X).answered)
        row = int(np.where(answered, model.uncertainty(X), -1).argmax())
        assert bool(model.decide({name: values[row : row + 1] for name, values in X.items()}).answered[0])


@pytest.mark.parametrize("given", [{"p": 1, "q": -1}, {"p": float("nan"), "q": 1}, {"p": 0, "q": 0}, [1, 2]], ids=str)
def test_class_weights_are_finite_and_not_negative(given: Any) -> None:
    X, y = rows_of()
    with pytest.raises(InvalidArgumentError, match="class_weight must be"):
        Classifier(**QUICK, class_weight=given).fit(X, np.where(y > 0, "p", "q"))


@pytest.mark.parametrize("given", [{"p": 9.0, "q": 1.0}, {"p": 9.0}, "balanced", None], ids=str)
def test_a_loaded_estimator_is_fitted_again_as_it_was(given: Any, tmp_path: Path) -> None:
    X, y = rows_of()
    labels = np.where(y > 0, "p", "q")
    model = Classifier(**QUICK, class_weight=given, categorical=["code"]).fit(X, labels)
    model.save(tmp_path / "m")
    again = Classifier.load(tmp_path / "m")
    assert (again.class_weight, list(again.categorical)) == (given, ["code"])
    np.testing.assert_array_equal(clone(again).fit(X, labels).predict_proba(X), model.predict_proba(X))


def test_categorical_is_of_names_places_or_a_mask() -> None:
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    X = np.stack([random.integers(0, 4, 60), random.integers(0, 4, 60), random.normal(size=60)], 1).astype(float)

    def categories(table: Any, given: Any) -> list[str]:
        model = Regressor(**QUICK, categorical=given).fit(table, X[:, 2])
        return [column.name for column in model.model_.reader.schema.categories]

    assert categories(X, [True, False, False]) == ["x0"]
    assert categories(X, np.array([False, True, False])) == ["x1"]
    assert categories(X, np.flatnonzero([True, True, False])) == ["x0", "x1"]
    assert categories(pandas.DataFrame(X, columns=["a", "b", "c"]), ["b"]) == ["b"]
    assert categories(pandas.DataFrame(X, columns=[2, 0, 1]), [2]) == ["2"]
    for given in ("ab", [True, False]):
        with pytest.raises(InvalidArgumentError, match="categorical must be"):
            categories(X, given)


def test_what_could_not_be_loaded_is_not_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = rows_of()
    with pytest.raises(InvalidArgumentError, match="different names"):
        Regressor(**QUICK).fit(X, pandas.DataFrame(np.stack([y, -y], 1), columns=["y", "y"]))
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{row},{2 * row}\n" for row in range(40)))
    arguments = ["fit", str(tmp_path / "t.csv"), "--target", "y", "--target", "y", "--out", str(tmp_path / "m")]
    assert main(arguments) == 2
    assert "'y' twice" in capsys.readouterr().err
    hashes = np.where(y > 0, 2**64 - 1, 5).astype(np.uint64)
    model = Classifier(**QUICK).fit(X, hashes)
    model.save(tmp_path / "hashes")
    np.testing.assert_array_equal(Classifier.load(tmp_path / "hashes").predict(X), model.predict(X))


@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
@pytest.mark.parametrize("kind", ["M8", "m8"])
def test_times_are_no_targets_and_no_classes(kind: str, unit: str) -> None:
    X, _ = rows_of()
    times = (np.arange(120) % 2).astype(f"{kind}[{unit}]")
    frame = pytest.importorskip("pandas").DataFrame({"when": times, "y": np.arange(120.0)})
    for y in (times, list(times), frame["when"], frame):
        with pytest.raises(InvalidArgumentError, match="Targets must be numbers"):
            Regressor(**QUICK).fit(X, y)
    for y in (times, frame["when"]):
        with pytest.raises(InvalidArgumentError, match="Labels must be text, whole numbers or booleans"):
            Classifier(**QUICK).fit(X, y)


def test_bytes_are_no_classes() -> None:
    with pytest.raises(InvalidArgumentError, match="Labels must be text, whole numbers or booleans"):
        Classifier(**QUICK).fit(rows_of()[0], np.array([b"yes", b"no"] * 60))


def test_a_share_that_leaves_no_row_to_train_on_is_refused() -> None:
    X, y = rows_of()
    with pytest.raises(InvalidArgumentError, match="calibration must leave rows to train on"):
        Regressor(**QUICK, calibration=0.999).fit(X, y)


def test_targets_are_taken_from_arrow_tables_and_any_tensor() -> None:
    arrow, (X, y) = pytest.importorskip("pyarrow"), rows_of()
    model = Regressor(**QUICK).fit(X, arrow.table({"up": y, "down": -y}))
    assert model.model_.target.names == ("up", "down")
    expected = Regressor(**QUICK).fit(X, np.c_[y, -y]).predict(X)
    np.testing.assert_array_equal(model.predict(X), expected)
    tensor = torch.tensor(np.c_[y, -y], requires_grad=True)
    np.testing.assert_array_equal(Regressor(**QUICK).fit(X, tensor).predict(X), expected)
    halved = Regressor(**QUICK).fit(X, tensor.bfloat16()).predict(X)
    np.testing.assert_allclose(halved, expected, atol=0.1)


def test_rows_to_train_on_are_taken_from_arrow_tables() -> None:
    arrow, (X, y) = pytest.importorskip("pyarrow"), rows_of()
    for given in (["code"], [1], [False, True]):
        model = Regressor(**QUICK, categorical=given).fit(arrow.table(X), y)
        assert [column.name for column in model.model_.reader.schema.categories] == ["code"]
        np.testing.assert_array_equal(model.predict(X), Regressor(**QUICK, categorical=given).fit(X, y).predict(X))


def test_sparse_answers_and_weights_in_words_are_refused() -> None:
    sparse, (X, y) = pytest.importorskip("scipy.sparse"), rows_of()
    for model in (Regressor(**QUICK), Classifier(**QUICK)):
        with pytest.raises(InvalidArgumentError, match=r"a sparse matrix(.|\n)*toarray"):
            model.fit(X, sparse.csr_array(y[:, None] > 0))
        with pytest.raises(InvalidArgumentError, match="sample_weight must be"):
            model.fit(X, y > 0, sample_weight="balanced")
