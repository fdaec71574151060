"""``Classifier``: classes from a table, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caveat._estimators import ClassifierBase
from caveat.tabular._estimator import TableEstimator


@dataclass(kw_only=True, eq=False, repr=False)
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

    class_weight: Mapping[Any, float] | str | None = None
