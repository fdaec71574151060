"""Tables in, predictions with honest uncertainty out: scikit-learn estimators, and models as folders."""

from caveat.errors import InvalidModel
from caveat.tabular.classifier import Classifier
from caveat.tabular.columns import as_columns
from caveat.tabular.errors import DoubtfulColumn, InvalidTable
from caveat.tabular.regressor import Regressor

__all__ = ["Classifier", "DoubtfulColumn", "InvalidModel", "InvalidTable", "Regressor", "as_columns"]
