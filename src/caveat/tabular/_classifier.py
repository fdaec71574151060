"""``Classifier``: classes from a table, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from caveat._estimators import sets_of
from caveat.measures import decompose
from caveat.predictive import Categorical
from caveat.tabular import _storage as storage
from caveat.tabular._columns import take
from caveat.tabular._fitting import Rows, fit_model, repeated
from caveat.tabular._schema import learn_schema
from caveat.tabular._settings import check_settings
from caveat.tabular._sklearn_face import (
    ClassifierBases,
    asked,
    categorical_names,
    checked_weights,
    fitted,
    label_values,
    place_of,
    restored,
    settings_of,
    tagged,
    training_columns,
    warn_of_notes,
    with_class_weights,
)
from caveat.tabular._targets import Classes, check_classes

Numeric = NDArray[Any]


class Classifier(ClassifierBases):
    """Classes from a table, with probabilities that can be relied on: a scikit-learn classifier.

    Columns may be numbers, categories, booleans and dates, with missing values. Outside of what training showed, at a
    category never seen or a number out of range, draws disagree: epistemic uncertainty rises.

    All settings but ``class_weight`` are those of ``Regressor``.

    Args:
        class_weight: None, "balanced", or a dict of weights by class.

    Example:
        >>> import numpy as np
        >>> X = {"size": np.linspace(0, 1, 60), "color": np.array(["red", "blue"] * 30)}
        >>> model = Classifier(members=2, epochs=20, width=16).fit(X, ["ripe", "not yet"] * 30)
        >>> model.predict({"size": [0.2], "color": ["red"]})
        array(['ripe'], dtype='<U7')
    """

    def __init__(
        self,
        *,
        method: str = "ensemble",
        members: int = 5,
        draws: int = 100,
        width: int = 128,
        depth: int = 2,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        calibration: float = 0.15,
        categorical: Collection[str | int] = (),
        class_weight: Mapping[Any, float] | str | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.method = method
        self.members = members
        self.draws = draws
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.calibration = calibration
        self.categorical = categorical
        self.class_weight = class_weight
        self.seed = seed
        self.progress = progress

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train on a table X of B rows and labels y (B,); returns self.

        Args:
            X: a data frame (pandas, polars), an Arrow table, an array (B, F) or a dict of columns.
            y: labels of any type.
            sample_weight: (B,), how much each row counts; whole numbers count as so many rows.

        Raises:
            InvalidTableError: what cannot be learned from, one class only; the message names the column and the row.
        """
        settings = check_settings(settings_of(self))
        columns, rows = training_columns(self, X, y)
        labels = label_values(y)
        self.classes_ = np.unique(labels)
        chosen, weights = repeated(checked_weights(sample_weight, rows))
        columns, labels = take(columns, chosen), labels[chosen]
        numbers = cast(Numeric, np.searchsorted(self.classes_, labels))
        counts = np.bincount(numbers, minlength=len(self.classes_))
        check_classes("y", {str(k): int(c) for k, c in zip(self.classes_, counts, strict=True) if c})
        target = Classes("y", tuple(map(str, self.classes_)), tuple(map(int, counts)))
        schema = learn_schema(columns, categorical_names(self.categorical, columns), place_of(chosen))
        warn_of_notes(schema)
        weights = with_class_weights(weights, self.class_weight, self.classes_, numbers)
        answers = torch.from_numpy(numbers.astype(np.int64))
        self.model_ = fit_model(schema, target, Rows(columns, answers, weights), settings, progress=self.progress)
        return self

    def predict(self, X: Any) -> Numeric:
        """The most probable class of each row, (B,)."""
        best = self.predictive(X).predicted.numpy()
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Numeric:
        """Probabilities (B, C), in the order of ``classes_``."""
        return self.predictive(X).mean.numpy()

    def predict_interval(self, X: Any, level: float = 0.9) -> NDArray[np.bool_]:
        """The set of classes, (B, C) bool, that holds the label with probability ``level``: conformal prediction sets.

        The most probable class is always in it. A model without enough held-out rows gives every class.
        """
        return sets_of(fitted(self).calibration.scores, self.predictive(X), level).numpy()

    def predictive(self, X: Any) -> Categorical:
        """What is known of each row: a ``Categorical`` (B, C)."""
        return cast(Categorical, asked(self, X))

    def decompose(self, X: Any) -> dict[str, Numeric]:
        """Entropies "total", "aleatoric" and "epistemic", (B,), in nats."""
        return {name: value.numpy() for name, value in decompose(self.predictive(X)).items()}

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder: weights, ``caveat.json`` and a model card; no pickle."""
        storage.save(fitted(self), folder, labels=storage.label_kind(self.classes_))

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """The estimator of a folder that ``save`` wrote.

        Raises:
            InvalidModelError: no such model, or one that was changed, cut short, or made by a newer version.
        """
        found = cast(Classifier, restored(cls, storage.load(folder), Classes))
        target = cast(Classes, found.model_.target)
        found.classes_ = storage.typed_labels(target.labels, found.model_.summary.get("labels", "text"))
        return found

    def __sklearn_tags__(self) -> Any:
        return tagged(super().__sklearn_tags__())
