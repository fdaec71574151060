"""``Regressor``: numbers from sentences, as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import dataclass

from caveat._estimators import RegressorBase
from caveat.text._estimator import SentenceEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class Regressor(SentenceEstimator, RegressorBase):
    """Numbers from sentences, each with its uncertainty: a scikit-learn regressor for one target or several.

    All settings are those of ``Classifier``.

    Example:
        >>> X = ["a fine film", "fine and funny", "a dull film", "dull and long"] * 15
        >>> model = Regressor(epochs=30, width=16, draws=10).fit(X, [0.9, 0.8, 0.2, 0.1] * 15)
        >>> mean, std = model.predict(["funny and fine", "long and dull"], return_std=True)
        >>> bool(mean[0] > mean[1])
        True
    """
