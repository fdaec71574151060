"""Rows that tie: they have one uncertainty and one interval, whoever stands beside them, and promises count all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from caveat.tabular import Classifier, Regressor

CODES = np.array(list("wxyz"))
SMALL: dict[str, Any] = {"members": 1, "method": "mc_dropout", "epochs": 30, "width": 16, "draws": 20}


def test_a_risk_is_kept_where_many_rows_are_equally_sure() -> None:
    random = np.random.default_rng(0)

    def sample(rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        code = random.integers(0, 4, rows)
        wrong = random.random(rows) < np.array([0.0, 0.02, 0.15, 0.4])[code]
        return {"code": CODES[code]}, np.where(wrong, "b", "a")

    model = Classifier(**SMALL).fit(*sample(2000))
    assert np.all(np.diff(model.uncertainty({"code": CODES})) > 0.01)
    for _ in range(5):
        threshold = model.threshold_for_risk(*sample(600), 0.05)  # of w, x and y 5.7 % are wrong, of w and x 1 %
        assert model.decide({"code": CODES}).answered.tolist() == [True, True, False, False]
        policy = model.model_.policy or {}
        assert threshold.why.startswith("predictive_entropy: ")
        assert (policy["coverage"], policy["risk_answered"]) == (threshold.coverage, threshold.risk)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_hold_of_a_row_asked_alone_what_they_hold_of_it_among_others(seed: int) -> None:
    random = np.random.default_rng(seed)
    code = random.integers(0, 4, 1200)
    X, y = {"code": CODES[code]}, code + random.choice([0.0, 1.0, 3.0], 1200, p=[0.55, 0.25, 0.2])
    model = Regressor(**SMALL, random_state=seed).fit(X, y)
    for level in np.linspace(0.3, 0.95, 14).tolist():
        low, high = model.predict_interval(X, level)
        first = [int(np.flatnonzero(code == k)[0]) for k in range(4)]
        for k, row in enumerate(first):
            (alone_low,), (alone_high,) = model.predict_interval({"code": CODES[[k]]}, level)
            values = k + np.array([0.0, 1.0, 3.0])
            among = (low[row] <= values) & (values <= high[row])
            assert np.array_equal((alone_low <= values) & (values <= alone_high), among)


@pytest.mark.parametrize("seed", range(4))
def test_sets_hold_of_a_row_asked_alone_what_they_hold_of_it_among_others(seed: int) -> None:
    random = np.random.default_rng(seed)
    code = random.integers(0, 4, 1200)
    chances = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    X, y = {"code": CODES[code]}, (random.random((1200, 1)) > chances[code].cumsum(1)).sum(1).clip(0, 2)
    model = Classifier(**SMALL, random_state=seed).fit(X, y)
    for level in np.linspace(0.3, 0.95, 14).tolist():
        among = model.predict_set(X, level)
        for k in range(4):
            alone = model.predict_set({"code": CODES[[k]]}, level)
            assert np.array_equal(alone[0], among[code == k][0])
