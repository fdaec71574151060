"""Predictives that grow with the draws: the last is that of all of them, and each is that of as many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from caveat import tabular, text
from caveat._estimators import predict_from, predict_in_steps

X = np.random.default_rng(0).normal(size=(80, 3))


@pytest.fixture(scope="module", params=["numbers", "classes", "sentences"])
def model_and_rows(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    quick: dict[str, Any] = {"epochs": 2, "draws": 25}
    if request.param == "numbers":
        made: Any = tabular.Regressor(members=2, **quick).fit(X, X[:, 0] * 30 + 500)
    elif request.param == "classes":
        made = tabular.Classifier(members=2, **quick).fit(X, X[:, 0] > 0)
    else:
        words = ["play some jazz", "play the blues", "book a table", "book two seats for us"] * 20
        made = text.Classifier(width=8, **quick).fit(words, ["music", "music", "food", "food"] * 20)
        return made.model_, made.model_.reader.read(["play jazz", "book", "play the blues for us"])
    columns = {f"x{number}": X[:5, number] for number in range(3)}
    table = type("Given", (), {"columns": columns, "place": str})
    return made.model_, made.model_.reader.read(table)


def test_each_is_of_all_draws_so_far(model_and_rows: tuple[Any, Any]) -> None:
    """In float64: chunks of other lengths may multiply in another order, as the processor has it."""
    model, rows = model_and_rows
    for network in model.networks:
        network.double()
    rows = rows.double()
    steps = list(predict_in_steps(model, rows, 25, 10))
    assert [int(pred.count) for pred in steps] == [10, 20, 25]
    for pred in steps:
        wanted = predict_from(model, rows, int(pred.count))
        torch.testing.assert_close(pred.moments.mean, wanted.moments.mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(pred.moments.variance, wanted.moments.variance, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(pred.standard_error(), wanted.standard_error(), rtol=1e-4, atol=1e-8)
