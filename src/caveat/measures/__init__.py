"""How uncertain: pure functions of a predictive, and the dict `MEASURES` of all that rank rows, by name."""

from caveat._measure_kinds import MEASURES
from caveat.measures._by_class import entropy_by_class, mean_by_predicted_class
from caveat.measures._decompose import decompose
from caveat.measures._information import (
    expected_entropy,
    mutual_information,
    pairwise_kl,
    predictive_entropy,
)
from caveat.measures._ranking import least_confidence, margin, variation_ratio
from caveat.measures._spread import (
    aleatoric_variance,
    epistemic_variance,
    interval_width,
    max_class_variance,
    mean_standard_deviation,
    total_variance,
)

__all__ = [
    "MEASURES",
    "aleatoric_variance",
    "decompose",
    "entropy_by_class",
    "epistemic_variance",
    "expected_entropy",
    "interval_width",
    "least_confidence",
    "margin",
    "max_class_variance",
    "mean_by_predicted_class",
    "mean_standard_deviation",
    "mutual_information",
    "pairwise_kl",
    "predictive_entropy",
    "total_variance",
    "variation_ratio",
]
