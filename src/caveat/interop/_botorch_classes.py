"""A sampler as a model and a posterior of BoTorch, which knows them only as subclasses of its own.

Imports BoTorch, so it is imported only where that is there: ``caveat.interop.botorch_model`` does so.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import Model
from botorch.posteriors.posterior import Posterior
from botorch.sampling.get_sampler import GetSampler
from botorch.sampling.normal import SobolQMCNormalSampler
from torch import Tensor

from caveat._engine import Sampler
from caveat.errors import InvalidArgumentError, OutputMismatchError, explain
from caveat.interop._botorch_functions import (
    Functions,
    chosen_functions,
    functions_at,
    log_likelihood,
    weighted_moments,
)

_Model, _Posterior = cast(Any, Model), cast(Any, Posterior)


class FunctionsPosterior(_Posterior):
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
        """Where the functions are."""
        return self.values.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values: that of the points."""
        return self.values.dtype

    @property
    def batch_shape(self) -> torch.Size:
        """The sets of points, (b...)."""
        return self.values.shape[:-3]

    @property
    def base_sample_shape(self) -> torch.Size:
        """One number for the function, and with noise one for each point and output."""
        *sets, _, q, m = self.values.shape
        return torch.Size([*sets, 1 if self.noise is None else 1 + q * m])

    @property
    def batch_range(self) -> tuple[int, int]:
        """Which axes of base samples are sets of points: all but the last."""
        return (0, -1)

    @property
    def mean(self) -> Tensor:
        """Over the functions, (b, q, m)."""
        return weighted_moments(self.values, self.weights)[0]

    @property
    def variance(self) -> Tensor:
        """Over the functions, and of an observation where noise was asked for, (b, q, m)."""
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
        """The function that the first number of each base sample means, and noise by the others."""
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


class SamplerModel(_Model):
    """A sampler as a BoTorch model; made by ``caveat.interop.botorch_model``."""

    def __init__(
        self, sampler: Sampler, count: int, seed: int, outputs: int, log_weights: Tensor | None
    ) -> None:
        super().__init__()
        self.caveat_sampler, self.count, self.seed, self._outputs = sampler, count, seed, outputs
        self.log_weights = log_weights

    @property
    def num_outputs(self) -> int:
        """The number of targets m that each function has."""
        return self._outputs

    @property
    def batch_shape(self) -> torch.Size:
        """Sets of observations that the functions were conditioned on."""
        return torch.Size() if self.log_weights is None else self.log_weights.shape[:-1]

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Any = None,
        **_: Any,
    ) -> Any:
        """The functions at points (b, q, d), weighed by what they were conditioned on."""
        values, noise = self._functions(X)
        if isinstance(observation_noise, Tensor):
            noise = observation_noise[..., None, :, :].expand_as(values)
        if output_indices is not None:
            values, noise = values[..., output_indices], noise[..., output_indices]
        if isinstance(posterior_transform, ScalarizedPosteriorTransform):
            values, noise = _scalarized(values, noise, posterior_transform)
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
        """Draw ``index`` as a deterministic model: maximize it for Thompson sampling."""
        if not 0 <= index < self.count:
            raise InvalidArgumentError(wrong_count(f"Functions are 0 to {self.count - 1}.", f"index={index}"))
        return GenericDeterministicModel(
            lambda X: self._functions(X, range(index, index + 1)).values[..., 0, :, :], self._outputs
        )

    def _functions(self, X: Tensor, which: range | None = None) -> Functions:
        found = functions_at(self.caveat_sampler, self.transform_inputs(X), which or range(self.count), self.seed)
        if found.values.shape[-1] != self._outputs:
            got = f"outputs={self._outputs}, and the sampler gives {found.values.shape[-1]}"
            raise OutputMismatchError(wrong_count("outputs is the number of targets of each function.", got))
        return found


def _sobol(posterior: Any, sample_shape: torch.Size, seed: int | None = None) -> Any:
    return SobolQMCNormalSampler(sample_shape=sample_shape, seed=seed)


GetSampler.add((FunctionsPosterior,), _sobol)


def _scalarized(values: Tensor, noise: Tensor, transform: Any) -> tuple[Tensor, Tensor]:
    """One weighted sum of the outputs and its noise, (b, S, q, 1) each."""
    weights = cast(Tensor, transform.weights).to(values)
    return (values @ weights)[..., None] + transform.offset, (noise.expand_as(values) @ weights.square())[..., None]


def wrong_count(rule: str, got: str) -> str:
    """What a message says of a number that does not fit."""
    return explain(rule, got=got, cause="a typo", fix="botorch_model(sampler, n=64, outputs=1)")
