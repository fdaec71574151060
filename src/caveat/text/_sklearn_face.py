"""What both estimators share of scikit-learn's ways: bases, weights, and what a model came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caveat._extras import require
from caveat.errors import InvalidArgumentError, explain
from caveat.predictive import Categorical, Gaussian
from caveat.text._model import Model, predictive
from caveat.text._sentences import as_sentences
from caveat.text._settings import Settings
from caveat.text._targets import Classes

if TYPE_CHECKING:

    class _Base:
        """What scikit-learn's mixins bring, for type checkers: it ships no types."""

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Any: ...
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...
        def __sklearn_tags__(self) -> Any: ...

    RegressorBases = ClassifierBases = _Base
    validation: Any = None
else:
    _base = require("sklearn.base", "text")
    validation = require("sklearn.utils.validation", "text")

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
    for name in ("encoder", "device"):
        if named[name] is not None:
            named[name] = str(named[name])
    return Settings(**named)


def fitted(estimator: Any) -> Model:
    """The model of an estimator; scikit-learn's ``NotFittedError`` before ``fit``."""
    validation.check_is_fitted(estimator, "model_")
    return estimator.model_


def asked(estimator: Any, X: Any) -> Categorical | Gaussian:
    """What the model of an estimator says of sentences."""
    return predictive(fitted(estimator), as_sentences(X))


def restored(cls: Any, model: Model, kind: type[Any]) -> Any:
    """An estimator of the class, with a model that was read; ``kind`` is the target that the class has."""
    if not isinstance(model.target, kind):
        other = "Regressor" if kind is Classes else "Classifier"
        rule, cause = f"The folder must hold a {cls.__name__}.", "the other class was meant"
        fix = f"caveat.text.{other}.load(folder)"
        raise InvalidArgumentError(explain(rule, got=f"a {other}", cause=cause, fix=fix))
    estimator = cls(**{name: getattr(model.settings, name) for name in Settings.__dataclass_fields__})
    estimator.model_ = model
    return estimator


def tagged(tags: Any) -> Any:
    """The tags of an estimator that takes a list of sentences."""
    tags.input_tags.one_d_array = True
    tags.input_tags.two_d_array = False
    tags.input_tags.string = True
    return tags


def as_array(values: Tensor) -> NDArray[Any]:
    """A NumPy array, which lies in the computer's own memory."""
    return values.cpu().numpy()


def checked_weights(sample_weight: Any, rows: int) -> NDArray[Any] | None:
    """Weights (B,), or None.

    Raises:
        InvalidArgumentError: weights that are not (B,), finite and at least 0, or all of them 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    good = weights.shape == (rows,) and bool(np.isfinite(weights).all()) and bool((weights >= 0).all())
    if good and bool((weights > 0).any()):
        return weights
    raise InvalidArgumentError(
        explain(
            "sample_weight must be (B,), finite and at least 0, and not 0 for all sentences.",
            got=f"sample_weight of shape {weights.shape} for {rows} sentences, from {np.min(weights, initial=0):g}",
            cause="weights of another split, or a logarithm",
            fix="sample_weight=np.ones(len(X))",
        )
    )


def with_class_weights(
    weights: NDArray[Any] | None, given: Any, classes: NDArray[Any], numbers: NDArray[Any]
) -> NDArray[Any] | None:
    """Weights of rows times those of their classes."""
    if given is None:
        return weights
    utilities = require("sklearn.utils.class_weight", "text")
    by_row = utilities.compute_sample_weight(given if isinstance(given, str) else dict(given), classes[numbers])
    return by_row if weights is None else weights * by_row
