"""Trees as plain arrays: they say what scikit-learn's say, come back from disk, and refuse arrays that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from caveat._tables import TableReader, Trees, learn_table
from caveat.tabular._boosting import trees_of

Change = Callable[[dict[str, torch.Tensor]], None]


def rows(count: int, seed: int) -> np.ndarray:
    """Numbers on a grid, so that rows lie on thresholds, with missing ones, and codes."""
    random = np.random.default_rng(seed)
    numbers = random.integers(-8, 9, (count, 3)) / 4
    numbers[random.random((count, 3)) < 0.1] = np.nan
    return np.concatenate([numbers, random.integers(0, 6, (count, 1))], 1)


def answers(x: np.ndarray) -> np.ndarray:
    return np.nan_to_num(x[:, 0], nan=1.5) * (x[:, 3] % 2) + np.isnan(x[:, 1])


@pytest.mark.parametrize(("edges", "scores"), [([0.5], 1), ([-0.5, 0.5, 1], 4)])
def test_scores_are_those_of_scikit_learn_s_classes(edges: list[float], scores: int) -> None:
    x = rows(600, 0)
    y = np.digitize(answers(x), edges)
    model = HistGradientBoostingClassifier(max_iter=15).fit(x, y)
    trees, new = trees_of(model), rows(1500, 1)
    wanted = model.decision_function(new).reshape(len(new), -1).clip(-12, 12)
    np.testing.assert_allclose(trees.scores(torch.from_numpy(new)).numpy(), wanted, rtol=1e-6, atol=1e-6)
    assert len(trees.base) == scores
    assert len(trees.root) == 15 * scores


def test_scores_are_those_of_scikit_learn_s_means() -> None:
    x, new = rows(600, 0), rows(1500, 1)
    model = HistGradientBoostingRegressor(max_iter=20).fit(x, answers(x))
    found = trees_of(model).scores(torch.from_numpy(new))[:, 0]
    np.testing.assert_allclose(found.numpy(), model.predict(new), rtol=1e-6, atol=1e-6)


def test_a_split_of_missing_from_known_values_is_followed() -> None:
    x = np.where(np.arange(400)[:, None] % 2 == 0, np.nan, 1.0)
    model = HistGradientBoostingRegressor(max_iter=3).fit(x, np.arange(400) % 2)
    new = np.array([[np.nan], [-1e300], [1e300]])
    np.testing.assert_allclose(trees_of(model).scores(torch.from_numpy(new))[:, 0], model.predict(new), atol=1e-6)


def test_what_trees_compare_is_missing_where_it_is_flagged() -> None:
    encoded = torch.tensor([[1.5, 0.0, 0.0, 1.0, 4.0, 0.0, 0.5, 0.0]])
    schema, _ = learn_table({"a": np.array([1.5, 2.0]), "b": np.array([0.0, 1.0]), "c": np.array(["x", "y"])})
    found = TableReader(schema).compared(encoded)
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found.numpy(), [[1.5, np.nan, 4.0]])


def arrays() -> dict[str, torch.Tensor]:
    x = rows(300, 0)
    return trees_of(HistGradientBoostingRegressor(max_iter=3).fit(x, answers(x))).tensors()


def test_arrays_come_back_as_trees() -> None:
    x, again = torch.from_numpy(rows(100, 2)), Trees.restore(arrays(), 4, 1)
    np.testing.assert_array_equal(Trees(**arrays()).scores(x).numpy(), again.scores(x).numpy())


def at(name: str, place: int, value: Any) -> Change:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].clone()
        tensors[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (at("left", 0, 0), "after its parent"),  # a node that is its own child on one side is walked without end
        (at("right", 1, 0), "after its parent"),
        (at("left", 0, 10**6), "left is out of range"),
        (at("column", 0, 4), "column is out of range"),
        (at("root", 0, -1), "root is out of range"),
        (at("score", 0, 1), "score is out of range"),
        (at("value", 0, torch.nan), "value does not fit"),
        (lambda tensors: tensors.pop("base"), "missing or not known"),
        (lambda tensors: tensors.update(more=torch.ones(1)), "missing or not known"),
        (lambda tensors: tensors.update(base=torch.ones(2, dtype=torch.float64)), "base does not fit"),
        (lambda tensors: tensors.update(column=tensors["column"].long()), "column does not fit"),
        (lambda tensors: tensors.update(value=tensors["value"][1:]), "value does not fit"),
    ],
)
def test_arrays_that_are_no_trees_are_refused(change: Change, says: str) -> None:
    tensors = arrays()
    change(tensors)
    with pytest.raises(ValueError, match=says):
        Trees.restore(tensors, 4, 1)
