"""Pictures in, predictions with their uncertainty out: scikit-learn estimators, and models as folders."""

from caveat._pictures import list_pictures
from caveat.errors import DoubtfulDataWarning, InvalidDataError, InvalidModelError
from caveat.image._estimator import Classifier, Regressor

__all__ = [
    "Classifier",
    "DoubtfulDataWarning",
    "InvalidDataError",
    "InvalidModelError",
    "Regressor",
    "list_pictures",
]
