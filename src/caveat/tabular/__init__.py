"""Tables in, predictions with calibrated uncertainty out: scikit-learn estimators, and models as folders."""

from importlib import import_module

from caveat.errors import DoubtfulDataWarning, InvalidDataError, InvalidModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from caveat.tabular._estimator import Classifier, Regressor

__all__ = ["Classifier", "DoubtfulDataWarning", "InvalidDataError", "InvalidModelError", "Regressor"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Returns an estimator, and loads scikit-learn for it: a folder's model is used without."""
        if name in ("Classifier", "Regressor"):
            globals()[name] = value = getattr(import_module(f"{__name__}._estimator"), name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
