"""Mean and variance through a network in one pass: dropout without sampling."""

from caveat.samplers._moment_propagation import (  # registers the rules
    _activations,
    _arithmetic,
    _average_pooling,
    _linear_maps,
    _max_pooling,
    _normalization,
    _rearranging,
)
from caveat.samplers._moment_propagation._sampler import MomentPropagation, Propagated, moments
from caveat.samplers._moment_propagation._uncertain import Approximation

__all__ = [
    "Approximation",
    "MomentPropagation",
    "Propagated",
    "moments",
]

del _activations, _arithmetic, _average_pooling, _linear_maps, _max_pooling, _normalization, _rearranging
