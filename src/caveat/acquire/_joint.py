"""Draws of probabilities, checked: what the scores need that look at rows together."""

from __future__ import annotations

from torch import Tensor

from caveat._checks import describe, require_class_probabilities
from caveat._numerics import accumulator
from caveat.errors import InvalidArgumentError
from caveat.predictive import Bernoulli, Categorical, Predictive


def joint_probabilities(draws: Predictive | Tensor, name: str = "draws") -> Tensor:
    """Probabilities (S, B, C) of coherent draws, float64.

    Args:
        draws: a predictive over classes that kept its draws (``caveat.predict(..., keep=True)``), or probabilities
            (S, B, C).
        name: Name of the argument, for errors.

    Raises:
        DrawsNotKeptError: the predictive did not keep them.
        InvalidArgumentError: not (S, B, C). NotProbabilitiesError: values that do not sum to one. NotFiniteError: NaN.
    """
    if isinstance(draws, Bernoulli):
        draws = draws.binary
    if isinstance(draws, Categorical):
        draws = draws.draws
    fits = isinstance(draws, Tensor) and draws.ndim == 3 and draws.shape[0] > 0 and draws.is_floating_point()
    if not isinstance(draws, Tensor) or not fits:
        raise InvalidArgumentError(
            f"{name} must be probabilities (S, B, C), or a predictive over classes that kept its draws.",
            got=describe(draws),
            cause="mean probabilities (B, C), a regression, or pixels",
            fix="caveat.predict(sampler, x, n=100, keep=True)",
        )
    draws = draws.detach()
    require_class_probabilities(draws, name)
    return draws.to(accumulator(draws.device))
