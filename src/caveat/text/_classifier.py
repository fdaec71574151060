"""``Classifier``: classes of sentences, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caveat._estimators import ClassifierBase
from caveat.text._estimator import SentenceEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(SentenceEstimator, ClassifierBase):
    """Classes of sentences, with probabilities that can be relied on, and "I do not know": a scikit-learn classifier.

    Without an encoder a small network is trained from nothing: TF-IDF of words, pairs of words and pieces of words, and
    a hidden layer with dropout. Nothing is downloaded. With one, each sentence is read once by the encoder and a
    perceptron with dropout is trained on what it says; or, with ``fine_tune``, the encoder is trained too, its own
    dropout on in draws.

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
            a ``SentencesTruncatedWarning`` warning. All words, or 128 tokens, if None.
        vocabulary: at most so many words and pairs of words are known, and half as many pieces of words, of those that
            stand in two sentences at least.
        width: of the hidden layer; 128, or 256 on an encoder, if None.
        dropout: its rate; 0.3, but 0.1 on an encoder that is tuned, if None.
        epochs, batch_size, patience, learning_rate: of training; by the kind of network and the number of sentences if
            None.
        weight_decay: AdamW's.
        validation: the share of training sentences that early stopping looks at.
        calibration: the share that is not trained on but calibrates; 0 for none. Sets too small to spare 20 sentences
            are not calibrated.
        class_weight: None, "balanced", or a dict of weights by class.
        random_state: the same one and the same sentences, in any order, give the same model.
        verbose: show a bar, where the standard error is a terminal.
        device: where to train and predict; the CPU if None.

    Example:
        >>> X = ["play some jazz", "play the blues", "book a table", "book two seats"] * 15
        >>> model = Classifier(epochs=8, width=16, draws=10).fit(X, ["music", "music", "food", "food"] * 15)
        >>> model.predict(["play jazz", "book a seat"])
        array(['music', 'food'], dtype='<U5')
    """

    class_weight: Mapping[Any, float] | str | None = None
