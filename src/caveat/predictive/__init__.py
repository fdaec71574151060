"""Outputs, which say how to read what a network returns, and predictives, which summarize its draws and merge."""

from caveat.predictive._bernoulli import Bernoulli
from caveat.predictive._categorical import Categorical
from caveat.predictive._gaussian import Gaussian
from caveat.predictive._heads import HeadOutputs, Heads
from caveat.predictive._model_precision import model_precision
from caveat.predictive._outputs import (
    BinaryLogit,
    Logits,
    Mean,
    MeanAndLogVariance,
    MeanAndVariance,
    Probabilities,
)
from caveat.predictive._protocol import Output, Predictive
from caveat.predictive._rows import concatenate

__all__ = [
    "Bernoulli",
    "BinaryLogit",
    "Categorical",
    "Gaussian",
    "HeadOutputs",
    "Heads",
    "Logits",
    "Mean",
    "MeanAndLogVariance",
    "MeanAndVariance",
    "Output",
    "Predictive",
    "Probabilities",
    "concatenate",
    "model_precision",
]
