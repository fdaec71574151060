"""Pictures of uncertainty. Every `plot_*` draws on the axes it is given, or on a new figure's, and returns them.

No backend is chosen and nothing is shown: ``plot_reliability(p, y).figure`` shows itself in a notebook, and its
``savefig`` writes a file.
"""

from caveat.plot._animation import animate_class_histograms
from caveat.plot._curves import plot_referral, plot_risk_coverage
from caveat.plot._histograms import plot_class_histograms, plot_measure_histograms
from caveat.plot._maps import plot_decision_map, plot_uncertainty_maps
from caveat.plot._regression import plot_regression
from caveat.plot._reliability import plot_reliability
from caveat.plot._simplex import plot_simplex
from caveat.plot._under_shift import plot_under_shift

__all__ = [
    "animate_class_histograms",
    "plot_class_histograms",
    "plot_decision_map",
    "plot_measure_histograms",
    "plot_referral",
    "plot_regression",
    "plot_reliability",
    "plot_risk_coverage",
    "plot_simplex",
    "plot_uncertainty_maps",
    "plot_under_shift",
]
