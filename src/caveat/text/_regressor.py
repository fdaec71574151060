"""``Regressor``: numbers from sentences, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caveat._estimators import interval_of
from caveat.decide import Decision, Threshold
from caveat.measures import decompose
from caveat.predictive import Gaussian
from caveat.text import _storage as storage
from caveat.text._fitting import Rows, fit_model
from caveat.text._scope import decision, unsure, with_cut
from caveat.text._sentences import as_sentences
from caveat.text._settings import check_settings
from caveat.text._sklearn_face import (
    RegressorBases,
    as_array,
    asked,
    checked_weights,
    fitted,
    restored,
    settings_of,
    tagged,
)
from caveat.text._targets import Numbers, learn_numbers

Numeric = NDArray[Any]


class Regressor(RegressorBases):
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
        max_length: int = 128,
        vocabulary: int = 20_000,
        width: int | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 1e-2,
        validation: float = 0.1,
        calibration: float = 0.15,
        seed: int = 0,
        progress: bool = False,
        device: str | None = None,
    ) -> None:
        self.encoder = encoder
        self.fine_tune = fine_tune
        self.pooling = pooling
        self.local_files_only = local_files_only
        self.method = method
        self.members = members
        self.draws = draws
        self.max_length = max_length
        self.vocabulary = vocabulary
        self.width = width
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation = validation
        self.calibration = calibration
        self.seed = seed
        self.progress = progress
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train on B sentences X and targets y, (B,) or (B, D); returns self.

        Args:
            X: a list, an array or a series of strings.
            y: numbers.
            sample_weight: (B,), how much each sentence counts.

        Raises:
            InvalidTextError: what cannot be learned from; the message names the row.
            InvalidEncoderError: the encoder cannot be read.
        """
        settings = check_settings(settings_of(self))
        sentences = as_sentences(X)
        target, answers = learn_numbers(y, len(sentences))
        weights = checked_weights(sample_weight, len(sentences))
        self.model_ = fit_model(target, Rows(sentences, answers, weights), settings, progress=self.progress)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Means (B,), or (B, D) of several targets; with ``return_std`` also the standard deviations of the targets."""
        pred = self.predictive(X)
        if not return_std:
            return self._shaped(pred.mean)
        return self._shaped(pred.mean), self._shaped(pred.variance.sqrt())

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[Numeric, Numeric]:
        """Intervals (low, high) that hold the target with probability ``level``: conformal, as wide as each row needs.

        With n held-out sentences and a level above n / (n + 1) the ends are infinite: so few cannot tell how far out
        such errors are. A model without held-out sentences gives the quantiles of the predictive.
        """
        low, high = interval_of(fitted(self).calibration.scores, self.predictive(X), level)
        return self._shaped(low), self._shaped(high)

    def predictive(self, X: Any) -> Gaussian:
        """What is known of each sentence: a ``Gaussian`` (B, D) in the target's units."""
        return cast(Gaussian, asked(self, X))

    def decompose(self, X: Any) -> dict[str, Numeric]:
        """Variances "total", "aleatoric" and "epistemic", (B,) or (B, D), in squared target units."""
        return {name: self._shaped(value) for name, value in decompose(self.predictive(X)).items()}

    def unsure(self, X: Any, measure: str | None = None) -> Numeric:
        """How unsure the model is of each sentence, (B,), higher is less sure.

        Args:
            X: sentences.
            measure: a name in ``caveat.measures.MEASURES``; that of the chosen cut, else "total_variance", if None.
        """
        return as_array(unsure(fitted(self), self.predictive(X), measure))

    def choose_threshold(
        self,
        X: Any = None,
        *,
        false_alarms: float = 0.05,
        measure: str | None = None,
        confidence: float | None = None,
    ) -> Threshold:
        """Choose from which uncertainty on a sentence is refused, as out of scope; saved with the model.

        Args:
            X: sentences in scope that the model was not trained on (no labels are needed); those that ``fit`` held out
                if None.
            false_alarms: the share of them that may be refused.
            measure: as in ``unsure``.
            confidence: with it the promise is for new sentences in scope, kept with this probability.

        Raises:
            InvalidArgumentError: no sentences to choose by, a share or measure that is none.
            NoThresholdError: too few sentences for the confidence.
        """
        pred = None if X is None else self.predictive(X)
        self.model_, cut = with_cut(fitted(self), pred, false_alarms, measure, confidence)
        return cut

    def decide(self, X: Any, *, ids: Sequence[Any] | None = None) -> Decision:
        """What to do with each sentence by the chosen cut, "answer" or "abstain", and why."""
        return decision(fitted(self), self.predictive(X), ids)

    def predict_or_abstain(self, X: Any, abstained: float = np.nan) -> Numeric:
        """Means (B,) or (B, D), or ``abstained`` where a sentence is refused by the chosen cut."""
        made = self.decide(X)
        answers = as_array(made.answers).copy()
        answers[~as_array(made.answered)] = abstained
        return answers[:, 0] if self._flat else answers

    def save(self, folder: str | Path, *, with_encoder: bool = False) -> None:
        """Write the model as a folder: weights, ``caveat.json`` and a model card; no pickle.

        Args:
            folder: a new one, or one that holds a model.
            with_encoder: write a frozen encoder into it too; if not, its path or name is noted with a fingerprint of
                its weights. A fine-tuned one is always within.
        """
        storage.save(fitted(self), folder, with_encoder=with_encoder)

    @classmethod
    def load(cls, folder: str | Path, *, encoder: str | Path | None = None) -> Regressor:
        """The estimator of a folder that ``save`` wrote.

        Args:
            folder: that of ``save``.
            encoder: where the frozen encoder is now, if it was moved.

        Raises:
            InvalidModelError: no such model, or one that was changed, cut short, or made by a newer version; or another
                encoder than it was trained with.
        """
        return cast(Regressor, restored(cls, storage.load(folder, encoder=encoder), Numbers))

    @property
    def _flat(self) -> bool:
        return cast(Numbers, fitted(self).target).flat

    def _shaped(self, values: Tensor) -> Numeric:
        return as_array(values)[:, 0] if self._flat else as_array(values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tagged(tags)
