"""One thin file for each foreign library: what it fits, as a sampler."""

from caveat.adapt.botorch import botorch_model
from caveat.adapt.gpytorch import GaussianProcess, deep_kernel, gaussian_process
from caveat.adapt.laplace import LaplacePosterior, laplace_posterior
from caveat.adapt.mapie import mapie_classifier, mapie_regressor
from caveat.adapt.torchcp import torchcp_classifier, torchcp_regressor

__all__ = [
    "GaussianProcess",
    "LaplacePosterior",
    "botorch_model",
    "deep_kernel",
    "gaussian_process",
    "laplace_posterior",
    "mapie_classifier",
    "mapie_regressor",
    "torchcp_classifier",
    "torchcp_regressor",
]
