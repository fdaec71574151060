"""What estimators of tables, sentences and pictures share: parameters, targets, fitting, thresholds, folders, cards."""

from caveat._estimators._from_scores import highest_level, interval_of, sets_of
from caveat._estimators._held_out import even_share, without_whole_classes
from caveat._estimators._model_checks import (
    check_calibration,
    check_classes,
    check_names,
    check_numbers,
    check_policy,
    check_size,
    check_summary,
    check_weights,
    require,
    under,
)
from caveat._estimators._model_folder import FILES, changed, check_destination, fingerprint, read_folder, write_folder
from caveat._estimators._objectives import loss_of
from caveat._estimators._standardize import center_and_scale

__all__ = [
    "FILES",
    "center_and_scale",
    "changed",
    "check_calibration",
    "check_classes",
    "check_destination",
    "check_names",
    "check_numbers",
    "check_policy",
    "check_size",
    "check_summary",
    "check_weights",
    "even_share",
    "fingerprint",
    "highest_level",
    "interval_of",
    "loss_of",
    "read_folder",
    "require",
    "sets_of",
    "under",
    "without_whole_classes",
    "write_folder",
]
