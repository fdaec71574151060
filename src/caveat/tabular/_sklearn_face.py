"""What both estimators share of scikit-learn's ways: bases, checks of what comes in, and what a model came from."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from caveat._checks import is_missing as is_no_value
from caveat._extras import require
from caveat.errors import InvalidArgumentError, explain
from caveat.predictive import Categorical, Gaussian
from caveat.tabular._columns import Columns, as_column, as_columns, count_rows
from caveat.tabular._errors import DoubtfulColumnWarning, InvalidTableError
from caveat.tabular._model import Model, predictive
from caveat.tabular._schema import Schema
from caveat.tabular._settings import Settings
from caveat.tabular._targets import Classes
from caveat.tabular._values import Place, numbers_of, row_place

if TYPE_CHECKING:

    class _Base:
        """What scikit-learn's mixins bring, for type checkers: it ships no types."""

        n_features_in_: int
        feature_names_in_: Any

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Any: ...
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...
        def __sklearn_tags__(self) -> Any: ...

    RegressorBases = ClassifierBases = _Base
    validation: Any = None
    multiclass: Any = None
else:
    _base = require("sklearn.base", "tabular")
    validation = require("sklearn.utils.validation", "tabular")
    multiclass = require("sklearn.utils.multiclass", "tabular")

    class RegressorBases(_base.RegressorMixin, _base.BaseEstimator):
        """Of scikit-learn's regressors."""

    class ClassifierBases(_base.ClassifierMixin, _base.BaseEstimator):
        """Of scikit-learn's classifiers."""


def settings_of(estimator: Any) -> Settings:
    """The settings that an estimator was made with."""
    named: dict[str, Any] = {}
    for name in Settings.__dataclass_fields__:
        value: Any = getattr(estimator, name)
        named[name] = value.item() if hasattr(value, "item") else value
    return Settings(**named)


def fitted(estimator: Any) -> Model:
    """The model of an estimator; scikit-learn's ``NotFittedError`` before ``fit``."""
    validation.check_is_fitted(estimator, "model_")
    return estimator.model_


def asked(estimator: Any, X: Any) -> Categorical | Gaussian:
    """What the model of an estimator says of X."""
    model = fitted(estimator)
    columns = as_columns(X)
    _check_names(estimator, X, columns, reset=False)
    if count_rows(columns) == 0:
        raise InvalidTableError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return predictive(model, columns)


def training_columns(estimator: Any, X: Any, y: Any) -> tuple[Columns, int]:
    """The columns to train on and how many rows they have; X and y fit together."""
    if y is None:
        raise InvalidTableError("This estimator requires y to be passed, but the target y is None.")
    columns = as_columns(X)
    _check_names(estimator, X, columns, reset=True)
    rows = count_rows(columns)
    if rows < 2:
        raise InvalidTableError(
            f"Found array with {rows} sample(s) while a minimum of 2 is required to train (n_samples = {rows})."
        )
    validation.check_consistent_length(next(iter(columns.values())), y if hasattr(y, "__len__") else np.asarray(y))
    return columns, rows


def restored(cls: Any, model: Model, kind: type[Any]) -> Any:
    """An estimator of the class, with a model that was read; ``kind`` is the target that the class has."""
    if not isinstance(model.target, kind):
        other = "Regressor" if kind is Classes else "Classifier"
        raise InvalidArgumentError(
            explain(
                f"The folder must hold a {cls.__name__}.",
                got=f"a {other}",
                cause="the other class was meant",
                fix=f"caveat.tabular.{other}.load(folder)",
            )
        )
    estimator = cls(**{name: getattr(model.settings, name) for name in Settings.__dataclass_fields__})
    estimator.model_ = model
    estimator.n_features_in_ = len(model.schema.names)
    if not all(name == f"x{number}" for number, name in enumerate(model.schema.names)):
        estimator.feature_names_in_ = np.array(model.schema.names, dtype=object)
    return estimator


def tagged(tags: Any) -> Any:
    """The tags of an estimator that takes missing values and categories."""
    tags.input_tags.allow_nan = True
    tags.input_tags.categorical = True
    tags.input_tags.string = True
    return tags


def _check_names(estimator: Any, X: Any, columns: Columns, *, reset: bool) -> None:
    """Note the columns, or check them: as scikit-learn does of arrays and pandas, by name of all else."""
    if not isinstance(X, Mapping) and hasattr(X, "shape") and (hasattr(X, "iloc") or not hasattr(X, "columns")):
        validation.validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif reset:
        estimator.n_features_in_ = len(columns)
        if isinstance(X, Mapping) or hasattr(X, "columns"):
            estimator.feature_names_in_ = np.array(list(columns), dtype=object)


def target_values(y: Any) -> Any:
    """Targets (B,) or (B, D) as float64, NaN where missing: of pandas, polars and Arrow too."""
    values = _as_array(y)
    if values.dtype.kind == "O" and values.size:
        each = values.size // len(values)
        values = numbers_of("y", values.reshape(-1), lambda at: row_place(at // each)).reshape(values.shape)
    values = validation.check_array(
        values, ensure_2d=False, dtype=np.float64, input_name="y", ensure_all_finite=False, ensure_min_samples=0
    )
    if values.ndim == 2 and values.shape[1] == 1:
        validation.column_or_1d(values, warn=True)
    return values


def label_values(y: Any) -> Any:
    """Labels (B,) of one type.

    Raises:
        InvalidTableError: a label is missing, or labels are of several types; the message names the row.
    """
    labels = validation.column_or_1d(_as_array(y), warn=True)
    listed = labels.tolist()
    for row, label in enumerate(listed):
        if is_no_value(label):
            raise InvalidTableError(
                explain(
                    "Input y contains NaN: the label must be known in every row.",
                    got=f"{label} at {row_place(row)} of y",
                    cause="rows whose label is not known yet",
                    fix="leave these rows out of training",
                )
            )
    validation.assert_all_finite(labels, input_name="y")
    if labels.dtype.kind == "O":
        kinds = sorted({type(label).__name__ for label in listed})
        if len(kinds) > 1:
            cause, fix = "labels of two files put together", "y = [str(label) for label in y]"
            got = f"{' and '.join(kinds)} in y"
            raise InvalidTableError(explain("Labels must be of one type.", got=got, cause=cause, fix=fix))
        labels = np.array([str(label) if isinstance(label, str) else label for label in listed])
    multiclass.check_classification_targets(labels)
    return labels


def _as_array(y: Any) -> Any:
    """Answers of any container as an array, whose gaps stay gaps."""
    typed = any(hasattr(y, name) for name in ("mask", "to_numpy", "to_pylist"))
    flat = type(y) in (list, tuple) and np.array(y, dtype=object).ndim == 1
    return as_column(y) if typed or flat else np.asarray(y)


def place_of(chosen: Any) -> Place:
    """Says where a row of the chosen ones is in the table that was passed."""
    return lambda row: row_place(int(chosen[row]))


def warn_of_notes(schema: Schema) -> None:
    """Warn of columns that could be read in two ways, or in part not at all."""
    for column in schema.columns:
        if column.note:
            warnings.warn(f"Column {column.name!r}: {column.note}.", DoubtfulColumnWarning, stacklevel=3)


def target_names(y: Any, count: int) -> tuple[str, ...]:
    """The names of the targets: those of a data frame or series, else y, y0, y1, ..."""
    if hasattr(y, "columns"):
        return tuple(map(str, y.columns))
    name = getattr(y, "name", None)
    return (str(name),) if count == 1 and name else tuple("y" if count == 1 else f"y{k}" for k in range(count))


def categorical_names(given: Collection[str | int], columns: Columns) -> set[str]:
    """The names of columns that were given by name or by number."""
    names = list(columns)
    return {names[one] if isinstance(one, int) and one < len(names) else str(one) for one in given}


def checked_weights(sample_weight: Any, rows: int) -> Any:
    """Weights (B,), ones if none are given."""
    if sample_weight is None:
        return np.ones(rows)
    weights = validation.column_or_1d(np.asarray(sample_weight, dtype=np.float64))
    if len(weights) != rows or not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidArgumentError(
            explain(
                "sample_weight must be (B,), finite and not negative.",
                got=f"sample_weight.shape == {weights.shape} for {rows} rows",
                cause="weights of another split, or a logarithm",
                fix="sample_weight=np.ones(len(X))",
            )
        )
    if not (weights > 0).any():
        raise InvalidArgumentError("Not all weights may be zero: no row of sample_weight counts.")
    return weights


def with_class_weights(weights: Any, given: Any, classes: Any, numbers: Any) -> Any:
    """Weights of rows times those of their classes."""
    if given is None:
        return weights
    utilities = require("sklearn.utils.class_weight", "tabular")
    by_row = utilities.compute_sample_weight(given if isinstance(given, str) else dict(given), classes[numbers])
    return by_row if weights is None else weights * by_row
