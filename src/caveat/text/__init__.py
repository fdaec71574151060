"""Sentences in, predictions with calibrated uncertainty out: scikit-learn estimators, and models as folders."""

from caveat.errors import DoubtfulDataWarning, InvalidDataError, InvalidModelError
from caveat.text._estimator import Classifier, Regressor

__all__ = [
    "Classifier",
    "DoubtfulDataWarning",
    "InvalidDataError",
    "InvalidModelError",
    "Regressor",
]
