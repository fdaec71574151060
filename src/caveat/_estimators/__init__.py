"""What estimators of tables, sentences and pictures share: parameters, targets, fitting, thresholds, folders, cards."""

from importlib import import_module

from caveat._estimators._calibration import calibrate
from caveat._estimators._card import draws_line, plain_text, unlike_lines
from caveat._estimators._fitting import fit_model
from caveat._estimators._frozen import Standardized, build_on, digest_of_weights, find_frozen, perceptron
from caveat._estimators._held_out import FEWEST_TO_CALIBRATE, FOLDS, deal_in_folds
from caveat._estimators._kind import CardLines, KeyedRows, Kind, Learned, Stored
from caveat._estimators._model import (
    Model,
    highest_level,
    interval_of,
    measure_of,
    predict_from,
    predict_in_steps,
    predict_readable,
    sets_of,
    split_evenly,
    summarize_draws,
    uncertainty_of,
    unit_of,
)
from caveat._estimators._model_checks import require, under
from caveat._estimators._model_folder import FILES, changed, check_destination, fingerprint
from caveat._estimators._objectives import Training, fall_as_cosine, fall_evenly, objective_of, outputs_of, shape_fields
from caveat._estimators._prediction_rows import MOST_CLASSES, prediction_rows
from caveat._estimators._settings import (
    METHODS,
    NetworkSettings,
    SharedSettings,
    SharedShape,
    check_ranges,
    count_networks,
    fill_in,
    settings_of,
    usual_pace,
    wrong_setting,
)
from caveat._estimators._storage import (
    OF_READER,
    format_of,
    load_model,
    restore_networks,
    save_model,
)
from caveat._estimators._targets import Classes, Numbers, Target, learn_classes, learn_numbers, note_constants
from caveat._estimators._thresholds import (
    check_goal,
    choose_by_truth,
    decide,
    losses_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from caveat._estimators._estimator import ONE_COLUMN, ClassifierBase, Estimator, RegressorBase
    from caveat._estimators._sklearn import fitted, row_weights, validation

__all__ = [
    "FEWEST_TO_CALIBRATE",
    "FILES",
    "FOLDS",
    "METHODS",
    "MOST_CLASSES",
    "OF_READER",
    "ONE_COLUMN",
    "CardLines",
    "Classes",
    "ClassifierBase",
    "Estimator",
    "KeyedRows",
    "Kind",
    "Learned",
    "Model",
    "NetworkSettings",
    "Numbers",
    "RegressorBase",
    "SharedSettings",
    "SharedShape",
    "Standardized",
    "Stored",
    "Target",
    "Training",
    "build_on",
    "calibrate",
    "changed",
    "check_destination",
    "check_goal",
    "check_ranges",
    "choose_by_truth",
    "count_networks",
    "deal_in_folds",
    "decide",
    "digest_of_weights",
    "draws_line",
    "fall_as_cosine",
    "fall_evenly",
    "fill_in",
    "find_frozen",
    "fingerprint",
    "fit_model",
    "fitted",
    "format_of",
    "highest_level",
    "interval_of",
    "learn_classes",
    "learn_numbers",
    "load_model",
    "losses_of",
    "measure_of",
    "note_constants",
    "objective_of",
    "outputs_of",
    "perceptron",
    "plain_text",
    "predict_from",
    "predict_in_steps",
    "predict_readable",
    "prediction_rows",
    "require",
    "restore_networks",
    "row_weights",
    "save_model",
    "sets_of",
    "settings_of",
    "shape_fields",
    "split_evenly",
    "summarize_draws",
    "uncertainty_of",
    "under",
    "unit_of",
    "unlike_lines",
    "usual_pace",
    "validation",
    "wrong_setting",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Returns a part of scikit-learn's face, loaded when it is asked for: a saved model needs none of it."""
        for module in ("_estimator", "_sklearn"):
            if name in __all__ and name in vars(import_module(f"{__name__}.{module}")):
                return vars(import_module(f"{__name__}.{module}"))[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
