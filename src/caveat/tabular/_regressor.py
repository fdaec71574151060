"""``Regressor``: numbers from a table, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray

from caveat._estimators import interval_of
from caveat.measures import decompose
from caveat.predictive import Gaussian
from caveat.tabular import _storage as storage
from caveat.tabular._columns import take
from caveat.tabular._fitting import Rows, fit_model, repeated
from caveat.tabular._schema import learn_schema
from caveat.tabular._settings import check_settings
from caveat.tabular._sklearn_face import (
    RegressorBases,
    asked,
    categorical_names,
    checked_weights,
    fitted,
    place_of,
    restored,
    settings_of,
    tagged,
    target_names,
    target_values,
    training_columns,
    warn_of_notes,
)
from caveat.tabular._targets import Numbers, learn_numbers

Numeric = NDArray[Any]


class Regressor(RegressorBases):
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
            rows are not calibrated.
        categorical: names (or numbers) of columns that hold categories although they look like numbers.
        seed: the same seed and rows, in any order, give the same model.
        progress: show a bar, where the standard error is a terminal.

    Example:
        >>> import numpy as np
        >>> X = np.linspace(0, 1, 60)[:, None]
        >>> model = Regressor(members=2, epochs=20, width=16).fit(X, 3 * X[:, 0])
        >>> mean, std = model.predict([[0.5], [9.0]], return_std=True)
        >>> bool(std[1] > 3 * std[0])
        True
    """

    def __init__(
        self,
        *,
        method: str = "ensemble",
        members: int = 5,
        draws: int = 100,
        width: int = 128,
        depth: int = 2,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        calibration: float = 0.15,
        categorical: Collection[str | int] = (),
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.method = method
        self.members = members
        self.draws = draws
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.calibration = calibration
        self.categorical = categorical
        self.seed = seed
        self.progress = progress

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train on a table X of B rows and targets y, (B,) or (B, D); returns self.

        Args:
            X: a data frame (pandas, polars), an Arrow table, an array (B, F) or a dict of columns.
            y: numbers.
            sample_weight: (B,), how much each row counts; whole numbers count as so many rows.

        Raises:
            InvalidTableError: what cannot be learned from; the message names the column and the row.
        """
        settings = check_settings(settings_of(self))
        columns, rows = training_columns(self, X, y)
        values = target_values(y)
        two = values if values.ndim == 2 else values[:, None]
        chosen, weights = repeated(checked_weights(sample_weight, rows))
        columns, two, place = take(columns, chosen), two[chosen], place_of(chosen)
        target = learn_numbers(target_names(y, two.shape[1]), two, place)
        schema = learn_schema(columns, categorical_names(self.categorical, columns), place)
        warn_of_notes(schema)
        answers = target.standardized(two)
        model = fit_model(schema, target, Rows(columns, answers, weights), settings, progress=self.progress)
        self.model_ = model
        self._flat = values.ndim == 1 or two.shape[1] == 1
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Means (B,), or (B, D) of several targets; with ``return_std`` also the standard deviations of the targets."""
        pred = self.predictive(X)
        if not return_std:
            return self._shaped(pred.mean)
        return self._shaped(pred.mean), self._shaped(pred.variance.sqrt())

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[Numeric, Numeric]:
        """Intervals (low, high) that hold the target with probability ``level``: conformal, as wide as each row needs.

        With n held-out rows and a level above n / (n + 1) the ends are infinite: so few rows cannot tell how far out
        such errors are. A model without held-out rows gives the quantiles of the predictive.
        """
        low, high = interval_of(fitted(self).calibration.scores, self.predictive(X), level)
        return self._shaped(low), self._shaped(high)

    def predictive(self, X: Any) -> Gaussian:
        """What is known of each row: a ``Gaussian`` (B, D) in the target's units."""
        return cast(Gaussian, asked(self, X))

    def decompose(self, X: Any) -> dict[str, Numeric]:
        """Variances "total", "aleatoric" and "epistemic", (B,) or (B, D), in squared target units."""
        return {name: self._shaped(value) for name, value in decompose(self.predictive(X)).items()}

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder: weights, ``caveat.json`` and a model card; no pickle."""
        storage.save(fitted(self), folder)

    @classmethod
    def load(cls, folder: str | Path) -> Regressor:
        """The estimator of a folder that ``save`` wrote.

        Raises:
            InvalidModelError: no such model, or one that was changed, cut short, or made by a newer version.
        """
        found = cast(Regressor, restored(cls, storage.load(folder), Numbers))
        found._flat = len(cast(Numbers, found.model_.target).names) == 1
        return found

    def _shaped(self, values: torch.Tensor) -> Numeric:
        return values.numpy()[:, 0] if self._flat else values.numpy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tagged(tags)
