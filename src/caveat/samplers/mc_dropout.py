"""Monte-Carlo dropout: each draw is the network with one set of units left out.

See "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", Gal and Ghahramani, 2016.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from caveat.engine.bound import BoundNetwork
from caveat.engine.plan import Plan, check_executor, make_plan
from caveat.engine.sampler import Stream
from caveat.errors import InvalidArgument, explain
from caveat.predictive import Output, as_output
from caveat.seeds import check_seed
from caveat.stochastic.guard import state_kept
from caveat.stochastic.masks import MaskSource
from caveat.stochastic.network import Network
from caveat.stochastic.patching import patched
from caveat.stochastic.possible import check_can_vary
from caveat.stochastic.rows import Inputs, as_inputs, count_rows, first_sizes, signature, take_rows
from caveat.stochastic.sites import LivePredicate, every_site
from caveat.stochastic.study import study

Masks = Literal["shared", "per_row"]


@dataclass(frozen=True, eq=False)
class MCDropout:
    """The sampler that ``caveat.mc_dropout`` makes; see there."""

    model: nn.Module
    output: Output
    live: LivePredicate
    masks: Masks
    strata: int | None
    batch_dim: int | None
    memory: int | None
    executor: str | None
    chunk: int | None
    _plans: dict[Any, Plan] = field(default_factory=dict[Any, Plan], repr=False)

    @property
    def size(self) -> None:
        """There is no end of thinned networks."""
        return None

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Hold what is needed to draw on ``x``: see ``caveat.engine.Sampler``."""
        network = Network(self.model)
        inputs = as_inputs(x, network.device())
        with patched():
            key, plan = self._plan(network, inputs)
            inputs, numbers = _rows_of(inputs, plan, rows)

            def replan(changed: Plan) -> None:
                self._plans[key] = changed

            source = MaskSource(check_seed(seed), self.strata, network.device())
            with state_kept(network.modules, plan.study.written, random_states=plan.study.unmanaged):
                yield BoundNetwork(
                    network,
                    plan,
                    inputs,
                    numbers,
                    self.output.read,
                    source,
                    budget=self.memory,
                    gradient=gradient,
                    chunk=self.chunk,
                    replan=replan,
                )

    def _plan(self, network: Network, inputs: Inputs) -> tuple[Any, Plan]:
        """The plan for inputs of this kind, made at the first of them."""
        alone = (count_rows(inputs, self.batch_dim or 0) or 1) == 1
        autocast = torch.is_autocast_enabled(network.device().type)
        alike = (signature(inputs), alone, autocast, len(network.modules), self.batch_dim)
        exactly = (*alike, first_sizes(inputs))
        for key in (alike, exactly):
            if key in self._plans:
                return key, self._plans[key]
        found = study(network, inputs, self.live, self.masks == "per_row", self.output.read, self.batch_dim)
        key = alike if found.batch_axis == 0 else exactly  # a first axis that is not the batch is part of the sites
        self._plans[key] = make_plan(network, inputs, found, self.output.read, self.executor)
        return key, self._plans[key]


def _rows_of(inputs: Inputs, plan: Plan, rows: Tensor | None) -> tuple[Inputs, Tensor]:
    """The inputs of these rows, and the rows' numbers in the batch."""
    axis = plan.study.batch_axis
    count = count_rows(inputs, axis or 0) or 1
    if rows is None or axis is None:
        return inputs, torch.arange(count, device=plan.device)
    return take_rows(inputs, axis, rows), rows.to(plan.device)


def mc_dropout(
    model: nn.Module,
    *,
    output: Output | dict[str, Output],
    live: LivePredicate = every_site,
    masks: Masks = "shared",
    strata: int | None = None,
    batch_dim: int | None = None,
    memory: int | None = None,
    executor: str | None = None,
    chunk: int | None = None,
) -> MCDropout:
    """A sampler of thinned networks from any network with dropout: Monte-Carlo dropout.

    The model is not copied, wrapped or changed; while drawing, every live site fires whatever mode the model is in, and
    everything else behaves as in eval mode.

    Args:
        model: any network.
        output: how to read what it returns, or a dict of outputs by name for several heads.
        live: which sites fire, a predicate over (path, module): ``every_site`` (all dropout), ``named("head.*")``,
            ``dropout_modules``, ``with_stochastic_depth``, or your own.
        masks: "shared": one mask for all rows, so a draw is one function and rows are coherent; "per_row": a fresh mask
            for each row, as torch's own dropout draws.
        strata: block length K of stratified masks: over each block of K consecutive draws a unit is dropped as nearly
            its share of times as K allows. Fewer draws for the same mean where units act one by one (small MLPs);
            the draws of a block are then not independent.
        batch_dim: the axis of the inputs that is the batch; found by trial if not given.
        memory: bytes that the draws held at once may take; a quarter of what is free if not given.
        executor: "vectorised" or "replay"; chosen by trial and remembered if not given.
        chunk: how many draws to hold at once; chosen by size if not given.

    Returns:
        A sampler, for ``caveat.predict``, ``caveat.predict_batches`` and ``caveat.draws``.

    Raises:
        NothingRandom: the model has no live dropout with a rate above 0.
        InvalidRate: a live site has a rate of 1.

    See "Dropout as a Bayesian Approximation", Gal and Ghahramani, 2016, https://arxiv.org/abs/1506.02142.

    Example:
        >>> import caveat
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> sampler = caveat.mc_dropout(model, output=caveat.Logits())
        >>> caveat.predict(sampler, torch.zeros(2, 4), n=20).mean.shape
        torch.Size([2, 3])
    """
    if not isinstance(cast(Any, model), nn.Module):
        raise InvalidArgument(_not_a_module(model))
    if masks not in ("shared", "per_row"):
        raise InvalidArgument(_unknown_masks(masks))
    for name, value in (("strata", strata), ("memory", memory), ("chunk", chunk)):
        if value is not None and value < (2 if name == "strata" else 1):
            raise InvalidArgument(_too_small(name, value))
    check_can_vary(Network(model), live)
    return MCDropout(
        model, as_output(output), live, masks, strata, batch_dim, memory, check_executor(executor), chunk
    )


def _not_a_module(model: object) -> str:
    return explain(
        "A model is a torch.nn.Module.",
        got=type(model).__name__,
        cause="a function, a state dict or a class was passed in place of the network",
        fix="pass the network itself; wrap a function in an nn.Module whose forward calls it",
    )


def _unknown_masks(masks: object) -> str:
    return explain(
        'masks must be "shared" or "per_row".',
        got=f"masks={masks!r}",
        cause="a typing error",
        fix='leave it out for "shared": one mask for all rows, so that a draw is one function',
    )


def _too_small(name: str, value: int) -> str:
    return explain(
        f"{name} must be {'at least 2' if name == 'strata' else 'at least 1'}.",
        got=f"{name}={value}",
        cause="a computed size that came out as nothing",
        fix=f"leave {name} out for the default",
    )
