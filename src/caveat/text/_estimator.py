"""The estimators of sentences, and what both share: how X is opened, an encoder that is saved with them or apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from caveat._estimators import (
    ONE_COLUMN,
    ClassifierBase,
    Estimator,
    KeyedRows,
    RegressorBase,
    load_model,
    save_model,
    validation,
)
from caveat.text._kind import KIND, encoder_files
from caveat.text._sentences import as_sentences
from caveat.text._settings import Settings


@dataclass(kw_only=True, eq=False, repr=False)
class SentenceEstimator(Estimator, Settings):
    """An estimator of B sentences X: a list, an array or a series of strings."""

    kind = KIND
    _input_tags = ONE_COLUMN

    def open_rows(self, X: Any, *, training: bool) -> Any:
        """Returns the sentences.

        Raises:
            InvalidDataError: A row that is no sentence; the message names it.
        """
        sentences = as_sentences(X)
        return KeyedRows(sentences) if training else sentences

    def save(self, folder: str | Path, *, with_encoder: bool = False) -> None:
        """Writes the model as a folder: weights, ``caveat.json`` and a model card; no pickle.

        Args:
            folder: New folder, or one that holds a model.
            with_encoder: Whether to write a frozen encoder into it too; if not, its path or name is noted with a
                fingerprint of its weights. A fine-tuned one is always within.
        """
        validation.check_is_fitted(self, "model_")
        model, more = encoder_files(self.model_, with_encoder)
        save_model(model, folder, more=more)

    @classmethod
    def load(cls, folder: str | Path, *, encoder: str | Path | None = None) -> Self:
        """Returns the estimator of a folder that ``save`` wrote.

        Args:
            folder: Folder that was given to ``save``.
            encoder: Place of the frozen encoder now, if it was moved.

        Raises:
            InvalidModelError: No such model, or one that was changed, cut short, or made by a newer version; or another
                encoder than it was trained with.
        """
        return cls.of_model(load_model(cls.kind, folder, encoder=None if encoder is None else str(encoder)))


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(SentenceEstimator, ClassifierBase):
    """Classes of sentences, with probabilities that can be relied on, and "I do not know": a scikit-learn classifier.

    Without an encoder a small network is trained from nothing: TF-IDF of words, pairs of words and pieces of words, and
    a hidden layer with dropout. Nothing is downloaded. With one, each sentence is read once by the encoder and a
    perceptron with dropout is trained on its vector; or, with ``fine_tune``, the encoder is trained too, its own
    dropout on in draws.

    Args:
        encoder: None, or the folder of a Hugging Face text encoder, or its name on the hub.
        fine_tune: Whether to train the encoder too.
        pooling: The encoder's vector of a sentence: "mean" over its tokens, or the "first" of them.
        local_files_only: Whether never to ask the hub.
        method: "mc_dropout" (one network with dropout on while drawing) or "ensemble" (several of them, trained apart);
            "ensemble" on a frozen encoder, where only small heads are trained, and else "mc_dropout", if None.
        members: The number of networks of an ensemble.
        draws: The number of functions that a prediction summarizes.
        max_length: The number of words (tokens of an encoder) that are read of a sentence; of longer ones the beginning
            is read, with a ``DoubtfulDataWarning``. All words, or 128 tokens, if None.
        vocabulary: Largest number of words and pairs of words that are known, beside half as many pieces of words; all
            stand in two sentences at least.
        width: Width of the hidden layer; 128, or 256 on an encoder, if None.
        dropout: Rate of dropout; 0.3, but 0.1 on an encoder that is tuned, if None.
        epochs, batch_size, patience, learning_rate: Settings of training; by the kind of network and the number of
            sentences if None.
        weight_decay: Weight decay of AdamW; 0.01 if None.
        validation: Fraction of the training sentences that early stopping looks at.
        calibration: Fraction that is not trained on but calibrates; 0 for none. Sets too small to spare 20
            are not calibrated.
        class_weight: None, "balanced", or a dict of weights by class.
        random_state: Random seed: the same one and the same sentences, in any order, give the same model.
        verbose: Whether to show a bar, where the standard error is a terminal.
        device: Device to train and predict on; the CPU if None.

    Example:
        >>> X = ["play some jazz", "play the blues", "book a table", "book two seats"] * 15
        >>> model = Classifier(epochs=8, width=16, draws=10).fit(X, ["music", "music", "food", "food"] * 15)
        >>> model.predict(["play jazz", "book a seat"])
        array(['music', 'food'], dtype='<U5')
    """


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
