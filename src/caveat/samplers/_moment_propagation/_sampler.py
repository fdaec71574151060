"""Moment propagation as a sampler, and as one direct answer."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._checks import require_model
from caveat._engine import P, P_co, Stream, Values, as_output, join_rows
from caveat._inputs import Inputs, as_inputs, map_tensors
from caveat._intercept import (
    Known,
    LivePredicate,
    MaskSource,
    Network,
    Probe,
    SiteKey,
    all_dropout,
    check_initialized,
    normal_from_uniform,
    nothing_random,
    patched,
    probe_network,
    state_kept,
)
from caveat._mean_field import mean_field_probabilities
from caveat._seeds import check_seed
from caveat._table_text import in_a_line
from caveat.errors import OutputMismatchError, explain
from caveat.predictive import Gaussian, Logits, Mean, MeanAndLogVariance, MeanAndVariance, Output
from caveat.samplers._moment_propagation._activations import deviation_of
from caveat.samplers._moment_propagation._covariance import WIDEST
from caveat.samplers._moment_propagation._propagation import run
from caveat.samplers._moment_propagation._uncertain import Approximation, Uncertain, plain, variance_of

_PIECE_ELEMENTS = 1 << 20
# So many covariances of one layer are held at once: 64 MB in float32, with a few copies while they are worked on.
_COVARIANCES = 1 << 24


@dataclass(frozen=True, eq=False)
class Propagated:
    """Mean and variance of what an output reads, over all the functions that dropout makes, from one pass.

    Fields:
        mean: (B..., D), or (B..., C) logits, (B..., D, 2) for an output that reads two numbers; a dict by head.
        variance: of the mean's shape, in its unit squared.
        output: the output that read it.
        approximations: the calls that were not exact, and what they took for granted; empty where all is exact.
    """

    mean: Any
    variance: Any
    output: Output
    approximations: tuple[Approximation, ...]

    def gaussian(self) -> Gaussian:
        """The predictive of a regression: exactly this mean and this variance; its standard error is NaN.

        It is the summary of two draws, mean - s and mean + s with 2 s^2 the variance, marked as one block. The noise
        of ``MeanAndLogVariance`` is the mean of a log-normal.

        Raises:
            OutputMismatchError: the output reads logits, probabilities or several heads.
        """
        if not isinstance(self.output, (Mean, MeanAndVariance, MeanAndLogVariance)):
            raise OutputMismatchError(_not_a_regression(self.output))
        mean, variance = cast(Tensor, self.mean).double(), cast(Tensor, self.variance).double()
        noise: Tensor | float
        if isinstance(self.output, Mean):
            noise = self.output.noise_variance
        else:
            (mean, second), (variance, spread) = mean.unbind(-1), variance.unbind(-1)
            of_one = (second + spread / 2).exp() if isinstance(self.output, MeanAndLogVariance) else second
            noise = torch.stack([of_one, of_one])
        half = deviation_of(variance) / 2**0.5
        summary = Gaussian.from_draws(torch.stack([mean - half, mean + half]), noise).as_block()
        dtype = torch.promote_types(cast(Tensor, self.mean).dtype, torch.float32)
        return Gaussian(summary.moments, summary.noise, dtype)

    def probabilities(self, *, factor: float = math.pi / 8) -> Tensor:
        """The expected softmax of normal logits, (B..., C), approximately: the mean-field formula.

        Args:
            factor: of softmax(logits / sqrt(1 + factor * variance)). pi / 8 matches the logistic function to the
                normal's; 0 ignores the variance.

        Raises:
            OutputMismatchError: the output reads something other than logits of classes.
            InvalidArgumentError: a negative factor.

        See "Uncertainty Estimation with Infinitesimal Jackknife, Its Distribution and Mean-Field Approximation", Lu, Ie
        and Sha, 2020; the factor is MacKay's, "The Evidence Framework Applied to Classification Networks", 1992.
        """
        if not isinstance(self.output, Logits):
            raise OutputMismatchError(_no_logits(self.output))
        return mean_field_probabilities(self.mean, self.variance, factor=factor)


@dataclass(frozen=True, eq=False, repr=False)
class MomentPropagation(Generic[P_co]):
    """The sampler that ``moments`` makes; see there."""

    model: nn.Module
    output: Output[P_co]
    live: LivePredicate = all_dropout
    in_dims: Any = None
    _studies: Known[Probe] = field(default_factory=Known[Probe], repr=False)

    __repr__ = in_a_line

    size = None
    """There is no end of draws."""
    strata = None
    """Every draw is independent."""

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Propagate once, then draw from the normals that came out: see ``caveat.samplers.Sampler``."""
        source = MaskSource(check_seed(seed), device=Network(self.model).device())
        found, probe = self.moments_of(x, rows=rows, gradient=gradient)
        yield _Normals(found, probe, source)

    def propagate(self, x: Any, *, gradient: bool = False) -> Propagated:
        """Mean and variance of what the output reads, from one pass over ``x``.

        Args:
            x: a batch of B rows: a tensor, a tuple of arguments, or a dict of keyword arguments.
            gradient: keep the graph for autograd.

        Raises:
            UnsupportedModelError: a call of the forward pass has no rule; the message names it and its module.
            NothingRandomError: no dropout reaches what is read.
            InvalidArgumentError: the batch is empty.
            NotFiniteError: only from ``gaussian()``: NaN in what the network returned.

        Example:
            >>> import caveat
            >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
            >>> found = moments(model, output=caveat.Mean()).propagate(torch.ones(2, 4))
            >>> found.mean.shape, found.variance.shape, found.approximations   # one layer behind dropout is exact
            (torch.Size([2, 1]), torch.Size([2, 1]), ())
        """
        return self.moments_of(x, gradient=gradient)[0]

    def moments_of(self, x: Any, *, rows: Tensor | None = None, gradient: bool = False) -> tuple[Propagated, Probe]:
        """Mean and variance on ``x`` or on some rows of it, and what was found about the network on the way.

        Raises:
            UnsupportedModelError: a call without a rule.
            NothingRandomError: no dropout reaches what is read.
        """
        network = Network(self.model)
        inputs = as_inputs(x, network.device())
        with patched():
            found = self._probe(network, inputs)
            if rows is not None and found.axes is not None:
                inputs = found.axes.take(inputs, rows)
            kept = state_kept(network.modules, found.written, random_states=found.unmanaged)
            with kept, torch.set_grad_enabled(gradient):
                parts = [run(network, found.rules, part, self.output.read) for part in _pieces(network, inputs, found)]
        read = [part for part, _ in parts]
        if not any(isinstance(leaf, Uncertain) for leaf in pytree.tree_leaves(read[0])):
            raise nothing_random("a forward pass in which no dropout fired that reaches what the output reads")
        axes = found.output_axes or ()
        mean, variance = (join_rows([map_tensors(of, part) for part in read], axes) for of in (plain, variance_of))
        return Propagated(mean, variance, self.output, tuple(parts[0][1].approximations)), found

    def _probe(self, network: Network, inputs: Inputs) -> Probe:
        conditions = network.conditions()
        _, known = self._studies.get(inputs, conditions)
        if known is None:
            check_initialized(network)
            known = probe_network(network, inputs, self.live, False, self.output.read, self.in_dims)
            self._studies.add(inputs, known.axes, known, conditions)
        return known


class _Normals:
    """The stream: draw i is mean + deviation * z_i, with one z for all rows."""

    def __init__(self, found: Propagated, probe: Probe, source: MaskSource) -> None:
        means, self._spec = pytree.tree_flatten(found.mean)
        deviations = [deviation_of(variance) for variance in pytree.tree_leaves(found.variance)]
        self._parts = [(m, d.to(m.dtype)) for m, d in zip(means, deviations, strict=True)]
        self._source, self._axes = source, probe.output_axes or (0,) * len(means)
        self.rows: int | None = means[0].shape[self._axes[0]] if probe.separable else None

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order."""
        largest = max(mean.numel() for mean, _ in self._parts)
        step = max(1, _PIECE_ELEMENTS // max(largest, 1))
        for start in range(draws.start, draws.stop, step):
            piece = range(start, min(start + step, draws.stop))
            yield pytree.tree_unflatten([self._of(at, piece) for at in range(len(self._parts))], self._spec)

    def _of(self, at: int, draws: range) -> Tensor:
        mean, deviation = self._parts[at]
        shape = [1 if axis == self._axes[at] else size for axis, size in enumerate(mean.shape)]
        numbers = self._source.uniform(SiteKey("moments", at), tuple(shape), draws, mean.dtype)
        return mean + deviation * normal_from_uniform(numbers).to(mean.dtype).reshape(len(draws), *shape)


def moments(
    model: nn.Module,
    *,
    output: Output[P] | dict[str, Output],
    live: LivePredicate = all_dropout,
    in_dims: Any = None,
) -> MomentPropagation[P]:
    """Moment propagation: the mean and variance that dropout brings, in one pass and without sampling.

    Every torch call of the forward pass works on (mean, variance) in place of values, so residual networks and
    functional calls go through as they are. Between linear layers the covariance of a row's units is kept (up to a
    width of 1024); elsewhere, in convolutions and residual sums, elements count as independent, and before an
    activation as normal: exact for a last layer behind dropout, else an approximation, which
    ``Propagated.approximations`` lists call by call. Covered: linear maps and convolutions, batch, layer and group
    normalization, activations, average and max pooling, sums, products, concatenation, rearrangement, and every
    dropout of ``torch.nn``.
    Attention and recurrence are not.

    As a sampler, draw i of a row is mean + deviation * z_i, with z_i standard normal from (seed, i). Each row has its
    right distribution; but all rows share z_i, so the draws say nothing of how rows vary *together*, and the
    elements of a row vary independently. For joint questions draw with ``caveat.mc_dropout``.

    Args:
        model: Network with dropout.
        output: How to read what it returns, or a dict of outputs by head.
        live: Which sites fire, as for ``caveat.mc_dropout``.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        A sampler for ``caveat.predict``, whose ``propagate(x)`` gives the mean and variance themselves.

    Raises:
        NothingRandomError: While drawing: no live dropout with a rate above 0 has run.
        InvalidArgumentError: While drawing: a live site has a rate of 1.

    See "Sampling-Free Epistemic Uncertainty Estimation Using Approximated Variance Propagation", Postels, Ferroni,
    Coskun, Navab and Tombari, 2019; "Fast Dropout Training", Wang and Manning, 2013.

    Example:
        >>> import caveat
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
        >>> sampler = moments(model, output=caveat.Mean())
        >>> caveat.predict(sampler, torch.zeros(2, 4), n=20).mean.shape
        torch.Size([2, 1])
    """
    require_model(model)
    return MomentPropagation(model, as_output(output), live, in_dims)


def _pieces(network: Network, inputs: Inputs, found: Probe) -> list[Inputs]:
    """The rows in pieces so small that the covariances of the widest layer fit the memory meant for them."""
    rows = found.rows if found.axes is None else found.axes.count(inputs) or 1
    widths = [max(part.weight.shape) for part in network.modules if isinstance(part, nn.Linear)]
    widest = max((width for width in widths if width <= WIDEST), default=1)
    at_once = max(1, _COVARIANCES // widest**2)
    if found.axes is None or found.output_axes is None or rows <= at_once:
        return [inputs]
    index = torch.arange(rows, device=network.device())
    return [found.axes.take(inputs, part) for part in cast(Any, index).split(at_once)]


def _no_logits(output: Output) -> str:
    return explain(
        "Mean-field probabilities need an output that reads class logits.",
        got=repr(output),
        cause="a regression, whose propagated moments are those of its predictive",
        fix="gaussian(), or output=caveat.Logits()",
    )


def _not_a_regression(output: Output) -> str:
    return explain(
        "A Gaussian summary needs an output that reads means.",
        got=repr(output),
        cause="a classifier, whose propagated moments are of its logits",
        fix="probabilities(), or caveat.predict(sampler, x, n=100) for entropies and mutual information",
    )
