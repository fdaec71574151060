"""``Regressor``: numbers from a table, as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import dataclass

from caveat._estimators import RegressorBase
from caveat.tabular._estimator import TableEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class Regressor(TableEstimator, RegressorBase):
    """Numbers from a table, each with its uncertainty: a scikit-learn regressor for one target or several.

    Columns may be numbers, categories, booleans and dates, with missing values. Outside of what training showed, at a
    category never seen or a number out of range, draws disagree: epistemic uncertainty rises.

    Args:
        method: "ensemble" (networks trained apart, each with dropout on while drawing), "mc_dropout" (one such
            network), "concrete_dropout" (its rates learned) or "sngp" (a Gaussian process as the last layer).
        members: networks of an ensemble.
        draws: functions that a prediction summarizes.
        width, depth: of the perceptron.
        dropout: its rate; 0.1, of a classifier 0.25, if None.
        epochs: at most so many passes; by the number of rows if None, as are the next two.
        batch_size: rows of a step.
        patience: epochs to wait for a gain on held-out rows.
        learning_rate, weight_decay: AdamW's.
        calibration: the share of rows that is not trained on but calibrates; 0 for none. Tables too small to spare 20
            rows are calibrated by five folds, which train five times more; those of fewer than 20 rows are not.
        categorical: names (or numbers) of columns that hold categories although they look like numbers.
        random_state: the same one and the same rows, in any order, give the same model.
        verbose: show a bar, where the standard error is a terminal.

    Example:
        >>> import numpy as np
        >>> X = np.linspace(0, 1, 60)[:, None]
        >>> model = Regressor(members=2, epochs=20, width=16).fit(X, 3 * X[:, 0])
        >>> mean, std = model.predict([[0.5], [9.0]], return_std=True)
        >>> bool(std[1] > 3 * std[0])
        True
    """
