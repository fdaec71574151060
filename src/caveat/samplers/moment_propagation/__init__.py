"""Mean and variance through a network in one pass: dropout without sampling."""

from caveat.samplers.moment_propagation import (  # registers the rules
    activations,
    arithmetic,
    average_pooling,
    linear_maps,
    max_pooling,
    normalisation,
    rearranging,
)
from caveat.samplers.moment_propagation.mean_field import mean_field_probabilities
from caveat.samplers.moment_propagation.sampler import MomentPropagation, Propagated, moments, propagate
from caveat.samplers.moment_propagation.uncertain import Approximation, CannotPropagate

__all__ = [
    "Approximation",
    "CannotPropagate",
    "MomentPropagation",
    "Propagated",
    "mean_field_probabilities",
    "moments",
    "propagate",
]

del activations, arithmetic, average_pooling, linear_maps, max_pooling, normalisation, rearranging
