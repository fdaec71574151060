"""A Laplace posterior over the weights of a trained network, fitted by laplace-torch, as a sampler of functions.

See "Laplace Redux: Effortless Bayesian Deep Learning", Daxberger, Kristiadi, Immer, Eschenhagen, Bauer and Hennig,
2021.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import caveat._extras as extras
from caveat._engine import OneByOne, Stream, Values
from caveat._inputs import Inputs, along_first, as_inputs
from caveat._seeds import check_seed, fold_in
from caveat.errors import InvalidArgumentError
from caveat.interop._around import in_eval_mode
from caveat.predictive import Logits, Mean, Output

Weights = Literal["last_layer", "all"]
Hessian = Literal["full", "kron", "diag"]


@dataclass(frozen=True, eq=False)
class LaplacePosterior:
    """A fitted Laplace posterior: a sampler of functions; made by ``laplace_posterior``.

    Fields:
        model: the network's own copy, with the weights at which the posterior was taken.
        output: How to read what it returns.
        weights: which weights are random.
        fitted: the object of laplace-torch, for what it can do besides.
    """

    model: nn.Module
    output: Output
    weights: Weights
    fitted: Any
    _last: str

    size = None
    """There is no end of functions."""
    strata = None
    """Every draw is independent."""

    def sample(self, seed: int, draw: int) -> Tensor:
        """How far draw ``draw`` lies from the trained weights, (P,): a function of (seed, draw) alone."""
        mean = cast(Tensor, self.fitted.mean)
        generator = torch.Generator(mean.device).manual_seed(fold_in(check_seed(seed), "draw", draw))
        return cast(Tensor, self.fitted.sample(1, generator=generator)).reshape(-1) - mean

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        check_seed(seed)
        inputs = as_inputs(x, next(self.model.parameters()).device)
        if rows is not None:
            inputs = along_first(inputs).take(inputs, rows)
        with in_eval_mode(self.model):
            with torch.set_grad_enabled(gradient):
                function = _last_layer(self, inputs) if self.weights == "last_layer" else _linearized(self, inputs)

            def one(draw: int) -> Values:
                with torch.set_grad_enabled(gradient):
                    return function(self.sample(seed, draw))

            yield OneByOne(one, len(_first(inputs)))


def laplace_posterior(
    model: nn.Module,
    data: tuple[Tensor, Tensor] | Iterable[Any],
    *,
    output: Logits | Mean,
    weights: Weights = "last_layer",
    hessian: Hessian = "kron",
    prior_precision: float | None = None,
    batch_size: int = 256,
) -> LaplacePosterior:
    """A Laplace posterior about the trained weights of ``model``.

    Draws of "last_layer" put sampled weights in the last layer; the rest runs once. Draws of "all" are of the
    network linearized at its weights, f(x) + J(x) (w - w*), which the curvature (a generalized Gauss-Newton matrix) is
    exact for. Either way a draw is one function for all inputs.

    Args:
        model: trained; it is copied, and left as it is.
        data: the training inputs and targets, or a ``DataLoader`` of such pairs.
        output: ``Logits()`` for classes, ``Mean(noise_variance=...)`` above 0 for a regression.
        weights: "last_layer" (the last ``Linear`` that is called) or "all".
        hessian: "full", "kron" or "diag".
        prior_precision: Prior precision of each weight; if not given, the one that maximizes the marginal likelihood.
        batch_size: rows at once, where ``data`` is a pair of tensors.

    Raises:
        MissingExtraError: laplace-torch is not installed.
        InvalidArgumentError: an output of another kind, no noise variance, or an unknown name.

    See "Improving Predictions of Bayesian Neural Nets via Local Linearization", Immer, Korzepa and Bauer, 2021.
    """
    _check(model, output, weights, hessian, prior_precision)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # its back ends script with TorchScript on import
        library = extras.require("laplace", "laplace")
        own = copy.deepcopy(model)
        classes = isinstance(output, Logits)
        settings = {} if isinstance(output, Logits) else {"sigma_noise": output.noise_variance**0.5}
        fitted = library.Laplace(
            copy.deepcopy(model),
            "classification" if classes else "regression",
            subset_of_weights=weights,
            hessian_structure=hessian,
            prior_precision=prior_precision or 1.0,
            **settings,
        )
        with torch.enable_grad():
            fitted.fit(_loader(data, batch_size))
            if prior_precision is None:
                fitted.optimize_prior_precision(method="marglik")
    last = str(getattr(fitted.model, "_last_layer_name", "")) if weights == "last_layer" else ""
    return LaplacePosterior(own, output, weights, fitted, last)


def _last_layer(posterior: LaplacePosterior, inputs: Inputs) -> Callable[[Tensor], Values]:
    layer = cast(nn.Linear, posterior.model.get_submodule(posterior._last))  # pyright: ignore[reportPrivateUsage]
    features: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    try:
        posterior.model(*inputs[0], **inputs[1])
    finally:
        hook.remove()
    split = layer.weight.numel()

    def function(deviation: Tensor) -> Values:
        weight = layer.weight + deviation[:split].reshape(layer.weight.shape)
        bias = None if layer.bias is None else layer.bias + deviation[split:]  # pyright: ignore[reportUnnecessaryComparison]
        return posterior.output.read(F.linear(features[-1], weight, bias))

    return function


def _linearized(posterior: LaplacePosterior, inputs: Inputs) -> Callable[[Tensor], Values]:
    model = posterior.model
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    start = {name: parameter.detach() for name, parameter in named.items()}

    def of(parameters: dict[str, Tensor]) -> Any:
        returned = torch.func.functional_call(model, parameters, inputs[0], inputs[1])
        return posterior.output.read(returned)

    def function(deviation: Tensor) -> Values:
        parts = cast(Any, deviation).split([parameter.numel() for parameter in start.values()])
        tangents = {name: part.reshape(start[name].shape) for (name, part) in zip(start, parts, strict=True)}
        value, change = cast(Any, torch.func.jvp)(of, (start,), (tangents,))
        return value + change

    return function


def _loader(data: Any, batch_size: int) -> Any:
    if isinstance(data, tuple):
        inputs, targets = cast("tuple[Tensor, Tensor]", data)
        return DataLoader(TensorDataset(inputs, targets), batch_size=batch_size)
    return data


def _first(inputs: Inputs) -> Tensor:
    return next(leaf for leaf in (*inputs[0], *inputs[1].values()) if isinstance(leaf, Tensor))


def _check(network: object, output: object, weights: str, hessian: str, prior_precision: float | None) -> None:
    problem = None
    if not isinstance(network, nn.Module):
        problem = ("network must be a torch.nn.Module.", type(network).__name__)
    elif not isinstance(output, (Logits, Mean)):
        problem = ("output must be Logits() or Mean(noise_variance=...).", repr(output))
    elif isinstance(output, Mean) and not output.noise_variance > 0:
        problem = ("The likelihood of a regression needs a noise variance above 0.", repr(output))
    elif weights not in ("last_layer", "all") or hessian not in ("full", "kron", "diag"):
        rule = 'weights must be "last_layer" or "all", hessian "full", "kron" or "diag".'
        problem = (rule, f"weights={weights!r}, hessian={hessian!r}")
    elif prior_precision is not None and not 0 < prior_precision < float("inf"):
        problem = ("prior_precision must be a positive number.", f"prior_precision={prior_precision!r}")
    if problem is not None:
        fix = "laplace_posterior(network, (x, y), output=caveat.Mean(noise_variance=0.1))"
        raise InvalidArgumentError(problem[0], got=problem[1], cause="settings of another method", fix=fix)
