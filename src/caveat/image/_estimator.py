"""What both estimators of pictures share: how X is opened, pictures that are left out, and a backbone of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from caveat._estimators import Estimator, decide, fitted, load_model, settings_of
from caveat.decide import Decision
from caveat.errors import explain
from caveat.image._backbone import open_backbone
from caveat.image._kind import KIND, PictureReader, TrainingPictures, read_training
from caveat.image._listing import InvalidPictureError, PicturesLeftOutWarning, as_sources, list_pictures
from caveat.image._predicting import defer_unseen, describe_problems, predict_in_batches, predict_pictures
from caveat.image._reading import Format, Problem, learn_format
from caveat.predictive import Categorical, Gaussian

_LARGEST = 64  # pixels along a side of what is trained from scratch


@dataclass(kw_only=True, eq=False, repr=False)
class PictureEstimator(Estimator):
    """An estimator of B pictures X: a list of paths, arrays or PIL images, an array, a folder, or a CSV of paths."""

    kind = KIND

    backbone: str | nn.Module | None = None
    size: int | None = None
    method: str | None = None
    members: int = 5
    draws: int = 100
    width: int | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    validation: float = 0.1
    calibration: float = 0.15
    random_state: int = 0
    verbose: bool = False
    device: str | None = None
    problems_: tuple[Problem, ...] = field(init=False)

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Trains on B pictures X and answers y, and calibrates on pictures that are held out; returns self.

        Pictures that cannot be read, are tiny or show one color only are left out and named in a warning.

        Args:
            X: Paths, arrays (H, W[, C]) of uint8 or of fractions, or PIL images; or a folder of class folders or a CSV
                of paths and answers, without y.
            y: Labels (B,) of one type, or numbers (B,) or (B, D).
            sample_weight: Weight (B,) of each picture; whole numbers count as so many pictures.

        Raises:
            InvalidPictureError: What cannot be learned from; the message names the row.
        """
        self.kind.check(settings_of(self, self.kind.settings))
        if y is None and isinstance(X, (str, Path)):
            sources, y = list_pictures(X)
        else:
            sources = as_sources(X)
        pictures, problems = read_training(sources, self._reader(sources))
        if problems:
            good = np.ones(len(sources), bool)
            good[[problem.row for problem in problems]] = False
            _check_some(good, problems)
            _warn(problems, len(sources))
            pictures = pictures.take(np.flatnonzero(good))
            if y is not None and len(y) == len(good):
                y = y[good] if hasattr(y, "iloc") else np.asarray(y)[good]
            sample_weight = None if sample_weight is None else np.asarray(sample_weight)[good]
        super().fit(pictures, y, sample_weight)
        self.problems_ = problems
        self.model_.summary["rows_left_out"] = len(problems)
        return self

    def open_rows(self, X: Any, *, training: bool) -> tuple[Any, int]:
        """Returns the pictures, and the number of them; those of training are read already."""
        opened = X if isinstance(X, TrainingPictures) else as_sources(X)
        return opened, len(opened.digests) if isinstance(opened, TrainingPictures) else len(opened)

    def training_rows(self, opened: TrainingPictures, chosen: Any) -> TrainingPictures:
        """Returns some of the pictures to train on."""
        return opened.take(chosen)

    def decide(self, X: Any, *, ids: Sequence[Any] | None = None) -> Decision:
        """Returns what to do with each picture by the chosen threshold, and why; one that shows nothing is deferred."""
        pred, problems = self._look(X)
        return defer_unseen(decide(fitted(self), pred, ids), problems)

    def predict_in_batches(
        self, X: Any, draws: int | None = None
    ) -> Iterator[tuple[Categorical | Gaussian, tuple[Problem, ...]]]:
        """Yields what is known of some pictures at a time, in order, and which of them were left out.

        Args:
            X: Pictures; of paths memory holds one batch at a time.
            draws: The number of draws; the model's own if None.
        """
        return predict_in_batches(fitted(self), as_sources(X), draws)

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
        sources = as_sources(X)
        pred, problems = predict_pictures(fitted(self), sources)
        if problems:
            _warn(problems, len(sources))
        return pred, problems

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _warn(problems: Sequence[Problem], of: int) -> None:
    warnings.warn(describe_problems(problems, of), PicturesLeftOutWarning, stacklevel=4)


def _check_some(good: Any, problems: Sequence[Problem]) -> None:
    if not good.any():
        rule = "Of the pictures to train on at least some must show something."
        got = describe_problems(problems, len(good))
        raise InvalidPictureError(explain(rule, got=got, fix="open one of them in a viewer"))
