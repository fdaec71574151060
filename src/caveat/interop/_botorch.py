"""Any sampler as a BoTorch model, so that its acquisition functions choose where to look next.

BoTorch asks a model for a posterior at (b, q, d) points: b sets of q points that are judged together. Here that is S
functions of the sampler evaluated at all of them, each draw one function for every point of every set. A sample is one
of these functions, chosen by a number of the MC sampler's; the same number means the same function in every set.
Observations are conditioned on by weighing the functions by how likely they make what was seen.
"""

from __future__ import annotations

import warnings
from typing import Any

import caveat._extras as extras
from caveat._checks import require_integer
from caveat._engine import Sampler
from caveat._seeds import check_seed
from caveat.errors import OutputMismatchError
from caveat.predictive import Mean, MeanAndLogVariance, MeanAndVariance


def botorch_model(sampler: Sampler, *, n: int | None = None, seed: int = 0, outputs: int = 1) -> Any:
    """A ``botorch.models.model.Model`` of ``n`` functions of a sampler, for every acquisition function that asks it
    for samples or for means and variances.

    Expected improvement and its kin (analytic, ``qLogExpectedImprovement``, ``qLogNoisyExpectedImprovement``), upper
    confidence bounds, ``MaxPosteriorSampling`` and the knowledge gradient work, with gradients for ``optimize_acqf``.
    Those that need a joint Gaussian (max-value and joint entropy search, pathwise Thompson sampling) do not: for
    Thompson sampling maximize ``model.function(i)``, one coherent draw.

    * ``posterior(X)``: mean and variance are those of ``caveat.predict(sampler, X, n, seed=seed)``. With
      ``observation_noise=True`` the output's noise is added to variance and samples.
    * ``condition_on_observations(X, Y)`` and ``fantasize(X, sampler)`` weigh the functions by the likelihood of Y. It
      is exact for these n functions, and only as rich: condition on a few observations, then train again.
    * ``function(i)``: draw i as a deterministic BoTorch model.

    Inputs are taken to the dtype of the network, and what comes back has the dtype of X.

    Args:
        sampler: gives numbers: its output is ``Mean``, ``MeanAndVariance`` or ``MeanAndLogVariance``.
        n: Number of functions S; 64, or all that the sampler has, if not given. More give a smoother acquisition.
        seed: Random seed for the draws: the same functions at every call.
        outputs: Number of targets m of each function.

    Returns:
        The model. ``posterior(X)`` takes X (b, q, d) or (q, d) and gives (b, q, m).

    Raises:
        MissingExtraError: BoTorch is not installed.
        InvalidArgumentError: n or outputs below 1, or n more than the sampler has.
        OutputMismatchError: the sampler gives classes; or, at the first posterior, another number of outputs.

    See "BoTorch: A Framework for Efficient Monte-Carlo Bayesian Optimization", Balandat, Karrer, Jiang, Daulton,
    Letham, Wilson and Bakshy, 2020, https://arxiv.org/abs/1910.06403.
    """
    check_seed(seed)
    if not isinstance(sampler.output, (Mean, MeanAndVariance, MeanAndLogVariance)):
        raise OutputMismatchError(
            "Bayesian optimization needs a regression: a sampler with output Mean, MeanAndVariance or "
            "MeanAndLogVariance.",
            got=repr(sampler.output),
            cause="a classifier",
            fix="train a regression on the score itself, output=caveat.Mean()",
        )
    count = n if n is not None else sampler.size or 64
    require_integer(count, "n", 1, sampler.size, fix="n=64, or at most the number of functions that the sampler has")
    require_integer(outputs, "outputs", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # linear_operator scripts with TorchScript on import
        extras.require("botorch", "botorch")
        from caveat.interop._botorch_classes import SamplerModel
    return SamplerModel(sampler, count, seed, outputs, None)
