"""What the estimators of all kinds do, once: fit, predict, defer, save and load, in scikit-learn's manner.

A kind's ``Classifier`` and ``Regressor`` are dataclasses of their parameters, as scikit-learn reads them, and say how X
is opened; what differs besides is in their ``Kind``.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caveat._estimators._fitting import fit_model, repeat_by_weight
from caveat._estimators._kind import Kind, Rows
from caveat._estimators._model import Model, interval_of, predict_from, sets_of, uncertainty_of
from caveat._estimators._settings import settings_of
from caveat._estimators._sklearn import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    as_array,
    fitted,
    label_values,
    number_values,
    row_weights,
    target_names,
    with_class_weights,
)
from caveat._estimators._storage import load_model, save_model
from caveat._estimators._targets import Classes, Numbers, Target, learn_classes, learn_numbers, note_constants
from caveat._estimators._thresholds import choose_by_coverage, choose_by_truth, decide
from caveat._goal import Goal
from caveat.decide import Decision, Threshold
from caveat.errors import InvalidArgumentError, InvalidDataError
from caveat.measures import decompose
from caveat.predictive import Categorical, Gaussian

Array = NDArray[Any]
ONE_COLUMN = ("string", "one_d_array")
"""scikit-learn's tags of what is given as one column."""


@dataclass(kw_only=True, eq=False, repr=False)
class Estimator(BaseEstimator, ABC):
    """What classifiers and regressors of all kinds share."""

    kind: ClassVar[Kind]
    _target: ClassVar[type[Classes] | type[Numbers]]
    _input_tags: ClassVar[tuple[str, ...]] = ()
    model_: Model = field(init=False)
    verbose: bool = False

    @abstractmethod
    def open_rows(self, X: Any, *, training: bool) -> Any:
        """Returns the rows of X as the reader takes them; they have a length.

        Raises:
            InvalidDataError: rows that cannot be read; the message names the row.
        """

    def _open_training(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Array]:
        """Returns rows to train on that were opened, their answers, and a weight (B,) of each."""
        opened = self.open_rows(X, training=True)
        return opened, y, row_weights(sample_weight, len(opened))

    def training_rows(self, opened: Any, chosen: Array) -> Rows:
        """Returns the chosen ones of rows that were opened, to train on; a row may be chosen twice."""
        return opened.take(chosen)

    @abstractmethod
    def _learn_target(self, y: Any, rows: int, chosen: Array) -> tuple[Target, Tensor]:
        """Returns the target learned from the chosen rows, and their answers for the network."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, checkpoint: str | Path | None = None) -> Self:
        """Trains on B rows X and answers y, and calibrates on rows that are held out; returns self.

        Args:
            X: Rows, as the class takes them.
            y: Labels (B,) of one type, or numbers (B,) or (B, D); None of pictures whose folders or CSV say them.
            sample_weight: Weight (B,) of each row; whole numbers k, up to five on average, count as k rows, and
                others in training alone: the rows that calibrate count alike.
            checkpoint: Folder that keeps the state of training: killed, and called again with the same rows and
                parameters, it goes on and ends in the same model. It may be removed afterwards.

        Raises:
            InvalidArgumentError: What cannot be learned from, in the class of the kind; the message names the row. Or
                a checkpoint of another training.
        """
        before = dict(vars(self))
        try:
            self.model_ = self._fit(X, y, sample_weight, None if checkpoint is None else Path(checkpoint))
        except BaseException:  # also Ctrl-C: new classes must not name the answers of an old model
            vars(self).clear()
            vars(self).update(before)
            raise
        return self

    def decompose(self, X: Any) -> dict[str, Array]:
        """Returns "total", "aleatoric" and "epistemic" uncertainty: entropies (B,) in nats, or variances of targets."""
        return {name: self._shaped(value) for name, value in decompose(self._predict(X)).items()}

    def uncertainty(self, X: Any, measure: str | None = None) -> Array:
        """Returns how uncertain the model is of each row, (B,); higher is less sure.

        Args:
            X: Rows.
            measure: Name in ``caveat.measures.MEASURES``; that of the chosen threshold, or else the total uncertainty,
                if None. Of numbers a standard deviation.
        """
        return as_array(uncertainty_of(fitted(self), self._predict(X), measure))

    def choose_threshold(
        self,
        X: Any = None,
        *,
        false_alarms: float = 0.05,
        measure: str | None = None,
        confidence: float | None = None,
    ) -> Threshold:
        """Chooses above which uncertainty a row is deferred, as out of scope; saved with the model.

        Args:
            X: Rows in scope that the model was not trained on (no labels are needed); those that ``fit`` held out if
                None.
            false_alarms: Fraction of them that may be deferred.
            measure: As in ``uncertainty``.
            confidence: With it the promise is for new rows in scope, kept with this probability.

        Raises:
            InvalidArgumentError: No rows to choose by, a fraction or measure that is none.
            NoThresholdError: Too few rows for the confidence.
        """
        pred = None if X is None else self._predict(X)
        self.model_, threshold = choose_by_coverage(fitted(self), pred, false_alarms, measure, confidence)
        return threshold

    def threshold_for_risk(
        self,
        X: Any,
        y: Any,
        risk: float,
        *,
        tolerance: float | None = None,
        confidence: float = 0.95,
        measure: str | None = None,
    ) -> Threshold:
        """Chooses the threshold that answers most rows while at most ``risk`` of the answers are wrong.

        Args:
            X: Rows that the model was not trained on.
            y: Their answers.
            risk: Largest fraction of wrong answers among those given.
            tolerance: Of a regression, the error in target units from which an answer is wrong.
            confidence: Probability that the promise holds on new rows.
            measure: As in ``uncertainty``.

        Raises:
            NoThresholdError: No threshold can be shown to keep the promise.
        """
        return self._choose(X, y, Goal(risk=risk, tolerance=tolerance, confidence=confidence, measure=measure))

    def threshold_for_cost(
        self, X: Any, y: Any, human_cost: float, *, tolerance: float | None = None, measure: str | None = None
    ) -> Threshold:
        """Chooses the threshold of the least cost, where a wrong answer costs 1 and a deferred row ``human_cost``.

        Args:
            X: Rows that the model was not trained on.
            y: Their answers.
            human_cost: Cost of a person's look.
            tolerance: Of a regression, the error in target units from which an answer is wrong.
            measure: As in ``uncertainty``.
        """
        return self._choose(X, y, Goal(human_cost=human_cost, tolerance=tolerance, measure=measure))

    def decide(self, X: Any, *, ids: Sequence[Any] | None = None) -> Decision:
        """Returns what to do with each row by the chosen threshold, "answer" or "abstain", and why."""
        return decide(fitted(self), self._predict(X), ids)

    def save(self, folder: str | Path) -> None:
        """Writes the model as a folder: weights, ``caveat.json`` and a model card; no pickle."""
        save_model(fitted(self), folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Returns the estimator of a folder that ``save`` wrote.

        Raises:
            InvalidModelError: No such model, or one that was changed, cut short, or made by a newer version.
        """
        return cls.of_model(load_model(cls.kind, folder))

    @classmethod
    def of_model(cls, model: Model) -> Self:
        """Returns an estimator with this model.

        Raises:
            InvalidArgumentError: The model's target is that of the other class.
        """
        if not isinstance(model.target, cls._target):
            other = "Classifier" if model.target.classifies else "Regressor"
            rule, cause = f"The folder must hold a {cls.__name__}.", "the other class was meant"
            fix = f"caveat.{cls.kind.package}.{other}.load(folder)"
            raise InvalidArgumentError(rule, got=f"a {other}", cause=cause, fix=fix)
        estimator = cls(**cast("dict[str, Any]", vars(model.settings)))
        estimator.model_ = model
        estimator._restored()
        return estimator

    def _restored(self) -> None:
        """Set the fitted attributes that follow from ``model_``."""

    def _fit(self, X: Any, y: Any, sample_weight: Any, checkpoint: Path | None) -> Model:
        settings = self.kind.check(settings_of(self, self.kind.settings))
        opened, y, given = self._open_training(X, y, sample_weight)
        chosen, weights = repeat_by_weight(given)
        target, answers = self._learn_target(y, len(given), chosen)
        weights = self._weighted(weights, answers)
        rows = self.training_rows(opened, chosen)
        model = fit_model(
            self.kind, rows, target, answers, settings, weights=weights, verbose=self.verbose, checkpoint=checkpoint
        )
        model.summary.update(self._kept())
        return model

    def _weighted(self, weights: Array | None, answers: Tensor) -> Array | None:
        return weights

    def _kept(self) -> dict[str, Any]:
        """Returns parameters beside the settings that a saved model keeps, as plain data."""
        return {}

    def _predict(self, X: Any) -> Categorical | Gaussian:
        model = fitted(self)
        return predict_from(model, model.reader.read(self.open_rows(X, training=False)))

    @abstractmethod
    def _truth(self, y: Any, rows: int) -> Tensor:
        """Returns the answers of ``rows`` rows as ``choose_by_truth`` takes them."""

    def _choose(self, X: Any, y: Any, goal: Goal) -> Threshold:
        model, pred = fitted(self), self._predict(X)
        self.model_, threshold = choose_by_truth(model, pred, self._truth(y, pred.row_count), goal)
        return threshold

    def _shaped(self, values: Tensor) -> Array:
        return as_array(values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        for name in self._input_tags:
            setattr(tags.input_tags, name, True)
        tags.input_tags.two_d_array = not tags.input_tags.one_d_array
        return tags


@dataclass(kw_only=True, eq=False, repr=False)
class ClassifierBase(ClassifierMixin, Estimator):
    """What classifiers of all kinds share."""

    _target = Classes
    classes_: Array = field(init=False)
    class_weight: Mapping[Any, float] | str | None = None

    def predict(self, X: Any) -> Array:
        """Returns the most probable class of each row, (B,)."""
        pred = self.predictive(X)  # first: it says so where there was no fit
        return self.classes_[as_array(pred.predicted)]

    def predict_proba(self, X: Any) -> Array:
        """Returns probabilities (B, C), in the order of ``classes_``."""
        return as_array(self.predictive(X).mean)

    def predict_set(self, X: Any, level: float = 0.9) -> NDArray[np.bool_]:
        """Returns the set of classes, (B, C) bool, that holds the label with probability ``level``: a conformal set.

        The most probable class is always in it. A model without enough held-out rows gives every class.
        """
        return as_array(sets_of(fitted(self).calibration.scores, self.predictive(X), level))

    def predict_or_abstain(self, X: Any, abstained: Any = None) -> NDArray[np.object_]:
        """Returns the class of each row, (B,), or ``abstained`` where it is deferred by the chosen threshold."""
        made = self.decide(X)
        answers = self.classes_[as_array(made.answers)].astype(object)
        answers[~as_array(made.answered)] = abstained
        return answers

    def predictive(self, X: Any) -> Categorical:
        """Returns what is known of each row: a ``Categorical`` (B, C)."""
        return cast(Categorical, self._predict(X))

    def _restored(self) -> None:
        self.classes_ = cast(Classes, self.model_.target).typed()
        kept: Any = self.model_.summary.get("class_weight")
        if isinstance(kept, list):
            by_class = zip(self.classes_.tolist(), cast("list[Any]", kept), strict=True)
            kept = {label: weight for label, weight in by_class if weight is not None}
        self.class_weight = kept

    def _kept(self) -> dict[str, Any]:
        given = self.class_weight
        if given is None or isinstance(given, str):
            return {} if given is None else {"class_weight": given}
        return {"class_weight": [given.get(label) for label in self.classes_.tolist()]}

    def _learn_target(self, y: Any, rows: int, chosen: Array) -> tuple[Target, Tensor]:
        labels = label_values(y, rows, self.kind, chosen)
        target, self.classes_, numbers = learn_classes(labels, target_names(y, 1, self.kind)[0])
        return target, numbers

    def _weighted(self, weights: Array | None, answers: Tensor) -> Array | None:
        return with_class_weights(weights, self.class_weight, self.classes_, answers.numpy())

    def _truth(self, y: Any, rows: int) -> Tensor:
        numbers = {label: number for number, label in enumerate(self.classes_.tolist())}
        labels = label_values(y, rows, self.kind, np.arange(rows)).tolist()
        unknown = [label for label in labels if label not in numbers]
        if unknown:
            rule, cause = "Answers must be classes of training.", "another spelling, or a class that training had not"
            raise InvalidDataError(rule, got=f"{unknown[0]!r}", cause=cause, fix="leave these rows out")
        return torch.as_tensor([numbers[label] for label in labels])


class RegressorBase(RegressorMixin, Estimator):
    """What regressors of all kinds share."""

    _target = Numbers

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> Array: ...
    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[Array, Array]: ...
    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Returns means (B,), or (B, D) of several targets; with ``return_std`` also the standard deviations."""
        pred = self.predictive(X)
        if not return_std:
            return self._shaped(pred.mean)
        return self._shaped(pred.mean), self._shaped(pred.variance.sqrt())

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[Array, Array]:
        """Returns intervals (low, high) that hold the target with probability ``level``: conformal, by row.

        With n held-out rows and a level above n / (n + 1) the ends are infinite: so few cannot tell how far out such
        errors are. A model without held-out rows gives the quantiles of the predictive.
        """
        low, high = interval_of(fitted(self), self.predictive(X), level)
        return self._shaped(low), self._shaped(high)

    def predict_or_abstain(self, X: Any, abstained: float = np.nan) -> Array:
        """Returns means (B,) or (B, D), or ``abstained`` where a row is deferred by the chosen threshold."""
        made = self.decide(X)
        answers = as_array(made.answers).copy()
        answers[~as_array(made.answered)] = abstained
        return answers[:, 0] if self._flat else answers

    def predictive(self, X: Any) -> Gaussian:
        """Returns what is known of each row: a ``Gaussian`` (B, D) in the target's units."""
        return cast(Gaussian, self._predict(X))

    def _learn_target(self, y: Any, rows: int, chosen: Array) -> tuple[Target, Tensor]:
        values, flat = number_values(y, rows, self.kind, chosen)
        names = target_names(y, values.shape[1], self.kind)
        target, answers = learn_numbers(values, names, flat)
        for name, note in note_constants(target, answers).items():
            warnings.warn(f"Target {name!r}: {note}.", UserWarning, stacklevel=4)
        return target, answers

    def _truth(self, y: Any, rows: int) -> Tensor:
        values, _ = number_values(y, rows, self.kind, np.arange(rows))
        target = cast(Numbers, fitted(self).target)
        if values.shape[1] != target.count:
            rule = f"Answers must be of the {target.count} targets of training."
            raise InvalidDataError(rule, got=f"{values.shape[1]} numbers per row", cause="columns of y were left out")
        return torch.as_tensor(values)

    @property
    def _flat(self) -> bool:
        return cast(Numbers, fitted(self).target).flat

    def _shaped(self, values: Tensor) -> Array:
        return as_array(values)[:, 0] if self._flat else as_array(values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
