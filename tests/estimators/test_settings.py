"""Parameters are declared once, are those of scikit-learn too, and are refused by the range that holds."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone

from caveat import image, tabular, text
from caveat.errors import InvalidArgumentError
from caveat.tabular._settings import Settings, check_settings


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"calibration": 2.0}, "calibration must be a number at least 0 and below 1."),
        ({"calibration": -0.1}, "calibration must be a number at least 0 and below 1."),
        ({"dropout": 0}, "dropout must be a number above 0 and below 1."),
        ({"weight_decay": -1.0}, "weight_decay must be a number at least 0 and below 1e+06."),
        ({"learning_rate": "fast"}, "learning_rate must be a number above 0 and below 1e+06."),
    ],
    ids=str,
)
def test_the_range_that_is_said_is_the_one_that_holds(parameters: dict[str, Any], said: str) -> None:
    assert check_settings(Settings(calibration=0)).calibration == 0
    assert check_settings(Settings(weight_decay=0)).weight_decay == 0
    with pytest.raises(InvalidArgumentError) as error:
        check_settings(Settings(**parameters))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("package", [tabular, text, image])
def test_an_estimator_has_the_parameters_of_its_kind(package: Any) -> None:
    for estimator in (package.Classifier, package.Regressor):
        declared = {field.name for field in fields(estimator.kind.settings)}
        given = clone(estimator(draws=7, verbose=True)).get_params()
        assert declared <= set(given) <= declared | {"verbose", "class_weight", "categorical"}
        assert given["draws"] == 7


def test_a_model_keeps_the_parameters_that_it_was_trained_with() -> None:
    X = np.linspace(0, 1, 12)[:, None]
    estimator = tabular.Regressor(members=1, epochs=1, width=4, draws=6).fit(X, X[:, 0])
    estimator.set_params(draws=9, random_state=1)
    assert (estimator.model_.settings.draws, estimator.model_.settings.random_state) == (6, 0)
