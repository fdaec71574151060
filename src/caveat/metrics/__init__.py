"""How good predictions are: scores, calibration, rankings and referral.

Every metric takes tensors, arrays or predictives and gives one float64 number; with `weights` (R, B) it gives R
of them, from which `bootstrap` computes intervals and `referral_curve` the metric of the rows that are kept. `METRICS`
holds them by name. Higher uncertainty is less sure, and ties are handled in expectation.
"""

from caveat.metrics._bootstrap import bootstrap
from caveat.metrics._brier import BrierBins, brier_decomposition
from caveat.metrics._calibration_error import (
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)
from caveat.metrics._class_scores import accuracy, brier_score, negative_log_likelihood
from caveat.metrics._compare_measures import compare_measures
from caveat.metrics._crps import crps
from caveat.metrics._detection import (
    aupr,
    auroc,
    class_auroc,
    detection,
    fpr_at_tpr,
    out_of_distribution,
)
from caveat.metrics._intervals import interval_coverage, interval_score, mean_interval_width
from caveat.metrics._referral import (
    ReferralCurve,
    referral_curve,
    referral_with_baselines,
)
from caveat.metrics._registry import METRICS
from caveat.metrics._regression_calibration import (
    miscalibration_area,
    regression_calibration_curve,
)
from caveat.metrics._reliability import ReliabilityBins
from caveat.metrics._risk_coverage import augrc, aurc, excess_aurc, risk_coverage
from caveat.metrics._sparsification import ause, sparsification
from caveat.metrics._streaming import Collected, RunningMean
from caveat.metrics._target_scores import gaussian_negative_log_likelihood, root_mean_squared_error

__all__ = [
    "METRICS",
    "BrierBins",
    "Collected",
    "ReferralCurve",
    "ReliabilityBins",
    "RunningMean",
    "accuracy",
    "augrc",
    "aupr",
    "aurc",
    "auroc",
    "ause",
    "bootstrap",
    "brier_decomposition",
    "brier_score",
    "class_auroc",
    "compare_measures",
    "crps",
    "detection",
    "excess_aurc",
    "expected_calibration_error",
    "fpr_at_tpr",
    "gaussian_negative_log_likelihood",
    "interval_coverage",
    "interval_score",
    "maximum_calibration_error",
    "mean_interval_width",
    "miscalibration_area",
    "negative_log_likelihood",
    "out_of_distribution",
    "referral_curve",
    "referral_with_baselines",
    "regression_calibration_curve",
    "reliability_bins",
    "risk_coverage",
    "root_mean_squared_error",
    "sparsification",
]
