"""Sentences in, predictions with honest uncertainty out: scikit-learn estimators, and models as folders."""

from caveat.errors import InvalidModel
from caveat.text._classifier import Classifier
from caveat.text._errors import InvalidEncoder, InvalidText, SentencesCut
from caveat.text._regressor import Regressor

__all__ = ["Classifier", "InvalidEncoder", "InvalidModel", "InvalidText", "Regressor", "SentencesCut"]
