"""Monte-Carlo dropout: each draw is the network with one set of units left out.

See "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", Gal and Ghahramani, 2016.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

from torch import Tensor, nn

from caveat._checks import require_choice, require_integer, require_model
from caveat._engine import (
    BACKENDS,
    Backend,
    BoundNetwork,
    P,
    P_co,
    Plan,
    Stream,
    as_output,
    is_out_of_memory,
    make_plan,
    out_of_memory,
)
from caveat._inputs import Inputs, as_inputs
from caveat._intercept import (
    Known,
    LivePredicate,
    MaskSource,
    Network,
    all_dropout,
    check_initialized,
    device_of,
    patched,
    probe_network,
    runs_hooks,
    state_kept,
    warn_not_intercepted,
    warn_not_separated,
)
from caveat._seeds import check_seed
from caveat._table_text import in_a_line
from caveat.errors import CaveatError
from caveat.predictive import Output
from caveat.samplers._kept_programs import KeptProgram, KeptPrograms, key_of
from caveat.samplers._members._as_eval import rows_of

Masks = Literal["shared", "per_row"]


@dataclass(frozen=True, eq=False, repr=False)
class MCDropout(Generic[P_co]):
    """The sampler that ``caveat.mc_dropout`` makes; see there."""

    model: nn.Module
    output: Output[P_co]
    live: LivePredicate = all_dropout
    masks: Masks = "shared"
    strata: int | None = None
    in_dims: Any = None
    memory: int | None = None
    backend: Backend = None
    chunk: int | None = None
    _plans: Known[Plan] = field(default_factory=Known[Plan], repr=False)
    _programs: KeptPrograms = field(default_factory=KeptPrograms, repr=False)

    __repr__ = in_a_line

    size = None
    """There is no end of thinned networks."""

    def bind(
        self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False
    ) -> AbstractContextManager[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        check_seed(seed)
        keeps = not gradient and rows is None and self.backend != "loop"
        device = self._programs.device() if keeps else None
        inputs: Inputs | None = None
        if device is not None:
            plain = type(x) is Tensor and x.device == device and x.numel() > 0
            inputs = None if plain else as_inputs(x, device)
            played = self._programs.take(inputs or ((x,), {}), seed, device)
            if played is not None:
                return played
        return self._bind_anew(inputs or as_inputs(x, device_of(self.model)), seed, rows, gradient, keeps)

    @contextmanager
    def _bind_anew(
        self, inputs: Inputs, seed: int, rows: Tensor | None, gradient: bool, keeps: bool
    ) -> Generator[BoundNetwork]:
        network = Network(self.model)
        device = network.device()
        source = MaskSource(seed, self.strata, device)
        key = key_of(inputs, device)[0] if keeps else None
        with patched(), self._bound(network, inputs, rows, source, gradient) as bound:
            yield bound
        chunk = bound.chunk_of_tapes
        if key is not None and chunk:
            watch = self._programs.watch_for(key, self.model, self.live, self.output)
            if watch is not None:
                kept = KeptProgram(self.model, self.output, watch, bound.plan, inputs, chunk, bound.rows, source)
                self._programs.put(key, kept)

    @contextmanager
    def _bound(
        self, network: Network, inputs: Inputs, rows: Tensor | None, source: MaskSource, gradient: bool
    ) -> Generator[BoundNetwork]:
        key, plan = self._plan(network, inputs)
        some, numbers = rows_of(inputs, plan.probe, rows, plan.device)

        def replan(changed: Plan | None) -> Plan:
            nonlocal key
            if changed is None:
                key, changed = self._new_plan(network, inputs)
            self._plans.put(key, changed)
            return changed

        with state_kept(network.modules, plan.probe.written, random_states=plan.probe.unmanaged):
            yield BoundNetwork(
                network,
                plan,
                some,
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
        key, plan = self._plans.get(inputs, network.conditions())
        if plan is None:
            return self._new_plan(network, inputs)
        if plan.probe.rules.hooked == (hooked := runs_hooks(network.modules)):
            return key, plan
        return (key, plan.with_hooks()) if hooked else self._new_plan(network, inputs)

    def _new_plan(self, network: Network, inputs: Inputs) -> tuple[Any, Plan]:
        check_initialized(network)
        try:
            found = probe_network(network, inputs, self.live, self.masks == "per_row", self.output.read, self.in_dims)
            plan = make_plan(network, inputs, found, self.output.read, self.backend)
        except Exception as error:
            if is_out_of_memory(error) and not isinstance(error, CaveatError):
                raise out_of_memory(error) from error
            raise
        if not found.separable and not found.rules.per_row:
            warn_not_separated(found.axes)
        warn_not_intercepted(found.refused)
        return self._plans.add(inputs, found.axes, plan, network.conditions()), plan


def mc_dropout(
    model: nn.Module,
    *,
    output: Output[P] | dict[str, Output],
    live: LivePredicate = all_dropout,
    masks: Masks = "shared",
    strata: int | None = None,
    in_dims: Any = None,
    memory: int | None = None,
    backend: Backend = None,
    chunk: int | None = None,
) -> MCDropout[P]:
    """A sampler of thinned networks from any network with dropout: Monte-Carlo dropout.

    The model is not copied, wrapped or changed; while drawing, every live site fires whatever mode the model is in, and
    everything else behaves as in eval mode.

    Args:
        model: Any network.
        output: How to read what it returns, or a dict of outputs by name for several heads.
        live: Which sites fire: a predicate over (path, module): ``all_dropout`` (all dropout), ``paths("head.*")``,
            ``dropout_modules``, ``with_stochastic_depth``, or your own.
        masks: "shared": one mask for all rows, so a draw is one function and rows are coherent; "per_row": a fresh mask
            for each row, as torch's own dropout draws.
        strata: Block length K of stratified masks: over each block of K consecutive draws a unit is dropped as nearly
            at its rate as K allows. Fewer draws for the same mean where units act one by one (small MLPs); the draws of
            a block are then not independent.
        in_dims: The batch axis of each input, as in ``torch.vmap``: an int for all, or a tuple, dict or tree like the
            inputs with None for what all rows share, as ``(0, None)`` for ``forward(x, shared)``. Found by trial if
            not given.
        memory: Number of bytes that the draws held at once may take; a quarter of what is free if not given.
        backend: "vectorized" (the draws of a chunk in one pass) or "loop"; chosen by a rule on sizes if not given.
        chunk: Number of draws to hold at once; chosen by size if not given.

    Returns:
        A sampler, for ``caveat.predict``, ``caveat.predict_batches`` and ``caveat.draws``.

    Raises:
        NothingRandomError: While drawing: no live dropout with a rate above 0 has run, or none reaches what is read.
        InvalidArgumentError: While drawing: a live site has a rate of 1.

    See "Dropout as a Bayesian Approximation", Gal and Ghahramani, 2016, https://arxiv.org/abs/1506.02142.

    Example:
        >>> import caveat, torch
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> sampler = caveat.mc_dropout(model, output=caveat.Logits())
        >>> caveat.predict(sampler, torch.zeros(2, 4), n=20).mean.shape
        torch.Size([2, 3])
    """
    require_model(model)
    require_choice(masks, "masks", ("shared", "per_row"))
    require_choice(backend, "backend", BACKENDS, optional=True)
    require_integer(strata, "strata", 2, optional=True)
    require_integer(memory, "memory", 1, optional=True)
    require_integer(chunk, "chunk", 1, optional=True)
    return MCDropout(model, as_output(output), live, masks, strata, in_dims, memory, backend, chunk)
