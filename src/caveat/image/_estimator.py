"""The estimators of pictures, and what both share: how X is opened, pictures that are left out, one's own backbone.

Pictures are predicted for some at a time; of one that shows nothing is said what is known without looking.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Self, cast

from torch import nn

from caveat._estimators import (
    ONE_COLUMN,
    ClassifierBase,
    Estimator,
    KeyedRows,
    Model,
    RegressorBase,
    decide,
    fitted,
    load_model,
    predict_readable,
    row_weights,
)
from caveat._pictures import (
    Format,
    Problem,
    as_sources,
    describe_problems,
    empty_classes,
    learn_format,
    list_pictures,
    read_in_batches,
)
from caveat.decide import Decision
from caveat.errors import DoubtfulDataWarning, InvalidDataError
from caveat.image._backbone import open_backbone
from caveat.image._kind import AT_ONCE, KIND, PictureReader, read_training
from caveat.image._settings import Settings
from caveat.predictive import Categorical, Gaussian, concatenate

_LARGEST = 64  # pixels along a side of what is trained from scratch


@dataclass(kw_only=True, eq=False, repr=False)
class PictureEstimator(Estimator, Settings):
    """An estimator of B pictures X: a list of paths, arrays or PIL images, an array, a folder, or a CSV of paths."""

    kind = KIND
    _input_tags = ONE_COLUMN

    problems_: tuple[Problem, ...] = field(init=False)

    def open_rows(self, X: Any, *, training: bool) -> list[Any]:
        """Returns the pictures."""
        return as_sources(X)

    def _open_training(self, X: Any, y: Any, sample_weight: Any) -> tuple[KeyedRows, Any, Any]:
        """Returns the pictures as they were read; those that show nothing weigh nothing and are named in a warning."""
        if y is None and isinstance(X, (str, Path)):
            sources, y = list_pictures(X, kind="classes" if isinstance(self, ClassifierBase) else "numbers")
            if empty := empty_classes(Path(X), sources) if Path(X).is_dir() else []:
                said = f"Class folders without a picture: {', '.join(empty)}."
                warnings.warn(said, DoubtfulDataWarning, stacklevel=4)
        else:
            sources = as_sources(X)
        rows, self.problems_ = read_training(sources, self._reader(sources), self.verbose)
        weights = row_weights(sample_weight, len(sources))
        if self.problems_:
            said = describe_problems(self.problems_, len(sources))
            if len(self.problems_) == len(sources):
                rule = "Of the pictures to train on at least some must show something."
                raise InvalidDataError(rule, got=said, fix="open one of them in a viewer")
            warnings.warn(said, DoubtfulDataWarning, stacklevel=4)
            weights = weights.copy()
            weights[[problem.row for problem in self.problems_]] = 0.0
        return rows, y, weights

    def _kept(self) -> dict[str, Any]:
        return {**super()._kept(), "rows_left_out": len(self.problems_)}

    def decide(self, X: Any, *, ids: Sequence[Any] | None = None) -> Decision:
        """Returns what to do with each picture by the chosen threshold, and why; one that shows nothing is deferred."""
        pred, problems = self._look(X)
        return decide(fitted(self), pred, ids, unread=[problem.row for problem in problems])

    def predict_in_batches(
        self, X: Any, draws: int | None = None
    ) -> Iterator[tuple[Categorical | Gaussian, tuple[Problem, ...]]]:
        """Yields what is known of some pictures at a time, in order, and which of them were left out.

        Args:
            X: Pictures; of paths memory holds one batch at a time.
            draws: The number of draws; the model's own if None.
        """
        model = fitted(self)
        return _predict_batches(model, as_sources(X), model.settings.draws if draws is None else draws)

    @classmethod
    def load(cls, folder: str | Path, *, backbone: nn.Module | None = None) -> Self:
        """Returns the estimator of a folder that ``save`` wrote.

        Args:
            folder: Folder that was given to ``save``.
            backbone: Module that the pictures go through first, if it was one of one's own.

        Raises:
            InvalidModelError: No such model, or one that was changed, cut short, or made by a newer version; or another
                backbone than it was trained with.
        """
        return cls.of_model(load_model(cls.kind, folder, backbone=backbone))

    def _reader(self, sources: Sequence[Any]) -> PictureReader:
        if self.backbone is None:
            return PictureReader(learn_format(sources, self.size, _LARGEST))
        backbone = open_backbone(self.backbone, self.size)
        return PictureReader(Format(backbone.channels, backbone.size), backbone)

    def _predict(self, X: Any) -> Categorical | Gaussian:
        return self._look(X)[0]

    def _look(self, X: Any) -> tuple[Categorical | Gaussian, tuple[Problem, ...]]:
        preds, found = zip(*self.predict_in_batches(X), strict=True)
        pred, problems = cast("Categorical | Gaussian", concatenate(preds)), tuple(chain.from_iterable(found))
        if problems:
            warnings.warn(describe_problems(problems, pred.row_count), DoubtfulDataWarning, stacklevel=4)
        return pred, problems


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(PictureEstimator, ClassifierBase):
    """Classes of pictures, with probabilities that can be relied on, and "I do not know": a scikit-learn classifier.

    Without a backbone a small residual network is trained from scratch. With one, each picture goes through it once,
    and perceptrons with dropout are trained on what it gives.

    Pictures are paths, arrays (H, W[, C]) of uint8 or of fractions, or PIL images; or, to ``fit`` without y, a folder
    of class folders or a CSV of paths and answers. Those that cannot be read, are tiny or show one color only are left
    out of training and named in a ``DoubtfulDataWarning``; when predicting they get what is known without looking, the
    frequencies of training, and ``decide`` defers them.

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
        patience: Stop when the loss of held-out pictures has not fallen for ``patience`` epochs. If None, a head on a
            backbone has a patience of 6, and networks of pictures run all epochs, their learning rate falling to 0.
        weight_decay: Weight decay of AdamW; 1 for networks of pictures and 0.01 for heads if None.
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


def _predict_batches(
    model: Model, sources: Sequence[Any], draws: int
) -> Iterator[tuple[Categorical | Gaussian, tuple[Problem, ...]]]:
    reader = cast(PictureReader, model.reader)
    for pictures in read_in_batches(sources, reader.format, AT_ONCE):
        inputs = reader.inputs_of(pictures.pixels[pictures.good])
        yield predict_readable(model, inputs, pictures.good, draws), pictures.problems
