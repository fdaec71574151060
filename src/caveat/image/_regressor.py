"""``Regressor``: numbers from pictures, as a scikit-learn estimator."""

from __future__ import annotations

from torch import nn

from caveat._estimators import RegressorBase, keep_parameters
from caveat.image._estimator import PictureEstimator


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

    def __init__(
        self,
        *,
        backbone: str | nn.Module | None = None,
        size: int | None = None,
        method: str | None = None,
        members: int = 5,
        draws: int = 100,
        width: int | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 1e-2,
        validation: float = 0.1,
        calibration: float = 0.15,
        random_state: int = 0,
        verbose: bool = False,
        device: str | None = None,
    ) -> None:
        keep_parameters(self, locals())
