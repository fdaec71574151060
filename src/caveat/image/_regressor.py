"""``Regressor``: numbers from pictures, as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import dataclass

from caveat._estimators import RegressorBase
from caveat.image._estimator import PictureEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class Regressor(PictureEstimator, RegressorBase):
    """Numbers from pictures, each with its uncertainty: a scikit-learn regressor for one target or several.

    All parameters are those of ``Classifier``.

    Example:
        >>> import numpy as np
        >>> random = np.random.default_rng(0)
        >>> light = np.linspace(40, 200, 60)
        >>> X = (light[:, None, None] + random.normal(0, 20, (60, 12, 12))).clip(0, 255).astype(np.uint8)
        >>> model = Regressor(width=4, epochs=10, draws=10).fit(X, light)
        >>> mean, std = model.predict(X[[2, 57]], return_std=True)
        >>> bool(mean[0] < mean[1])
        True
    """
