"""Sentences in, predictions with calibrated uncertainty out: scikit-learn estimators, and models as folders."""

from caveat.errors import InvalidModelError
from caveat.text._classifier import Classifier
from caveat.text._errors import InvalidEncoderError, InvalidTextError, SentencesTruncatedWarning
from caveat.text._regressor import Regressor

__all__ = [
    "Classifier",
    "InvalidEncoderError",
    "InvalidModelError",
    "InvalidTextError",
    "Regressor",
    "SentencesTruncatedWarning",
]
