"""Sentences in, predictions with calibrated uncertainty out: scikit-learn estimators, and models as folders."""

from caveat.errors import InvalidModelError
from caveat.text._encoder import InvalidEncoderError
from caveat.text._estimator import Classifier, Regressor
from caveat.text._sentences import InvalidTextError, SentencesTruncatedWarning

__all__ = [
    "Classifier",
    "InvalidEncoderError",
    "InvalidModelError",
    "InvalidTextError",
    "Regressor",
    "SentencesTruncatedWarning",
]
