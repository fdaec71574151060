"""Tables in, predictions with calibrated uncertainty out: scikit-learn estimators, and models as folders."""

from caveat._tables import DoubtfulColumnWarning, InvalidTableError, as_columns
from caveat.errors import InvalidModelError
from caveat.tabular._classifier import Classifier
from caveat.tabular._regressor import Regressor

__all__ = ["Classifier", "DoubtfulColumnWarning", "InvalidModelError", "InvalidTableError", "Regressor", "as_columns"]
