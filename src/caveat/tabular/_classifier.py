"""``Classifier``: classes from a table, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from caveat._estimators import ClassifierBase, keep_parameters
from caveat.tabular._estimator import TableEstimator


class Classifier(TableEstimator, ClassifierBase):
    """Classes from a table, with probabilities that can be relied on: a scikit-learn classifier.

    Columns may be numbers, categories, booleans and dates, with missing values. Outside of what training showed, at a
    category never seen or a number out of range, draws disagree: epistemic uncertainty rises.

    All settings but ``class_weight`` are those of ``Regressor``.

    Args:
        class_weight: None, "balanced", or a dict of weights by class.

    Example:
        >>> import numpy as np
        >>> X = {"size": np.linspace(0, 1, 60), "color": np.array(["red", "blue"] * 30)}
        >>> model = Classifier(members=2, epochs=20, width=16).fit(X, ["ripe", "not yet"] * 30)
        >>> model.predict({"size": [0.2], "color": ["red"]})
        array(['ripe'], dtype='<U7')
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
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        keep_parameters(self, locals())
