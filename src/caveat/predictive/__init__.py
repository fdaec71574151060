"""What is kept of draws: outputs read a network's return, predictives summarize draws of it and merge."""

from caveat.predictive._bernoulli import Bernoulli
from caveat.predictive._categorical import Categorical
from caveat.predictive._gaussian import Gaussian
from caveat.predictive._heads import HeadOutputs, Heads, as_output
from caveat.predictive._model_precision import model_precision
from caveat.predictive._outputs import (
    BinaryLogit,
    Logits,
    Mean,
    MeanAndLogVariance,
    MeanAndVariance,
    Probabilities,
    add_draws,
)
from caveat.predictive._protocol import Output, P, P_co, Predictive, RowIndex, Select
from caveat.predictive._rows import concatenate, join

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
    "P",
    "P_co",
    "Predictive",
    "Probabilities",
    "RowIndex",
    "Select",
    "add_draws",
    "as_output",
    "concatenate",
    "join",
    "model_precision",
]
