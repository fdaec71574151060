"""Query functions of the shape that modAL and scikit-activeml call, for any predict function or scikit-learn model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from caveat.acquire._batches import select
from caveat.acquire._pool import check_batch
from caveat.acquire._scores import Score, as_score
from caveat.errors import InvalidArgumentError
from caveat.predictive import Predictive, Probabilities

PredictWith = Callable[[Any, Any], Predictive]


def modal_query(score: str | Score = "bald", *, predict: PredictWith | None = None) -> Callable[..., Any]:
    """A query strategy for ``modAL.models.ActiveLearner(estimator=..., query_strategy=...)``.

    Args:
        score: a name that ``score_rows`` takes, or a function of a predictive.
        predict: ``predict(classifier, X)`` gives a predictive. If not given, the classifier's probabilities are it: a
            draw for each of its ``estimators_``, such as a forest's trees; else one draw, by which BALD is 0.

    Returns:
        ``query(classifier, X, n_instances=1)``: row numbers of X, (n_instances,), best first.

    Example:
        >>> class Model:
        ...     def predict_proba(self, X):
        ...         return np.stack([X[:, 0], 1 - X[:, 0]], -1)
        >>> modal_query("entropy")(Model(), np.array([[0.9], [0.5], [0.1]]), n_instances=1).tolist()
        [1]
    """
    function = as_score(score)

    def query(classifier: Any, X: Any, n_instances: int = 1, **_: Any) -> Any:
        check_batch(n_instances, len(X))
        pred = (predict or predictive_of_estimator)(classifier, X)
        return select(function(pred), n_instances).cpu().numpy()

    return query


def activeml_query(score: str | Score = "bald", *, predict: PredictWith | None = None) -> Callable[..., Any]:
    """A query function with the arguments of scikit-activeml's ``QueryStrategy.query`` for pools.

    Returns:
        ``query(X, y, clf, candidates=None, batch_size=1, return_utilities=False)``: row numbers of X; the candidates
        are the rows whose label is missing (NaN), or row numbers, or (with numbers into themselves) samples. Utilities
        are (batch_size, rows), NaN where a row could not be chosen, as there. ``clf`` is fitted already.

    Example:
        >>> class Model:
        ...     def predict_proba(self, X):
        ...         return np.stack([X[:, 0], 1 - X[:, 0]], -1)
        >>> X, y = np.array([[0.9], [0.5], [0.4]]), np.array([np.nan, 1, np.nan])
        >>> activeml_query("entropy")(X, y, Model(), batch_size=1).tolist()
        [2]
    """
    function = as_score(score)

    def query(
        X: Any, y: Any, clf: Any, candidates: Any = None, batch_size: int = 1, return_utilities: bool = False, **_: Any
    ) -> Any:
        samples, rows = _candidates(np.asarray(X), y, candidates)
        check_batch(batch_size, len(rows))
        scores = function((predict or predictive_of_estimator)(clf, samples[rows])).cpu()
        chosen = select(scores, batch_size).numpy()
        if not return_utilities:
            return rows[chosen]
        utilities = np.full((batch_size, len(samples)), np.nan)
        for k in range(batch_size):
            utilities[k, rows] = scores.numpy()
            utilities[k, rows[chosen[:k]]] = np.nan
        return rows[chosen], utilities

    return query


def predictive_of_estimator(estimator: Any, X: Any) -> Predictive:
    """A predictive of a fitted scikit-learn classifier: a draw for each of its ``estimators_``, else one draw.

    A forest or a bagging ensemble disagrees with itself as an ensemble of networks does; of any other classifier, BALD
    is 0 and entropy or margin are the scores to use. modAL's learners are looked through to their ``estimator``.

    Raises:
        InvalidArgumentError: no ``predict_proba``.

    Example:
        >>> class Model:
        ...     def predict_proba(self, X):
        ...         return np.full((len(X), 2), 0.5)
        >>> predictive_of_estimator(Model(), np.zeros((1, 1)))
        Categorical(batch=(1,), classes=2, draws=1, float64)
          row  predicted  probability  entropy (nats)  mutual information
            0          0          0.5          0.6931                   0
    """
    members = getattr(estimator, "estimators_", None)
    inner: Any = getattr(estimator, "estimator", None)
    if members is None and hasattr(inner, "estimators_"):
        members = inner.estimators_
    alike = members is not None and all(_fits(member, estimator) for member in np.ravel(np.asarray(members, object)))
    models = list(np.ravel(np.asarray(members, object))) if alike else [estimator]
    if not all(hasattr(model, "predict_proba") for model in models):
        raise InvalidArgumentError(
            "A classifier is asked for its probabilities: it has predict_proba.",
            got=type(estimator).__name__,
            cause="a regressor, or a classifier without probabilities",
            fix="predict=lambda model, X: <a predictive>, for instance caveat.predict(sampler, torch.tensor(X))",
        )
    return Probabilities().summarize(torch.tensor(np.stack([model.predict_proba(X) for model in models])))


def _fits(member: Any, whole: Any) -> bool:
    """Whether a member gives probabilities over the same classes and features (a boosting stage does not)."""
    names = getattr(whole, "classes_", getattr(getattr(whole, "estimator", None), "classes_", None))
    count = len(getattr(member, "classes_", ()))
    return hasattr(member, "predict_proba") and not hasattr(whole, "estimators_features_") and (
        names is None or count == len(names)
    )


def _candidates(X: Any, y: Any, candidates: Any) -> tuple[Any, Any]:
    """The samples, and the numbers of those that can be chosen."""
    if candidates is None:
        labels = np.asarray(y)
        missing = np.array([label is None or label != label for label in labels.tolist()], dtype=bool)
        return X, np.flatnonzero(missing)
    given = np.asarray(candidates)
    if given.ndim > 1:
        return given, np.arange(len(given))
    return X, given.astype(int)
