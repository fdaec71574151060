"""Exact Gaussian-process regression and deep kernel learning, fitted by GPyTorch, as samplers of functions.

A draw is a function: by Matheron's rule a prior function, made of random Fourier features, plus what the data correct
it by. So draws at different inputs are coherent, whatever the batch, and the exact mean and variance are there as well.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat._extras as extras
from caveat._checks import require_integer, require_model, require_number
from caveat._engine import OneByOne, Stream
from caveat._intercept import MaskSource, SiteKey, normal_from_uniform
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError, explain
from caveat.interop._around import in_eval_mode
from caveat.predictive import Gaussian, Mean

_JITTER = 1e-6


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A fitted Gaussian process: a sampler, with its exact posterior besides; made by ``gaussian_process``.

    Everything but ``center`` and ``scale`` of the targets is in standardized units and float64.

    Fields:
        length_scales: (D,) of the squared exponential kernel.
        amplitude: the prior variance of the function.
        noise: the variance of an observation about it.
        output: ``Mean`` with that noise variance in target units, as ``caveat.predict`` summarizes draws.
        log_marginal_likelihood: of the training targets, nats for each of them, standardized.
    """

    length_scales: Tensor
    amplitude: float
    noise: float
    output: Mean
    log_marginal_likelihood: float
    model: nn.Module
    features: int
    _inputs: Tensor
    _targets: Tensor
    _factor: Tensor
    _scaling: tuple[Tensor, Tensor, Tensor, Tensor]

    size = None
    """There is no end of functions."""
    strata = None
    """Every draw is independent."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The exact mean and variance of the function, without noise, at (B, D): two of (B, 1), in target units."""
        x = _table(x, "x", self._scaling[0].shape[-1])
        with in_eval_mode(self.model), torch.no_grad():
            at = self._standardized(x)
            cross = self._kernel(at, self._inputs)
            solved = cast(Tensor, torch.linalg.solve_triangular(self._factor, cross.mT, upper=False))
            mean = cross @ torch.cholesky_solve(self._targets, self._factor)
            variance = (self.amplitude - solved.square().sum(0)).clamp(min=0)[:, None]
        _, _, center, scale = self._scaling
        return (mean * scale + center).to(x.dtype), (variance * scale.square()).to(x.dtype)

    def predictive(self, x: Tensor) -> Gaussian:
        """The exact predictive at (B, D), as ``caveat.predict`` would give of endless draws; no standard error."""
        mean, variance = (part.double() for part in self.posterior(x))
        half = (variance / 2).sqrt()
        found = Gaussian.from_draws(torch.stack([mean - half, mean + half]), self.output.noise_variance).as_block()
        return Gaussian(found.moments, found.noise, torch.promote_types(x.dtype, torch.float32))

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        x = _table(x, "x", self._scaling[0].shape[-1])
        x = x if rows is None else x[rows]
        with in_eval_mode(self.model), torch.set_grad_enabled(gradient):
            at = self._standardized(x)
            pathwise = _Pathwise(self, at, MaskSource(check_seed(seed), device=at.device))

            def one(draw: int) -> Tensor:
                with torch.set_grad_enabled(gradient):
                    return pathwise.of(range(draw, draw + 1)).to(x.dtype)

            yield OneByOne(one, len(at))

    def _standardized(self, x: Tensor) -> Tensor:
        center, scale = self._scaling[:2]
        return cast(Tensor, self.model((x.to(center) - center) / scale))

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = a / self.length_scales, b / self.length_scales
        squares = a.square().sum(-1)[:, None] + b.square().sum(-1)[None] - 2 * a @ b.mT
        return self.amplitude * torch.exp(-0.5 * squares.clamp(min=0))


class _Pathwise:
    """Functions of the posterior: f(x) = prior(x) + k(x, X) (K + noise)^-1 (y - prior(X) - noise)."""

    def __init__(self, process: GaussianProcess, at: Tensor, source: MaskSource) -> None:
        self._process, self._at, self._source = process, at, source

    def of(self, draw: range) -> Tensor:
        """The values (B, 1) of one draw, in float64."""
        p = self._process
        width, count = p._inputs.shape[-1], len(p._inputs)  # pyright: ignore[reportPrivateUsage]
        frequencies = self._normal("frequencies", width * p.features, draw).reshape(p.features, width)
        phases = self._uniform("phases", p.features, draw) * (2 * math.pi)
        weights = self._normal("weights", p.features, draw) * (2 * p.amplitude / p.features) ** 0.5
        noise = self._normal("noise", count, draw) * p.noise**0.5

        def prior(at: Tensor) -> Tensor:
            return torch.cos(F.linear(at / p.length_scales, frequencies, phases)) @ weights

        wrong = p._targets[:, 0] - prior(p._inputs) - noise  # pyright: ignore[reportPrivateUsage]
        solved = torch.cholesky_solve(wrong[:, None], p._factor)  # pyright: ignore[reportPrivateUsage]
        kernel = p._kernel(self._at, p._inputs)  # pyright: ignore[reportPrivateUsage]
        _, _, center, scale = p._scaling  # pyright: ignore[reportPrivateUsage]
        return (prior(self._at)[:, None] + kernel @ solved) * scale + center

    def _uniform(self, name: str, elements: int, draw: range) -> Tensor:
        return self._source.uniform(SiteKey(f"gaussian process {name}", 0), elements, draw, torch.float64)[0]

    def _normal(self, name: str, elements: int, draw: range) -> Tensor:
        return normal_from_uniform(self._uniform(name, elements, draw))


def gaussian_process(
    x: Tensor,
    y: Tensor,
    *,
    model: nn.Module | None = None,
    steps: int = 200,
    learning_rate: float | None = None,
    features: int = 2048,
) -> GaussianProcess:
    """Exact Gaussian-process regression: squared exponential kernel, a length scale for each input dimension.

    Inputs and targets are standardized; length scales, amplitude and noise maximize the marginal likelihood (Adam).
    Time grows with N^3: for a few thousand rows at most. With a ``model`` it is deep kernel learning: the kernel
    compares what the model makes of the inputs, and both are fitted together.

    Args:
        x: (N, D) inputs; the model gets them standardized.
        y: (N,) or (N, 1) targets.
        model: takes (B, D), returns (B, width). It is trained in place, in float64 from here on.
        steps: Number of steps of the optimizer.
        learning_rate: Learning rate of the optimizer; 0.1, or 0.01 with a model, if not given.
        features: random features of each draw's prior function. More bring the spread of draws nearer to
            the exact variance far from the data; ``posterior`` and ``predictive`` are exact whatever it is.

    Returns:
        A sampler for ``caveat.predict`` and ``caveat.draws``, with ``posterior(x)`` and ``predictive(x)``.

    Raises:
        MissingExtraError: GPyTorch is not installed.
        InvalidArgumentError: shapes that do not fit, fewer than two rows, NaN, or a model that does not return (B,
            width).

    See "Gaussian Processes for Machine Learning", Rasmussen and Williams, 2006; "Efficiently Sampling Functions from
    Gaussian Process Posteriors", Wilson, Borovitskiy, Terenin, Mostowsky and Deisenroth, 2020; "Deep Kernel Learning",
    Wilson, Hu, Salakhutdinov and Xing, 2016.
    """
    if model is None:
        return _fitted(x, y, nn.Identity(), steps, 0.1 if learning_rate is None else learning_rate, features)
    require_model(model)
    return _fitted(x, y, model.double(), steps, 0.01 if learning_rate is None else learning_rate, features)


def _fitted(x: Tensor, y: Tensor, network: nn.Module, steps: int, rate: float, features: int) -> GaussianProcess:
    gpytorch = _gpytorch()
    x = _table(x, "x").double()
    y = _targets(y, len(x)).double()
    require_integer(steps, "steps", 1)
    require_integer(features, "features", 1)
    require_number(rate, "learning_rate", "(0, inf)")
    scaling = (x.mean(0), _spread(x), y.mean(0), _spread(y))
    inputs, targets = (x - scaling[0]) / scaling[1], (y - scaling[2]) / scaling[3]
    with torch.enable_grad():
        model, likelihood, found = _optimized(gpytorch, network, inputs, targets[:, 0], steps, rate)
    with in_eval_mode(network), torch.no_grad():
        at = cast(Tensor, network(inputs))
        scales = model.covariance.base_kernel.lengthscale.detach().flatten().clone()
        amplitude, noise = float(model.covariance.outputscale), float(likelihood.noise)
        gram = amplitude * torch.exp(-0.5 * torch.cdist(at / scales, at / scales).square())
        noisy = gram + (noise + _JITTER * amplitude) * torch.eye(len(at)).to(gram)
        factor = cast(Tensor, torch.linalg.cholesky(noisy))
    output = Mean(noise_variance=noise * float(scaling[3]) ** 2)
    return GaussianProcess(scales, amplitude, noise, output, found, network, features, at, targets, factor, scaling)


def _optimized(
    gpytorch: Any, network: nn.Module, x: Tensor, y: Tensor, steps: int, rate: float
) -> tuple[Any, Any, float]:
    with torch.no_grad():
        width = _table(network(x), "what the network returns").shape[-1]
    kernels = gpytorch.kernels

    class Model(gpytorch.models.ExactGP):  # the one way in that GPyTorch has
        def __init__(self, likelihood: Any) -> None:
            super().__init__(x, y, likelihood)
            self.network, self.average = network, gpytorch.means.ZeroMean()
            self.covariance = kernels.ScaleKernel(kernels.RBFKernel(ard_num_dims=width))

        def forward(self, at: Tensor) -> Any:
            features = self.network(at)
            return gpytorch.distributions.MultivariateNormal(self.average(features), self.covariance(features))

    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=gpytorch.constraints.GreaterThan(1e-5))
    model = Model(likelihood).double()
    likelihood.double().noise = 0.1
    model.covariance.base_kernel.lengthscale = width**0.5
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -objective(model(x), y)
        loss.backward()
        optimizer.step()
    network.zero_grad()
    with torch.no_grad():
        found = float(objective(model(x), y))
    return model, likelihood, found


def _gpytorch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # linear_operator scripts with TorchScript on import
        return extras.require("gpytorch", "gp")


def _spread(values: Tensor) -> Tensor:
    spread = values.std(0)
    return torch.where(spread > 0, spread, 1.0)


def _table(x: Any, name: str, width: int | None = None) -> Tensor:
    fits = isinstance(x, Tensor) and x.ndim == 2 and len(x) > 0 and x.is_floating_point()
    if not fits or (width is not None and x.shape[-1] != width) or not bool(x.isfinite().all()):
        rule = f"{name} must be a table of finite numbers (N, {width or 'D'}) with at least one row."
        raise InvalidArgumentError(
            _wrong(rule, f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__)
        )
    return cast(Tensor, x)


def _targets(y: Any, rows: int) -> Tensor:
    fits = isinstance(y, Tensor) and tuple(y.shape) in ((rows,), (rows, 1)) and bool(y.isfinite().all())
    if not fits or rows < 2:
        got = f"shape {tuple(y.shape)} beside {rows} rows" if isinstance(y, Tensor) else type(y).__name__
        raise InvalidArgumentError(_wrong("y must be finite numbers (N,) or (N, 1) beside inputs (N, D), N >= 2.", got))
    return cast(Tensor, y).reshape(rows, 1)


def _wrong(rule: str, got: str) -> str:
    return explain(rule, got=got, cause="a missing axis, many targets, or NaN", fix="x[:, None], one model per target")
