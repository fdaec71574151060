"""``Classifier``: classes of pictures, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caveat._estimators import ClassifierBase
from caveat.image._estimator import PictureEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(PictureEstimator, ClassifierBase):
    """Classes of pictures, with probabilities that can be relied on, and "I do not know": a scikit-learn classifier.

    Without a backbone a small residual network is trained from scratch. With one, each picture goes through it once,
    and perceptrons with dropout are trained on what it gives. Pictures that cannot be read, are tiny or show one color
    only are left out of training and named in a ``PicturesLeftOutWarning``; when predicting they get what is known
    without looking, the frequencies of training, and ``decide`` defers them.

    Args:
        backbone: None, a ``torch.nn.Module`` that gives features (B, F) or (B, F, H, W) of pictures (B, C, size, size)
            from 0 to 1, or the name of a timm model; it is put into eval mode and not trained.
        size: Pixels along a side that pictures are stretched to; if None the median of training, at most 64, or what
            the backbone was made for.
        method: "mc_dropout" (one network with dropout on while drawing) or "ensemble" (several of them, trained apart);
            "ensemble" on a backbone, where only small heads are trained, and else "mc_dropout", if None.
        members: The number of networks of an ensemble.
        draws: The number of functions that a prediction summarizes.
        width: Channels of the network's first stage, or width of the hidden layer on a backbone; 16 or 256 if None.
        dropout: Rate of dropout; 0.3 if None.
        epochs, batch_size, learning_rate: Settings of training; by the number of pictures if None.
        patience: Stop when the loss of held-out pictures has not fallen for so many epochs. If None, a head on a
            backbone has a patience of 6, and networks of pictures run all epochs, their learning rate falling to 0.
        weight_decay: Weight decay of AdamW.
        validation: Fraction of the training pictures that is held out to choose the epoch: with a patience, on a
            backbone, and for numbers. Classes from scratch without a patience are learned from all.
        calibration: Fraction that is not trained on but calibrates; 0 for none. Sets too small to spare 20 pictures are
            not calibrated.
        class_weight: None, "balanced", or a dict of weights by class.
        random_state: Random seed: the same one and the same pictures, in any order, give the same model.
        verbose: Whether to show a bar, where the standard error is a terminal.
        device: Device to train and predict on; the CPU if None.

    Example:
        >>> import numpy as np
        >>> random = np.random.default_rng(0)
        >>> X = random.integers(0, 60, (60, 12, 12, 3), dtype=np.uint8)
        >>> y = np.array(["red", "blue"] * 30)
        >>> X[::2, :, :, 0] += 150
        >>> X[1::2, :, :, 2] += 150
        >>> model = Classifier(width=4, epochs=12, draws=10).fit(X, y)
        >>> model.predict(X[:2])
        array(['red', 'blue'], dtype='<U4')
    """

    class_weight: Mapping[Any, float] | str | None = None
