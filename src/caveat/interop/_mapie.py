"""Any sampler as a fitted estimator of scikit-learn, so that all of MAPIE's conformal methods take it.

Split conformal sets and intervals need no library: see ``caveat.calibrate``. MAPIE adds the rest: risk control,
time-series and cross conformal prediction, and more scores.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from caveat._checks import require_integer
from caveat._engine import Sampler
from caveat._extras import require
from caveat.interop._one_prediction import numbers_of, predict_rows, probabilities_of
from caveat.predictive import Predictive


def mapie_estimator(
    sampler: Sampler, *, n: int | None = None, seed: int = 0, batch_size: int = 256, classes: int | None = None
) -> Any:
    """A sampler as a fitted estimator of scikit-learn: a regressor of one target, or with ``classes`` a classifier.

    Args:
        sampler: with an output of one number per row, or of classes.
        n: draws for each prediction; 100, or all that the sampler has, if not given.
        seed: Random seed for the draws.
        batch_size: Number of rows at once.
        classes: C, how many; of a sampler of classes.

    Returns:
        An estimator that predicts arrays of rows. A regressor has ``predict`` (B,), the mean over draws; a classifier
        ``predict_proba`` (B, C), the mean probabilities of ``caveat.predict``, and ``predict`` (B,). Hand it to MAPIE
        with ``prefit=True``.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        InvalidArgumentError: fewer than two classes; when predicting, a sampler of several targets, of maps, or of
            classes without ``classes``, or of a regression with it.

    See "Flexible and Systematic Uncertainty Estimation with Conformal Prediction via the MAPIE library", Cordier et
    al., 2023.
    """
    cause = "the number of targets of a regression"
    require_integer(batch_size, "batch_size", 1)
    require_integer(classes, "classes", 2, optional=True, cause=cause, fix="mapie_estimator(sampler)")
    base = require("sklearn.base", extra="conformal")
    dtype = torch.get_default_dtype()

    def drawn(x: Any) -> Predictive:
        rows = torch.as_tensor(x)
        return predict_rows(sampler, rows.to(dtype) if rows.is_floating_point() else rows, n, seed, batch_size)

    def predict_proba(_: Any, x: Any) -> Any:
        return probabilities_of(drawn(x)).cpu().double().numpy()

    def predict_class(_: Any, x: Any) -> Any:
        return probabilities_of(drawn(x)).argmax(-1).cpu().numpy()

    def predict_number(_: Any, x: Any) -> Any:
        return numbers_of(drawn(x))[0].cpu().double().numpy()

    if classes is None:
        return _estimator("SamplerRegressor", (base.RegressorMixin, base.BaseEstimator), {"predict": predict_number})
    methods = {"predict_proba": predict_proba, "predict": predict_class}
    made = _estimator("SamplerClassifier", (base.ClassifierMixin, base.BaseEstimator), methods)
    made.classes_ = torch.arange(classes).numpy()
    return made


def _estimator(name: str, bases: tuple[type, ...], methods: dict[str, Any]) -> Any:
    """A fitted estimator; its class is made here, for its bases are there only when scikit-learn is."""

    def fit(estimator: Any, _x: Any, _y: Any = None) -> Any:
        return estimator

    def is_fitted(_: Any) -> bool:
        return True

    # MAPIE asks for the one mark, scikit-learn for the other.
    marks = {"fit": fit, "fitted_": True, "__sklearn_is_fitted__": is_fitted}
    return cast(Any, type(name, bases, {**methods, **marks}))()
