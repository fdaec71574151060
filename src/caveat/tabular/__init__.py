"""Tables in, predictions with honest uncertainty out: scikit-learn estimators, and models as folders."""

from caveat.errors import InvalidModelError
from caveat.tabular._classifier import Classifier
from caveat.tabular._columns import as_columns
from caveat.tabular._errors import DoubtfulColumnWarning, InvalidTableError
from caveat.tabular._regressor import Regressor

__all__ = ["Classifier", "DoubtfulColumnWarning", "InvalidModelError", "InvalidTableError", "Regressor", "as_columns"]
