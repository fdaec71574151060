"""Neural-linear: what a network makes of a context, and a Bayesian linear regression on it for each action.

The network is trained as usual; its last layer is replaced by the exact posterior of a linear regression with unknown
noise, so a draw of functions costs a matrix product.

See "Deep Bayesian Bandits Showdown", Riquelme, Tucker and Snoek, 2018, https://arxiv.org/abs/1802.09127.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from caveat._checks import require_finite, require_integer, require_number
from caveat._engine import OneByOne, Sampler, Stream
from caveat._seeds import check_seed, fold_in
from caveat.acquire._learners import Learn, warm_started
from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.predictive import Mean
from caveat.samplers import deterministic


@final
@dataclass(frozen=True)
class LinearPrior:
    """What is believed of each action's weights before any reward: normal-inverse-gamma.

    The noise variance is inverse-gamma with ``shape`` and ``scale``; given it, each weight is normal with mean 0 and
    variance noise / ``precision``. The defaults are the paper's, for rewards of the order of 1: before any reward the
    noise variance is about ``scale / (shape - 1)``.

    Raises:
        InvalidArgumentError: a number that is not above 0.
    """

    precision: float = 0.25
    shape: float = 6.0
    scale: float = 6.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require_number(value, f"prior {name}", "(0, inf)", cause="0 for 'no prior'", fix="prior_precision=0.25")


@final
@dataclass(frozen=True, eq=False)
class LinearPosterior:
    """A sampler of functions: features of a network times weights of each action, drawn from their posterior.

    Fields:
        features: the sampler of the network up to its last layer, (B, K - 1); a 1 is put beside them.
        mean: (A, K) float64, of each action's weights.
        factor: (A, K, K) float64, the lower Cholesky factor of their precision, in units of 1 / noise.
        shape: (A,) float64, of the noise variance's inverse-gamma distribution.
        scale: (A,) float64, of the same.
    """

    features: Sampler
    mean: Tensor
    factor: Tensor
    shape: Tensor
    scale: Tensor
    output: Mean = field(default_factory=Mean)

    size = None
    """There is no end of functions."""
    strata = None
    """Every draw is independent."""

    def weights(self, seed: int, draw: int) -> Tensor:
        """The weights (A, K) of one function, float64: a function of (seed, draw) alone."""
        generator = torch.Generator().manual_seed(fold_in(check_seed(seed), "draw", draw))
        standard_gamma = cast(Any, torch)._standard_gamma  # the one that takes a generator
        gamma = cast(Tensor, standard_gamma(self.shape.cpu(), generator=generator))
        normal = torch.randn(self.mean.shape, generator=generator, dtype=torch.float64).to(self.mean.device)
        deviation = (self.scale / gamma.to(self.scale.device)).sqrt()
        apart = cast(Tensor, torch.linalg.solve_triangular(self.factor.mT, normal[..., None], upper=True))
        return self.mean + deviation[:, None] * apart[..., 0]

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        check_seed(seed)
        features = _features(self.features, x, rows, gradient)  # once; then a draw is one product
        wide = _with_one(features)
        yield OneByOne(lambda draw: wide @ self.weights(seed, draw).to(features).mT, len(features))


def linear_posterior(
    features: Sampler, contexts: Any, actions: Tensor, rewards: Tensor, *, count: int, prior: LinearPrior | None = None
) -> LinearPosterior:
    """The exact posterior of a linear regression for each action, on what a network makes of the contexts.

    Args:
        features: a sampler of one function, contexts to (B, K - 1): ``caveat.samplers.deterministic(...)``.
        contexts: (N, ...), those seen.
        actions: (N,) int64, those taken.
        rewards: (N,), what they gave.
        count: Number of actions A; one that was never taken keeps its prior.
        prior: ``LinearPrior()`` if not given.

    Raises:
        OutputMismatchError: features that are not (N, K - 1). InvalidArgumentError: actions outside 0 to A - 1, or
            rewards of another length.
    """
    _check_seen(actions, rewards, count)
    prior = prior or LinearPrior()
    seen = _with_one(_features(features, contexts, None, gradient=False).double())
    taken = torch.nn.functional.one_hot(actions, count).to(seen)  # (N, A)
    wide = rewards.to(seen)
    K = seen.shape[-1]
    precision = torch.einsum("na,nk,nl->akl", taken, seen, seen) + prior.precision * torch.eye(K).to(seen)
    factor = cast(Tensor, torch.linalg.cholesky(precision))
    moment = torch.einsum("na,nk,n->ak", taken, seen, wide)
    mean = torch.cholesky_solve(moment[..., None], factor)[..., 0]
    shape = prior.shape + taken.sum(0) / 2
    # The squared error that is left, of the data and of the weights about 0: never negative but for rounding.
    left = torch.einsum("na,n->a", taken, wide.square()) - (mean * moment).sum(-1)
    return LinearPosterior(features, mean, factor, shape, prior.scale + left.clamp(min=0) / 2)


def neural_linear(
    model: nn.Sequential,
    *,
    prior_precision: float = 0.25,
    noise_shape: float = 6.0,
    noise_scale: float = 6.0,
    **settings: Any,
) -> Learn:
    """A ``learn`` for ``run_bandit`` that trains the network further, then takes the posterior of its last layer.

    Args:
        model: context to rewards (B, A); its last part is an ``nn.Linear``, whose input the regression is on.
            Dropout in it is on while training, off while acting.
        prior_precision: what is believed of each action's weights before any reward: normal, with mean 0 and variance
            noise / ``prior_precision``.
        noise_shape: Shape of the inverse-gamma prior over the noise variance.
        noise_scale: Scale of that prior; before any reward the noise variance is ``noise_scale / (noise_shape - 1)``.
            The values are the paper's, for rewards of the order of 1: scale it with rewards^2.
        settings: Other arguments of ``warm_started``.

    Raises:
        InvalidArgumentError: a network that does not end in ``nn.Linear``, or a prior that is not of numbers above 0.

    See "Deep Bayesian Bandits Showdown", Riquelme, Tucker and Snoek, 2018, https://arxiv.org/abs/1802.09127.

    Example:
        >>> from caveat.acquire import run_bandit, thompson
        >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> len(run_bandit(x, x, thompson(), neural_linear(network, epochs=2), block=10).actions)
        60
    """
    parts = list(model) if isinstance(model, nn.Sequential) else []
    if len(parts) < 2 or not isinstance(parts[-1], nn.Linear):
        raise InvalidArgumentError(
            "neural_linear takes an nn.Sequential whose last part is an nn.Linear.",
            got=type(model).__name__ + (f" that ends in {type(parts[-1]).__name__}" if parts else ""),
            cause="a network of one's own class",
            fix="nn.Sequential(body, nn.Linear(width, A))",
        )
    count = parts[-1].out_features
    prior = LinearPrior(prior_precision, noise_shape, noise_scale)
    features = _eval(nn.Sequential(*parts[:-1]))
    train = warm_started(model, _eval, **settings)

    def learn(contexts: Tensor, actions: Tensor, rewards: Tensor) -> Sampler:
        train(contexts, actions, rewards)
        return linear_posterior(features, contexts, actions, rewards, count=count, prior=prior)

    return learn


def _eval(network: Any) -> Sampler:
    return cast(Sampler, deterministic(network, output=Mean()))


def _check_seen(actions: Tensor, rewards: Tensor, count: int) -> None:
    require_integer(count, "count", 1)
    fits = actions.ndim == 1 and actions.shape == rewards.shape and not actions.is_floating_point()
    if not fits or (len(actions) > 0 and not 0 <= int(actions.min()) <= int(actions.max()) < count):
        raise InvalidArgumentError(
            f"There is one action of 0 to {count - 1}, an integer, and one reward for each context.",
            got=f"actions {tuple(actions.shape)} {actions.dtype}, rewards {tuple(rewards.shape)}",
            cause="rewards of every action, or another number of actions",
            fix="actions (N,) int64, rewards (N,), count=A",
        )
    require_finite(rewards, "rewards")


def _features(sampler: Sampler, x: Any, rows: Tensor | None, gradient: bool) -> Tensor:
    with sampler.bind(x, 0, rows=rows, gradient=gradient) as stream:
        found = next(iter(stream(range(1))))
        if isinstance(found, Tensor) and found.ndim == 3:
            return found[0] if gradient else found[0].clone()
    raise OutputMismatchError(
        "The features of a context are (B, K).",
        got=f"shape {tuple(found.shape)[1:]}" if isinstance(found, Tensor) else type(found).__name__,
        cause="images or sequences before the last layer",
        fix="end the body with nn.Flatten()",
    )


def _with_one(features: Tensor) -> Tensor:
    return torch.cat((features, torch.ones_like(features[:, :1])), -1)
