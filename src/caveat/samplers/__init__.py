"""Seeded sources of network functions: dropout, several networks, weights collected in training, changed inputs."""

from caveat._engine import Sampler, Stream
from caveat.samplers._decompose_mixture import decompose_mixture
from caveat.samplers._ensemble import Ensemble, deterministic, ensemble
from caveat.samplers._gaussian_process_head import gaussian_process_head
from caveat.samplers._mc_batch_norm import mc_batch_norm
from caveat.samplers._mc_dropout import MCDropout, mc_dropout
from caveat.samplers._mixture import mixture
from caveat.samplers._moment_propagation import moments
from caveat.samplers._one_at_a_time import one_at_a_time
from caveat.samplers._snapshots import snapshots
from caveat.samplers._swag import swag
from caveat.samplers._swag_moments import SwagMoments
from caveat.samplers._test_time_augmentation import test_time_augmentation

__all__ = [
    "Ensemble",
    "MCDropout",
    "Sampler",
    "Stream",
    "SwagMoments",
    "decompose_mixture",
    "deterministic",
    "ensemble",
    "gaussian_process_head",
    "mc_batch_norm",
    "mc_dropout",
    "mixture",
    "moments",
    "one_at_a_time",
    "snapshots",
    "swag",
    "test_time_augmentation",
]
