"""Uncertainty of a mixture in two layers: within its components, and between them.

For an ensemble of MC-dropout networks: what each network does not know by its own dropout, and what the networks
disagree about.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, overload

import torch
from torch import Tensor

from caveat._engine import check_draws, summarized
from caveat._measure_kinds import classes_of
from caveat._numerics import Moments, entropy
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError
from caveat.predictive import Bernoulli, Categorical, Gaussian, Heads, Predictive
from caveat.samplers._mixture import Mixture


@overload
def decompose_mixture(
    sampler: Mixture[Categorical | Bernoulli | Gaussian], x: Any, n: int | None = None, *, seed: int = 0
) -> dict[str, Tensor]: ...
@overload
def decompose_mixture(sampler: Mixture, x: Any, n: int | None = None, *, seed: int = 0) -> dict[str, Any]: ...
def decompose_mixture(sampler: Mixture, x: Any, n: int | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Returns the epistemic uncertainty of a mixture: in total, within its components, and between them.

    Classification: total mutual information = mean over components of each one's mutual information (within) + mutual
    information of answer and component (between), (B...) in nats. Regression: the law of total variance for the draws'
    means, (B..., D) in squared target units. Variances here divide by the number of draws, not by one less: only so do
    the parts add up exactly. Aleatoric uncertainty is in neither; ``caveat.decompose`` tells it.

    Args:
        sampler: Mixture of K components, as ``caveat.mixture`` returns it.
        x: Batch, as for ``caveat.predict``.
        n: Number of draws, a multiple of K, so that every component has as many; 100 rounded up if not given.
        seed: Random seed for the draws; with the same, ``caveat.predict`` summarizes the same draws.

    Returns:
        {"total", "within", "between"}; a dict of such by name for several heads.

    Raises:
        InvalidArgumentError: not a mixture, or n is not a multiple of its components.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> networks = [nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3)) for _ in range(3)]
        >>> both = caveat.samplers.mixture([caveat.mc_dropout(network, output=caveat.Logits()) for network in networks])
        >>> parts = decompose_mixture(both, torch.randn(2, 4), n=30)
        >>> torch.allclose(parts["total"], parts["within"] + parts["between"])
        True
    """
    each = _draws_each(sampler, n)
    parts = list[Predictive]()
    for number, component in enumerate(sampler.samplers):
        with component.bind(x, sampler.seed_of(number, check_seed(seed))) as stream:
            parts.append(summarized(stream(range(each)), component.output, each, keep=False, block=None))
    return _parts(parts)


def _draws_each(sampler: Mixture, n: int | None) -> int:
    if not isinstance(sampler, Mixture):
        raise InvalidArgumentError(
            "Only a mixture has two layers of uncertainty.",
            got=type(sampler).__name__,
            cause="an ensemble or MC dropout was passed, which has one layer only",
            fix="decompose_mixture(caveat.mixture([a, b]), x); caveat.decompose(pred) for one layer",
        )
    components = len(sampler.samplers)
    count = check_draws(n, sampler)
    if n is None and count % components:
        count += components - count % components
    if count % components:
        raise InvalidArgumentError(
            "n must be a multiple of the number of components: they have equal weights.",
            got=f"n={n} for {components} components",
            cause="a number of draws chosen for another ensemble",
            fix=f"pass n={count + components - count % components}",
        )
    return count // components


def _parts(parts: list[Predictive]) -> dict[str, Any]:
    first = parts[0]
    if isinstance(first, Heads):
        return {name: _parts([part[name] for part in parts if isinstance(part, Heads)]) for name in first}
    if isinstance(first, Gaussian):
        return _variances([part for part in parts if isinstance(part, Gaussian)])
    return _information(parts)


def _variances(parts: list[Gaussian]) -> dict[str, Any]:
    """Law of total variance: E_k Var[f | k] + Var_k E[f | k], each with the number of draws below the line."""
    means = torch.stack([part.moments.mean for part in parts])
    within = torch.stack([_population(part.moments) for part in parts]).mean(0)
    between = (means - means.mean(0)).square().mean(0)
    return _answer(within, between, parts[0].dtype)


def _population(moments: Moments) -> Tensor:
    return moments.variance * (moments.count - 1) / moments.count


def _information(parts: list[Predictive]) -> dict[str, Any]:
    """I(y; k, draw) = I(y; draw | k) + I(y; k), by the chain rule."""
    classes = [classes_of(part, "decompose_mixture") for part in parts]
    whole = reduce(lambda a, b: a.merge(b), classes)
    own = torch.stack([entropy(part.moments.mean) for part in classes])
    noise = torch.stack([part.mean_entropy for part in classes])
    within = (own - noise).clamp(min=0).mean(0)
    between = (entropy(whole.moments.mean) - own.mean(0)).clamp(min=0)
    return _answer(within, between, whole.dtype)


def _answer(within: Tensor, between: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    found = {"total": within + between, "within": within, "between": between}
    return {name: value.to(dtype) for name, value in found.items()}
