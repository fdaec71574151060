"""scikit-learn's face, once for all estimators: its mixins, weights, and answers in any container."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from caveat._arrays import masked_as_nan, plain_tensor
from caveat._checks import is_missing
from caveat._estimators._kind import Kind
from caveat._estimators._model import Model
from caveat._extras import require
from caveat._tables import Array
from caveat.errors import InvalidArgumentError, InvalidDataError

_EXTRA = "tabular"  # of the extras that bring scikit-learn, the smallest
_TIMES: tuple[type[Any], ...] = (date, timedelta, np.datetime64, np.timedelta64)
_LABELS = (str, int, float, np.integer, np.floating, np.bool_)

if TYPE_CHECKING:

    class _Base:
        """What scikit-learn's mixins bring, for type checkers: it ships no types."""

        n_features_in_: int
        feature_names_in_: Any

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Any: ...
        def __sklearn_tags__(self) -> Any: ...

    class _Mixin:
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...
        def __sklearn_tags__(self) -> Any: ...

    BaseEstimator = _Base
    RegressorMixin = ClassifierMixin = _Mixin
    validation: Any = None
else:
    _base = require("sklearn.base", _EXTRA)
    validation = require("sklearn.utils.validation", _EXTRA)
    BaseEstimator, RegressorMixin, ClassifierMixin = _base.BaseEstimator, _base.RegressorMixin, _base.ClassifierMixin


def fitted(estimator: Any) -> Model:
    """Returns the model of an estimator.

    Raises:
        sklearn.exceptions.NotFittedError: ``fit`` was not called.
    """
    validation.check_is_fitted(estimator, "model_")
    return estimator.model_


def label_values(y: Any, rows: int, kind: Kind, chosen: Array) -> Array:
    """Returns the labels (N,) of the chosen rows, of one type, of any container of labels (B,).

    Raises:
        InvalidDataError: labels that are missing or no classes, of several types, or another
            number of them than rows; the message names the row.
    """
    labels = _values(y, kind)
    if labels.ndim == 2 and labels.shape[1] == 1:
        _warn_of_a_column()
        labels = labels[:, 0]
    if labels.ndim != 1:
        rule = f"Labels must be (B,), one for each {kind.row}."
        cause = f"one-hot labels, or several labels a {kind.row}"
        raise InvalidDataError(rule, got=f"y of shape {labels.shape}", cause=cause, fix="y.argmax(1)")
    _check_length(len(labels), rows, kind)
    labels = labels[chosen]
    listed = cast("list[Any]", labels.tolist())
    for row, label in zip(chosen.tolist(), listed, strict=True):
        if is_missing(label) or (isinstance(label, float) and not np.isfinite(label)):
            raise _missing(row, label, kind)
        if isinstance(label, float) and not label.is_integer():
            raise InvalidDataError(
                "A classifier learns labels. Unknown label type: continuous.",
                got=f"{label!r} in row {row}",
                cause="a number that is to be predicted",
                fix=f"caveat.{kind.package}.Regressor",
            )
    odd = next((one for one in listed if not isinstance(one, _LABELS)), None)
    if odd is not None or labels.dtype.kind in "mM":  # of nanoseconds NumPy lists whole numbers
        rule = "Labels must be text, whole numbers or booleans, as a saved model keeps them."
        got = f"{labels.dtype if odd is None else type(odd).__name__} in y"
        raise InvalidDataError(rule, got=got, cause="dates, or text that was read as bytes", fix="y = y.astype(str)")
    types = sorted({"str" if isinstance(label, str) else type(label).__name__ for label in listed})
    if len(types) > 1:
        names = " and ".join(types)
        cause, fix = "labels of two files put together", "y = [str(label) for label in y]"
        raise InvalidDataError("Labels must be of one type.", got=f"{names} in y", cause=cause, fix=fix)
    if labels.dtype == object:
        labels = np.array([str(label) if isinstance(label, str) else label for label in listed])
    return labels


def number_values(y: Any, rows: int, kind: Kind, chosen: Array) -> tuple[Array, bool]:
    """Returns the targets (N, D) float64 of the chosen rows, of any container of (B, D), and whether they were (B,).

    Raises:
        InvalidDataError: a target that is missing, infinite or no number, or another number of
            them than rows; the message names the row.
    """
    given = _values(y, kind)
    if given.ndim not in (1, 2) or given.size == 0:
        rule, cause = "Targets must be (B,) or (B, D) numbers.", "an array of something else"
        raise InvalidDataError(rule, got=f"y of shape {given.shape}", cause=cause, fix="y.reshape(len(X), -1)")
    _check_length(len(given), rows, kind)
    given = given[chosen]
    listed = given.reshape(-1).tolist() if given.dtype == object else []
    time = next((type(one).__name__ for one in listed if isinstance(one, _TIMES)), None)
    if time is not None or given.dtype.kind in "mM":
        rule, cause = "Targets must be numbers.", "a column of dates or of durations"
        fix = "(y - y.min()) / np.timedelta64(1, 'D') for days since the first, y / np.timedelta64(1, 's') for seconds"
        raise InvalidDataError(rule, got=f"{time or given.dtype} in y", cause=cause, fix=fix)
    if given.dtype.kind not in "iufb":
        for row, value in zip(chosen.tolist(), given.tolist(), strict=True):
            for one in cast("list[Any]", value if isinstance(value, list) else [value]):
                if is_missing(one) or not _is_finite(one):
                    raise _missing(row, one, kind)
    values = given.astype(np.float64)
    bad = ~np.isfinite(values.reshape(len(values), -1))
    if bad.any():
        row, column = (int(at[0]) for at in bad.nonzero())
        raise _missing(chosen[row], values.reshape(len(values), -1)[row, column].item(), kind)
    if values.ndim == 2 and values.shape[1] == 1:
        _warn_of_a_column()
        return values, True
    return (values, False) if values.ndim == 2 else (values[:, None], True)


def target_names(y: Any, count: int, kind: Kind) -> tuple[str, ...]:
    """Returns the names of the targets: those of a data frame or series, else y, or y0, y1, ...

    Raises:
        InvalidDataError: two targets of one name.
    """
    given: Any = getattr(y, "column_names", getattr(y, "columns", None))  # those of Arrow, or of a data frame
    if given is not None:
        names = tuple(map(str, given))
        if len(set(names)) < len(names):
            cause, fix = "a join of tables", "y.columns = [...]"
            raise InvalidDataError("Targets must have different names.", got=f"{list(names)}", cause=cause, fix=fix)
        return names
    name = getattr(y, "name", None)
    return (str(name),) if count == 1 and name else tuple("y" if count == 1 else f"y{k}" for k in range(count))


def row_weights(sample_weight: Any, rows: int) -> Array:
    """Returns weights (B,), ones if none are given.

    Raises:
        InvalidArgumentError: Weights that are not (B,), finite and at least 0, or all of them 0.
    """
    if sample_weight is None:
        return np.ones(rows)
    try:
        weights = np.asarray(masked_as_nan(plain_tensor(sample_weight)), dtype=np.float64)
    except (TypeError, ValueError):  # words, or lists of several lengths
        weights = np.asarray(np.nan)
    good = weights.shape == (rows,) and bool(np.isfinite(weights).all()) and bool((weights >= 0).all())
    if good and bool((weights > 0).any()):
        return weights
    raise InvalidArgumentError(
        "sample_weight must be (B,), finite and at least 0, and not zero for all rows.",
        got=f"sample_weight of shape {weights.shape} for {rows} rows, from {np.min(weights, initial=0):g}",
        cause="weights of another split, or a logarithm",
        fix="sample_weight=np.ones(len(X))",
    )


def with_class_weights(weights: Array | None, given: Any, classes: Array, numbers: Array) -> Array | None:
    """Returns weights of rows times those of their classes (``numbers``)."""
    if given is None:
        return weights
    utilities = require("sklearn.utils.class_weight", _EXTRA)
    if given != "balanced" and not isinstance(given, Mapping):
        raise _no_class_weight(given)
    plain = given if isinstance(given, str) else dict(cast("Mapping[Any, Any]", given))
    by_row = utilities.compute_sample_weight(plain, classes[numbers])
    if not np.isfinite(by_row).all() or by_row.min() < 0 or by_row.max() == 0:
        raise _no_class_weight(given)
    return by_row if weights is None else weights * by_row


def _no_class_weight(given: Any) -> InvalidArgumentError:
    return InvalidArgumentError(
        "class_weight must be None, 'balanced' or a dict of weights, finite and at least 0, and not zero for all.",
        got=f"class_weight={given!r}",
        cause="a list, or a logarithm",
        fix="class_weight='balanced'",
    )


def as_array(values: Tensor) -> Array:
    """Returns a NumPy array, which lies in the computer's own memory."""
    return values.cpu().numpy()


def _values(y: Any, kind: Kind) -> Array:
    if y is None:
        rule = "This estimator requires y to be passed, but the target y is None."
        raise InvalidDataError(rule, got="y=None", cause="fit(X) without answers", fix="fit(X, y)")
    y = plain_tensor(y)
    if hasattr(y, "toarray") and hasattr(y, "nnz"):
        rule, cause = "Answers must be an array, a list, or a column of a table.", "one-hot encoding before"
        raise InvalidDataError(rule, got="a sparse matrix", cause=cause, fix="y.toarray()")
    if hasattr(y, "column_names"):  # Arrow
        y = np.column_stack([_values(column, kind) for column in y.columns])
    if hasattr(y, "to_pylist"):
        y = y.to_pylist()
    if hasattr(y, "columns") and not hasattr(y, "iloc"):  # polars
        y = y.to_numpy()
    if isinstance(y, np.ma.MaskedArray):
        y = cast("list[Any]", y.tolist())  # pyright: ignore[reportUnknownMemberType]
    if isinstance(y, (list, tuple)):
        try:
            return np.array(y, dtype=object if any(isinstance(one, str) for one in cast(Any, y)) else None)
        except ValueError:
            return np.array(y, dtype=object)
    return np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)


def _warn_of_a_column() -> None:
    error = require("sklearn.exceptions", _EXTRA).DataConversionWarning
    text = "A column-vector y was passed when a 1d array was expected; pass y.ravel()."
    warnings.warn(text, error, stacklevel=5)


def _check_length(count: int, rows: int, kind: Kind) -> None:
    if count != rows:
        raise InvalidDataError(
            "X and y must have the same length. Found input variables with inconsistent numbers of samples.",
            got=f"{rows} {kind.rows} and {count} answers",
            cause="answers of another split, or a header that was read as a row",
            fix="take both from the same rows",
        )


def _is_finite(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError, OverflowError):
        return False


def _missing(row: int, value: Any, kind: Kind) -> InvalidDataError:
    return InvalidDataError(
        f"Every {kind.row} must have its answer: a label, or a finite number. Input y contains NaN or infinity.",
        got=f"{value!r} in row {row} of y",
        cause="rows whose answer is not known yet, or text in a column of numbers",
        fix="leave these rows out of training",
    )
