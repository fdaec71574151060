"""What is kept of draws: outputs read a network's return, predictives summarise draws of it and merge."""

from caveat.predictive.bernoulli import Bernoulli
from caveat.predictive.categorical import Categorical
from caveat.predictive.gaussian import Gaussian
from caveat.predictive.heads import HeadOutputs, Heads, as_output
from caveat.predictive.model_precision import model_precision
from caveat.predictive.outputs import (
    BinaryLogit,
    Logits,
    Mean,
    MeanAndLogVariance,
    MeanAndVariance,
    Probabilities,
)
from caveat.predictive.protocol import Output, Predictive, RowIndex, Select
from caveat.predictive.rows import concatenate, join

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
    "RowIndex",
    "Select",
    "as_output",
    "concatenate",
    "join",
    "model_precision",
]
