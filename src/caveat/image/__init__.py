"""Pictures in, predictions with their uncertainty out: scikit-learn estimators, and models as folders."""

from caveat.errors import InvalidModelError
from caveat.image._estimator import Classifier, Regressor
from caveat.image._listing import InvalidPictureError, PicturesLeftOutWarning, list_pictures

__all__ = [
    "Classifier",
    "InvalidModelError",
    "InvalidPictureError",
    "PicturesLeftOutWarning",
    "Regressor",
    "list_pictures",
]
