"""``Classifier``: classes of sentences, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caveat._estimators import sets_of
from caveat.decide import Decision, Threshold
from caveat.measures import decompose
from caveat.predictive import Categorical
from caveat.text import _storage as storage
from caveat.text._fitting import Rows, fit_model
from caveat.text._scope import decision, unsure, with_cut
from caveat.text._sentences import as_sentences
from caveat.text._settings import check_settings
from caveat.text._sklearn_face import (
    ClassifierBases,
    as_array,
    asked,
    checked_weights,
    fitted,
    restored,
    settings_of,
    tagged,
    with_class_weights,
)
from caveat.text._targets import Classes, learn_classes

Numeric = NDArray[Any]


class Classifier(ClassifierBases):
    """Classes of sentences, with probabilities that can be relied on, and "I do not know": a scikit-learn classifier.

    Without an encoder a small network is trained from nothing: words as vectors, an LSTM in each direction, with
    variational dropout. Nothing is downloaded. With one, each sentence is read once by the encoder and a perceptron
    with dropout is trained on what it says; or, with ``fine_tune``, the encoder is trained too, its own dropout on in
    draws.

    Args:
        encoder: None, or the folder of a Hugging Face text encoder, or its name on the hub.
        fine_tune: train the encoder too.
        pooling: the encoder's vector of a sentence: "mean" over its tokens, or the "first" of them.
        local_files_only: never ask the hub.
        method: "mc_dropout" (one network with dropout on while drawing) or "ensemble" (several of them, trained apart);
            None: "ensemble" on a frozen encoder, where only small heads are trained, else "mc_dropout".
        members: networks of an ensemble.
        draws: functions that a prediction summarizes.
        max_length: words (tokens of an encoder) that are read of a sentence; of longer ones the beginning is read, with
            a ``SentencesTruncatedWarning`` warning.
        vocabulary: at most so many words are known, of those that stand in two sentences at least.
        width: of each LSTM, or of the hidden layer on an encoder; 64 or 256 if None.
        dropout: its rate; 0.1 for the LSTM, 0.3 on a frozen encoder, 0.1 on one that is tuned, if None.
        epochs, batch_size, patience, learning_rate: of training; by the kind of network and the number of sentences if
            None.
        weight_decay: AdamW's.
        validation: the share of training sentences that early stopping looks at.
        calibration: the share that is not trained on but calibrates; 0 for none. Sets too small to spare 20 sentences
            are not calibrated.
        class_weight: None, "balanced", or a dict of weights by class.
        seed: the same seed and sentences, in any order, give the same model.
        progress: show a bar, where the standard error is a terminal.
        device: where to train and predict; the CPU if None.

    Example:
        >>> X = ["play some jazz", "play the blues", "book a table", "book two seats"] * 15
        >>> model = Classifier(epochs=8, width=16, draws=10).fit(X, ["music", "music", "food", "food"] * 15)
        >>> model.predict(["play jazz", "book a seat"])
        array(['music', 'food'], dtype='<U5')
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
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.class_weight = class_weight
        self.seed = seed
        self.progress = progress
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train on B sentences X and labels y (B,); returns self.

        Args:
            X: a list, an array or a series of strings.
            y: labels of one type.
            sample_weight: (B,), how much each sentence counts.

        Raises:
            InvalidTextError: what cannot be learned from; the message names the row.
            InvalidEncoderError: the encoder cannot be read.
        """
        settings = check_settings(settings_of(self))
        sentences = as_sentences(X)
        target, self.classes_, numbers = learn_classes(y, len(sentences))
        weights = checked_weights(sample_weight, len(sentences))
        weights = with_class_weights(weights, self.class_weight, self.classes_, numbers.numpy())
        self.model_ = fit_model(target, Rows(sentences, numbers, weights), settings, progress=self.progress)
        return self

    def predict(self, X: Any) -> Numeric:
        """The most probable class of each sentence, (B,)."""
        best = as_array(self.predictive(X).predicted)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Numeric:
        """Probabilities (B, C), in the order of ``classes_``."""
        return as_array(self.predictive(X).mean)

    def predict_interval(self, X: Any, level: float = 0.9) -> NDArray[np.bool_]:
        """The set of classes, (B, C) bool, that holds the label with probability ``level``: conformal prediction sets.

        The most probable class is always in it. A model without enough held-out sentences gives every class.
        """
        return as_array(sets_of(fitted(self).calibration.scores, self.predictive(X), level))

    def predictive(self, X: Any) -> Categorical:
        """What is known of each sentence: a ``Categorical`` (B, C)."""
        return cast(Categorical, asked(self, X))

    def decompose(self, X: Any) -> dict[str, Numeric]:
        """Entropies "total", "aleatoric" and "epistemic", (B,), in nats."""
        return {name: as_array(value) for name, value in decompose(self.predictive(X)).items()}

    def unsure(self, X: Any, measure: str | None = None) -> Numeric:
        """How unsure the model is of each sentence, (B,), higher is less sure.

        Args:
            X: sentences.
            measure: a name in ``caveat.measures.MEASURES``; that of the chosen cut, else "predictive_entropy", if None.
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

    def predict_or_abstain(self, X: Any, abstained: Any = None) -> NDArray[np.object_]:
        """The class of each sentence, (B,), or ``abstained`` where it is refused by the chosen cut."""
        made = self.decide(X)
        answers = self.classes_[as_array(made.answers)].astype(object)
        answers[~as_array(made.answered)] = abstained
        return answers

    def save(self, folder: str | Path, *, with_encoder: bool = False) -> None:
        """Write the model as a folder: weights, ``caveat.json`` and a model card; no pickle.

        Args:
            folder: a new one, or one that holds a model.
            with_encoder: write a frozen encoder into it too; if not, its path or name is noted with a fingerprint of
                its weights. A fine-tuned one is always within.
        """
        storage.save(fitted(self), folder, with_encoder=with_encoder)

    @classmethod
    def load(cls, folder: str | Path, *, encoder: str | Path | None = None) -> Classifier:
        """The estimator of a folder that ``save`` wrote.

        Args:
            folder: that of ``save``.
            encoder: where the frozen encoder is now, if it was moved.

        Raises:
            InvalidModelError: no such model, or one that was changed, cut short, or made by a newer version; or another
                encoder than it was trained with.
        """
        found = cast(Classifier, restored(cls, storage.load(folder, encoder=encoder), Classes))
        found.classes_ = cast(Classes, found.model_.target).typed()
        return found

    def __sklearn_tags__(self) -> Any:
        return tagged(super().__sklearn_tags__())
