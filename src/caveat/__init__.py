"""caveat: honest uncertainty from any PyTorch network."""

from caveat.engine import draws, predict, predict_batches
from caveat.errors import CaveatError, NothingRandom
from caveat.measures import (
    aleatoric_variance,
    decompose,
    epistemic_variance,
    expected_entropy,
    mutual_information,
    predictive_entropy,
    total_variance,
    variation_ratio,
)
from caveat.predictive import (
    Bernoulli,
    BinaryLogit,
    Categorical,
    Gaussian,
    Heads,
    Logits,
    Mean,
    MeanAndLogVariance,
    MeanAndVariance,
    Probabilities,
    model_precision,
)
from caveat.samplers import mc_dropout
from caveat.stochastic import audit, dropout_modules, every_site, named, with_stochastic_depth

__all__ = [
    "Bernoulli",
    "BinaryLogit",
    "Categorical",
    "CaveatError",
    "Gaussian",
    "Heads",
    "Logits",
    "Mean",
    "MeanAndLogVariance",
    "MeanAndVariance",
    "NothingRandom",
    "Probabilities",
    "aleatoric_variance",
    "audit",
    "decompose",
    "draws",
    "dropout_modules",
    "epistemic_variance",
    "every_site",
    "expected_entropy",
    "mc_dropout",
    "model_precision",
    "mutual_information",
    "named",
    "predict",
    "predict_batches",
    "predictive_entropy",
    "total_variance",
    "variation_ratio",
    "with_stochastic_depth",
]
