"""Pictures in, predictions with their uncertainty out: scikit-learn estimators, and models as folders."""

from caveat._pictures import InvalidPictureError, PicturesLeftOutWarning, list_pictures
from caveat.errors import InvalidModelError
from caveat.image._estimator import Classifier, Regressor

__all__ = [
    "Classifier",
    "InvalidModelError",
    "InvalidPictureError",
    "PicturesLeftOutWarning",
    "Regressor",
    "list_pictures",
]
