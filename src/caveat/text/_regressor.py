"""``Regressor``: numbers from sentences, as a scikit-learn estimator."""

from __future__ import annotations

from pathlib import Path

from caveat._estimators import RegressorBase, keep_parameters
from caveat.text._estimator import SentenceEstimator


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

    def __init__(
        self,
        *,
        encoder: str | Path | None = None,
        fine_tune: bool = False,
        pooling: str = "mean",
        local_files_only: bool = False,
        method: str | None = None,
        members: int = 5,
        draws: int = 100,
        max_length: int | None = None,
        vocabulary: int = 20_000,
        width: int | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 1e-2,
        validation: float | None = None,
        calibration: float = 0.15,
        random_state: int = 0,
        verbose: bool = False,
        device: str | None = None,
    ) -> None:
        keep_parameters(self, locals())
