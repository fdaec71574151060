"""Boosted trees beside the networks: no row sees its own answer, folders hold them, and what is strange stays so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from caveat._estimators import Training, learn_classes
from caveat._tables import TableReader, TrainingTable, as_columns, learn_table
from caveat.tabular import Classifier, InvalidModelError
from caveat.tabular._boosting import boost, split_in_folds
from caveat.tabular._settings import Settings

ROWS = 300
QUICK: dict[str, Any] = {"members": 1, "epochs": 8, "width": 16, "draws": 10}
Table = tuple[dict[str, np.ndarray], np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def _small_tables_are_boosted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caveat.tabular._boosting.FEWEST_ROWS", 200)
        patch.setattr("caveat.tabular._boosting._ROUNDS", 20)
        yield


def table(rows: int = ROWS, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    x, z = random.normal(size=(2, rows))
    color = random.choice(["red", "green", "blue"], rows).astype(object)
    y = np.sign(x * z) * (color == "red") + x + 0.1 * random.normal(size=rows)
    x[random.random(rows) < 0.1] = np.nan
    color[random.random(rows) < 0.1] = None
    return {"x": x, "z": z, "color": color}, y


def training(X: dict[str, np.ndarray], labels: np.ndarray) -> tuple[Training, torch.Tensor]:
    """What the trees are grown on, and what they compare."""
    target, _, answers = learn_classes(labels, "y")
    schema, typed = learn_table(as_columns(X))
    rows = TrainingTable(schema, typed.numbers, schema.encode(typed))
    _, order, in_order = rows.sort(answers.double().numpy()[:, None], np.ones(len(labels)))
    groups = None if in_order is None else in_order[np.argsort(order)]
    made = Training(rows, np.arange(len(labels)), answers, None, target, Settings(), groups)
    return made, TableReader(rows.schema).compared(rows.encoded)


def test_a_column_without_a_value_grows_no_branch() -> None:
    X, y = table()
    empty = {"nothing": np.full(ROWS, np.nan), **X}
    boosted = boost(*training(empty, np.where(y > 0.3, "high", "low")))
    assert boosted is not None
    trees, _ = boosted
    inner = trees.left != torch.arange(len(trees.left))
    assert (trees.column[inner] > 0).all()


def test_the_scores_of_a_row_do_not_see_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    (first, inputs), row = training(X, np.where(y > 0.3, "high", "low")), 7
    folds = split_in_folds(first)
    monkeypatch.setattr("caveat.tabular._boosting.split_in_folds", lambda *given: folds)
    answers = first.answers.clone()
    answers[row] = 1 - answers[row]
    a, b = boost(first, inputs), boost(replace(first, answers=answers), inputs)
    assert a is not None
    assert b is not None
    (fold,) = (out for out in folds if out[row])
    np.testing.assert_array_equal(a[1][fold].numpy(), b[1][fold].numpy())
    assert bool((a[1][~fold] != b[1][~fold]).any())
    moved = (b[0].scores(inputs) - a[0].scores(inputs))[row] * (answers[row] - 0.5).sign()
    assert float(moved) > 0.1  # trees grown on all rows do see it


def test_every_row_is_in_one_fold_and_equal_rows_are_together() -> None:
    X, y = table(100)
    labels = np.repeat(np.where(y > 0.3, "high", "low"), 3)
    made, _ = training({name: np.repeat(values, 3) for name, values in X.items()}, labels)
    folds = torch.stack(split_in_folds(made)).numpy()
    np.testing.assert_array_equal(folds.sum(0), 1)
    np.testing.assert_array_equal(folds[:, ::3], folds[:, 1::3])
    np.testing.assert_array_equal(folds[:, ::3], folds[:, 2::3])
    assert folds.sum(1).min() >= 54
    assert folds[:, labels == "high"].sum(1).min() > 0.15 * (labels == "high").sum()


def test_too_few_rows_or_too_few_of_a_class_have_no_trees() -> None:
    X, y = table()
    for rare in (1, 2):
        made, inputs = training(X, np.where(np.arange(len(y)) < rare, "rare", "usual"))
        assert (boost(made, inputs) is None) == (rare == 1)
    same = {name: np.concatenate([values[:1].repeat(9), values]) for name, values in X.items()}
    made, inputs = training(same, np.where(np.arange(len(y) + 9) < 10, "rare", "usual"))
    assert boost(made, inputs) is None  # ten equal rows are all in one fold
    X, y = table(199)
    made, inputs = training(X, np.where(y > 0.3, "high", "low"))
    assert boost(made, inputs) is None


@pytest.fixture(scope="module", params=[[0.0], [-1.0, 0.0, 1.0]], ids=["two classes", "four classes"])
def model(request: pytest.FixtureRequest) -> Any:
    X, y = table()
    return Classifier(**QUICK).fit(X, np.digitize(y, request.param))


def test_a_folder_gives_the_same_digits(model: Any, tmp_path: Path) -> None:
    X, _ = table(seed=1)
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m")
    assert again.model_.reader.trees is not None
    for name, values in model.decompose(X).items():
        np.testing.assert_array_equal(values, again.decompose(X)[name])
    np.testing.assert_array_equal(model.predict_proba(X), again.predict_proba(X))
    alone = {name: values[5:6] for name, values in X.items()}
    np.testing.assert_allclose(again.predict_proba(alone)[0], again.predict_proba(X)[5], rtol=1e-5)


def test_the_card_says_that_there_are_trees(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    assert f"{len(model.model_.reader.trees.root):,} boosted trees" in (tmp_path / "m" / "README.md").read_text()


def test_a_folder_without_its_trees_or_with_others_is_refused(model: Any, tmp_path: Path) -> None:
    saved, trees = model.model_, model.model_.reader.trees.tensors()
    folder = tmp_path / "m"
    for tensors in ({}, {**trees, "left": trees["left"] * 0}, {**trees, "column": trees["column"] + 3}):
        odd = replace(saved, kind=replace(saved.kind, tensors=lambda model, tensors=tensors: tensors))
        type(model).of_model(odd).save(folder)
        with pytest.raises(InvalidModelError, match="trees"):
            type(model).load(folder)


@pytest.mark.parametrize("strange", [{"x": 1e3}, {"z": -1e3}, {"color": "never seen"}])
def test_strange_rows_are_less_known_than_usual_ones(model: Any, strange: dict[str, Any]) -> None:
    X, _ = table(seed=2)
    ((name, value),) = strange.items()
    odd = {**X, name: np.full(len(X[name]), value, dtype=X[name].dtype)}
    usual, found = (model.decompose(part)["epistemic"] for part in (X, odd))
    assert np.mean(found > np.median(usual)) > 0.95


def test_trees_know_weights_and_do_not_depend_on_the_order_of_rows() -> None:
    X, y = table()
    labels = y > 0.3
    one = Classifier(**QUICK).fit(X, labels)
    back = Classifier(**QUICK).fit({name: values[::-1] for name, values in X.items()}, labels[::-1])
    np.testing.assert_array_equal(one.predict_proba(X), back.predict_proba(X))
    weighted = Classifier(**QUICK).fit(X, labels, np.where(np.isnan(X["x"]), 0.5, 1.5)).model_.reader.trees
    assert not torch.equal(weighted.base, one.model_.reader.trees.base)


def test_a_folder_with_trees_predicts_without_scikit_learn(tmp_path: Path) -> None:
    X, y = table()
    Classifier(**QUICK).fit(X, y > 0.3).save(tmp_path / "m")
    rows = [f"{x},{z},{color or ''}" for x, z, color in zip(*X.values(), strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["x,z,color", *rows]).replace("nan", ""))
    code = (
        "import sys\nfrom caveat.cli import main\ncode = main(['predict', 'm', 't.csv', '--out', 'p.csv'])\n"
        "loaded = {'sklearn', 'pandas', 'scipy'} & set(sys.modules)\nassert not loaded, loaded\nsys.exit(code)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert process.returncode == 0, process.stderr
    assert len((tmp_path / "p.csv").read_text().splitlines()) == ROWS + 1
