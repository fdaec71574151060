"""Calibration: maps that are fitted to rows the network has not seen, of tensors, arrays or predictives.

Each `fit_*` returns a frozen callable with a `state()` of plain data, which `from_state` reads. Maps of classes take
logits, of every draw (S, B, C) or of the pooled predictive (B, C) as the log of its probabilities, and give
probabilities.
"""

from caveat.calibrate._affine import fit_dirichlet, fit_matrix_scaling, fit_vector_scaling
from caveat.calibrate._conformal_intervals import fit_conformal_intervals
from caveat.calibrate._conformal_scores import APS, RAPS
from caveat.calibrate._conformal_sets import fit_conformal_sets
from caveat.calibrate._one_against_rest import fit_isotonic, fit_platt
from caveat.calibrate._quantile_recalibration import fit_quantile_recalibration
from caveat.calibrate._stored import from_state
from caveat.calibrate._temperature import fit_temperature
from caveat.calibrate._variance_scaling import fit_variance_scaling

__all__ = [
    "APS",
    "RAPS",
    "fit_conformal_intervals",
    "fit_conformal_sets",
    "fit_dirichlet",
    "fit_isotonic",
    "fit_matrix_scaling",
    "fit_platt",
    "fit_quantile_recalibration",
    "fit_temperature",
    "fit_variance_scaling",
    "fit_vector_scaling",
    "from_state",
]
