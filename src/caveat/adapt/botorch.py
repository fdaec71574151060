"""Any sampler as a BoTorch model, so that its acquisition functions choose where to look next.

BoTorch asks a model for a posterior at (b, q, d) points: b sets of q points that are judged together. Here that is S
functions of the sampler evaluated at all of them, each draw one function for every point of every set. A sample is one
of these functions, chosen by a number of the MC sampler's; the same number means the same function in every set.
Observations are conditioned on by weighing the functions by how likely they make what was seen.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

import caveat.extras as extras
from caveat.engine import Sampler, draws
from caveat.errors import InvalidArgument, OutputMismatch, explain
from caveat.predictive import Mean, MeanAndLogVariance, MeanAndVariance
from caveat.seeds import check_seed
from caveat.shapes import describe


class Functions(NamedTuple):
    """Functions of a sampler at some points.

    Fields:
        values: (b, S, q, m).
        noise: the variance of an observation about each, broadcast to that.
    """

    values: Tensor
    noise: Tensor


def botorch_model(sampler: Sampler, *, n: int | None = None, seed: int = 0, outputs: int = 1) -> Any:
    """A ``botorch.models.model.Model`` of ``n`` functions of a sampler, for every acquisition function that asks it
    for samples or for means and variances.

    Expected improvement and its kin (analytic, ``qLogExpectedImprovement``, ``qLogNoisyExpectedImprovement``), upper
    confidence bounds, ``MaxPosteriorSampling`` and the knowledge gradient work, with gradients for ``optimize_acqf``.
    Those that need a joint Gaussian (max-value and joint entropy search, pathwise Thompson sampling) do not: for
    Thompson sampling maximise ``model.function(i)``, one coherent draw.

    * ``posterior(X)``: mean and variance are those of ``caveat.predict(sampler, X, n, seed=seed)``. With
      ``observation_noise=True`` the output's noise is added to variance and samples.
    * ``condition_on_observations(X, Y)`` and ``fantasize(X, sampler)`` weigh the functions by the likelihood of Y. It
      is exact for these n functions, and only as rich: condition on a few observations, then train again.
    * ``function(i)``: draw i as a deterministic BoTorch model.

    Inputs are taken to the dtype of the network, and what comes back has the dtype of X.

    Args:
        sampler: gives numbers: its output is ``Mean``, ``MeanAndVariance`` or ``MeanAndLogVariance``.
        n: how many functions S; 64, or all that the sampler has, if not given. More give smoother acquisition surfaces.
        seed: of the draws: the same functions at every call.
        outputs: how many targets m each function has.

    Returns:
        The model. ``posterior(X)`` takes X (b, q, d) or (q, d) and gives (b, q, m).

    Raises:
        MissingExtra: BoTorch is not installed.
        InvalidArgument: n or outputs below 1, or n more than the sampler has.
        OutputMismatch: the sampler gives classes; or, at the first posterior, another number of outputs.

    See "BoTorch: A Framework for Efficient Monte-Carlo Bayesian Optimization", Balandat, Karrer, Jiang, Daulton,
    Letham, Wilson and Bakshy, 2020, https://arxiv.org/abs/1910.06403.
    """
    check_seed(seed)
    if not isinstance(sampler.output, (Mean, MeanAndVariance, MeanAndLogVariance)):
        raise OutputMismatch(
            explain(
                "Bayesian optimisation is about numbers: a sampler with output Mean, MeanAndVariance or "
                "MeanAndLogVariance.",
                got=repr(sampler.output),
                cause="a classifier",
                fix="train a regression on the score itself, output=caveat.Mean()",
            )
        )
    count = n if n is not None else sampler.size or 64
    for name, value in (("n", count), ("outputs", outputs)):
        if isinstance(cast(Any, value), bool) or not isinstance(cast(Any, value), int) or value < 1:
            raise InvalidArgument(_wrong_count(f"{name} is a positive integer.", f"{name}={value!r}"))
    if sampler.size is not None and count > sampler.size:
        raise InvalidArgument(_wrong_count(f"There are {sampler.size} functions.", f"n={count}"))
    return _classes()[0](sampler, count, seed, outputs, None)


def functions_at(sampler: Sampler, x: Tensor, draw: range, seed: int) -> Functions:
    """Some functions of a sampler at points (b, q, d), with the graph where ``x`` has one: (b, S, q, m)."""
    if x.ndim < 2 or not x.is_floating_point() or x.shape[-1] == 0:
        raise InvalidArgument(
            explain(
                "Points are (b, q, d): b sets of q points of d numbers.",
                got=describe(x),
                cause="a single point without its axes",
                fix="x[None, None]",
            )
        )
    rows = x.reshape(-1, x.shape[-1]).to(_dtype(sampler, x.dtype))
    gradient = torch.is_grad_enabled() and x.requires_grad
    if draw.start == 0:
        found = draws(sampler, rows, len(draw), seed=seed, gradient=gradient)
    else:
        with sampler.bind(rows, seed, gradient=gradient) as stream:
            found = torch.cat([cast(Tensor, piece).clone() for piece in stream(draw)])
    found = cast(Tensor, found).to(x.dtype)
    means, noise = _read(sampler.output, found)
    shape = (len(draw), *x.shape[:-1], -1)
    return Functions(means.reshape(shape).movedim(0, -3), noise.reshape(shape).movedim(0, -3))


def weighted_moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the functions (b, S, q, m), given weights (b, S) that sum to one: (b, q, m) each.

    The variance is sum w (v - mean)^2 / (1 - sum w^2), which is the unbiased one where all weights are alike; 0 for a
    single function.
    """
    weights = weights[..., None, None]
    mean = (weights * values).sum(-3)
    spread = (weights * (values - mean[..., None, :, :]).square()).sum(-3)
    left = 1 - weights.square().sum(-3)
    return mean, torch.where(left > 1e-12, spread / left.clamp(min=1e-12), torch.zeros_like(spread))


def chosen_functions(uniform: Tensor, weights: Tensor) -> Tensor:
    """Which function a number in (0, 1) means: int64 of the shape of ``uniform`` (samples, b), weights (b, S)."""
    steps = weights.cumsum(-1)
    return (uniform[..., None] > steps).sum(-1).clamp(max=weights.shape[-1] - 1)


def log_likelihood(functions: Functions, y: Tensor) -> Tensor:
    """The log density (nats) of observations (f, b, q, m) under each function: (f, b, S)."""
    if not bool((functions.noise > 0).all()):
        raise InvalidArgument(
            explain(
                "Conditioning needs noise: without it no function agrees with what was observed.",
                got="a noise variance of 0",
                cause="output=caveat.Mean()",
                fix="output=caveat.Mean(noise_variance=0.01), in the unit of the target squared",
            )
        )
    away = (y[..., None, :, :] - functions.values).square() / functions.noise
    density = -0.5 * (away + functions.noise.log() + math.log(2 * math.pi))
    return density.sum((-2, -1))


@functools.cache
def _classes() -> tuple[Any, Any]:
    """The model and its posterior, as subclasses of BoTorch's own: the one way in that it has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # linear_operator scripts with TorchScript on import
        extras.require("botorch", "botorch")
        from botorch.acquisition.objective import ScalarizedPosteriorTransform
        from botorch.models.deterministic import GenericDeterministicModel
        from botorch.models.model import Model
        from botorch.posteriors.posterior import Posterior
        from botorch.sampling.get_sampler import GetSampler
        from botorch.sampling.normal import SobolQMCNormalSampler
    base_model, base_posterior = cast(Any, Model), cast(Any, Posterior)

    class FunctionsPosterior(base_posterior):
        """S weighted functions at (b, q, d) points; a sample is one of them, the same at all points."""

        def __init__(self, functions: Functions, log_weights: Tensor | None, noisy: bool) -> None:
            values, noise = functions
            if log_weights is None:
                log_weights = values.new_zeros(values.shape[-3])
            sets = cast("tuple[int, ...]", torch.broadcast_shapes(values.shape[:-3], log_weights.shape[:-1]))
            self.values = values.expand(*sets, *values.shape[-3:])
            self.noise = noise.expand_as(values).expand_as(self.values) if noisy else None
            self.weights = log_weights.softmax(-1).expand(*sets, values.shape[-3])

        @property
        def device(self) -> torch.device:
            return self.values.device

        @property
        def dtype(self) -> torch.dtype:
            return self.values.dtype

        @property
        def batch_shape(self) -> torch.Size:
            return self.values.shape[:-3]

        @property
        def base_sample_shape(self) -> torch.Size:
            """One number for the function, and with noise one for each point and output."""
            *sets, _, q, m = self.values.shape
            return torch.Size([*sets, 1 if self.noise is None else 1 + q * m])

        @property
        def batch_range(self) -> tuple[int, int]:
            return (0, -1)

        @property
        def mean(self) -> Tensor:
            return weighted_moments(self.values, self.weights)[0]

        @property
        def variance(self) -> Tensor:
            found = weighted_moments(self.values, self.weights)[1]
            if self.noise is None:
                return found
            return found + weighted_moments(self.noise, self.weights)[0]

        def _extended_shape(self, sample_shape: torch.Size = torch.Size()) -> torch.Size:  # noqa: B008 - BoTorch's own
            return torch.Size([*sample_shape, *self.batch_shape, *self.values.shape[-2:]])

        def rsample(self, sample_shape: torch.Size | None = None) -> Tensor:
            """Samples from torch's own random state, as every posterior of BoTorch; a function for each sample."""
            shape = torch.Size([1]) if sample_shape is None else torch.Size(sample_shape)
            base = torch.Size([*([1] * len(self.batch_shape)), self.base_sample_shape[-1]])
            normal = torch.randn(*shape, *base, device=self.device, dtype=self.dtype)
            return self.rsample_from_base_samples(shape, normal.expand(*shape, *self.base_sample_shape))

        def rsample_from_base_samples(self, sample_shape: torch.Size, base_samples: Tensor) -> Tensor:
            uniform = cast(Tensor, torch.special.ndtr(base_samples[..., 0]))
            index = chosen_functions(uniform, self.weights)
            found = self._taken(self.values, index)
            if self.noise is None:
                return found
            apart = base_samples[..., 1:].reshape(found.shape)
            return found + self._taken(self.noise, index).sqrt() * apart

        def _taken(self, values: Tensor, index: Tensor) -> Tensor:
            """The functions ``index`` (samples, b) of values (b, S, q, m): (samples, b, q, m)."""
            flat = values.reshape(-1, *values.shape[-3:])
            sets = torch.arange(len(flat), device=index.device)
            samples = index.shape[: index.ndim - len(self.batch_shape)]
            return flat[sets, index.reshape(*samples, -1)].reshape(self._extended_shape(samples))

    class SamplerModel(base_model):
        """A sampler as a BoTorch model; made by ``caveat.adapt.botorch_model``."""

        def __init__(
            self, sampler: Sampler, count: int, seed: int, outputs: int, log_weights: Tensor | None
        ) -> None:
            super().__init__()
            self.caveat_sampler, self.count, self.seed, self._outputs = sampler, count, seed, outputs
            self.log_weights = log_weights

        @property
        def num_outputs(self) -> int:
            return self._outputs

        @property
        def batch_shape(self) -> torch.Size:
            return torch.Size() if self.log_weights is None else self.log_weights.shape[:-1]

        def posterior(
            self,
            X: Tensor,
            output_indices: list[int] | None = None,
            observation_noise: bool | Tensor = False,
            posterior_transform: Any = None,
            **_: Any,
        ) -> Any:
            values, noise = self._functions(X)
            if isinstance(observation_noise, Tensor):
                noise = observation_noise[..., None, :, :].expand_as(values)
            if output_indices is not None:
                values, noise = values[..., output_indices], noise[..., output_indices]
            if isinstance(posterior_transform, ScalarizedPosteriorTransform):
                values, noise = _scalarised(values, noise, posterior_transform)
                posterior_transform = None
            noisy = isinstance(observation_noise, Tensor) or observation_noise
            found = FunctionsPosterior(Functions(values, noise), self.log_weights, noisy)
            return found if posterior_transform is None else posterior_transform(posterior=found, X=X)

        def condition_on_observations(self, X: Tensor, Y: Tensor, noise: Tensor | None = None, **_: Any) -> Any:
            """The same functions, weighed by the likelihood of Y (f, b, q, m) at X (b, q, d); noise is a variance."""
            functions = self._functions(X)
            if noise is not None:
                functions = Functions(functions.values, noise[..., None, :, :])
            added = log_likelihood(functions, Y)
            kept = added if self.log_weights is None else self.log_weights + added
            return SamplerModel(self.caveat_sampler, self.count, self.seed, self._outputs, kept)

        def fantasize(self, X: Tensor, sampler: Any, observation_noise: Tensor | None = None, **_: Any) -> Any:
            """Condition on observations at X that the model itself makes up, one for each sample of ``sampler``."""
            seen = self.posterior(X, observation_noise=True if observation_noise is None else observation_noise)
            return self.condition_on_observations(X, sampler(seen), noise=observation_noise)

        def function(self, index: int) -> Any:
            """Draw ``index`` as a deterministic model: maximise it for Thompson sampling."""
            if not 0 <= index < self.count:
                raise InvalidArgument(_wrong_count(f"Functions are 0 to {self.count - 1}.", f"index={index}"))
            return GenericDeterministicModel(
                lambda X: self._functions(X, range(index, index + 1)).values[..., 0, :, :], self._outputs
            )

        def _functions(self, X: Tensor, which: range | None = None) -> Functions:
            found = functions_at(self.caveat_sampler, self.transform_inputs(X), which or range(self.count), self.seed)
            if found.values.shape[-1] != self._outputs:
                got = f"outputs={self._outputs}, and the sampler gives {found.values.shape[-1]}"
                raise OutputMismatch(_wrong_count("outputs is the number of targets of each function.", got))
            return found

    def of_functions(posterior: Any, sample_shape: torch.Size, seed: int | None = None) -> Any:
        return SobolQMCNormalSampler(sample_shape=sample_shape, seed=seed)

    GetSampler.add((FunctionsPosterior,), of_functions)
    return SamplerModel, FunctionsPosterior


def _scalarised(values: Tensor, noise: Tensor, transform: Any) -> tuple[Tensor, Tensor]:
    """One weighted sum of the outputs and its noise, (b, S, q, 1) each."""
    weights = cast(Tensor, transform.weights).to(values)
    return (values @ weights)[..., None] + transform.offset, (noise.expand_as(values) @ weights.square())[..., None]


def _read(output: Any, found: Tensor) -> tuple[Tensor, Tensor]:
    """Means and noise variances (S, B, m) of what the functions return."""
    if isinstance(output, Mean):
        return found, torch.full_like(found, output.noise_variance)
    means, second = found.unbind(-1)
    return means, second.exp() if isinstance(output, MeanAndLogVariance) else second


def _dtype(sampler: Any, otherwise: torch.dtype) -> torch.dtype:
    """That of the first weights of the sampler's network, where it shows one."""
    parts = getattr(sampler, "samplers", None)
    model = getattr(parts[0] if parts else sampler, "model", None)
    if not isinstance(model, torch.nn.Module):
        return otherwise
    return next((weights.dtype for weights in model.parameters() if weights.is_floating_point()), otherwise)


def _wrong_count(rule: str, got: str) -> str:
    return explain(rule, got=got, cause="a typing error", fix="botorch_model(sampler, n=64, outputs=1)")
