"""Sources of network functions."""

from caveat.samplers.deterministic import deterministic
from caveat.samplers.ensemble import Ensemble, ensemble
from caveat.samplers.gaussian_process_head import GaussianProcessHead, gaussian_process_head
from caveat.samplers.mc_batch_norm import MCBatchNorm, mc_batch_norm
from caveat.samplers.mc_dropout import MCDropout, mc_dropout
from caveat.samplers.mixture import Mixture, mixture
from caveat.samplers.moment_propagation import (
    Approximation,
    CannotPropagate,
    MomentPropagation,
    Propagated,
    mean_field_probabilities,
    moments,
    propagate,
)
from caveat.samplers.nested import nested
from caveat.samplers.snapshots import snapshots
from caveat.samplers.swag import Swag, swag
from caveat.samplers.swag_moments import SwagMoments
from caveat.samplers.test_time import TestTime, test_time

__all__ = [
    "Approximation",
    "CannotPropagate",
    "Ensemble",
    "GaussianProcessHead",
    "MCBatchNorm",
    "MCDropout",
    "Mixture",
    "MomentPropagation",
    "Propagated",
    "Swag",
    "SwagMoments",
    "TestTime",
    "deterministic",
    "ensemble",
    "gaussian_process_head",
    "mc_batch_norm",
    "mc_dropout",
    "mean_field_probabilities",
    "mixture",
    "moments",
    "nested",
    "propagate",
    "snapshots",
    "swag",
    "test_time",
]
