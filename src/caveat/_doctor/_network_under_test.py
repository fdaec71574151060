"""The network that is examined, and what is known of it: its sites, its outputs in eval mode, and caveat's draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from caveat._doctor._firing import Firing, Place, firing_of, places_of
from caveat._doctor._reading import leaves_of
from caveat._doctor._runs import PASSES, Run, everything_kept, in_eval, run_way
from caveat._doctor._watch import count_entries
from caveat._engine import draws
from caveat._inputs import Inputs, as_inputs
from caveat._intercept import (
    Audit,
    LivePredicate,
    Network,
    Probe,
    all_dropout,
    audit_of,
    check_initialized,
    nothing_random,
    probe_network,
    why_silent,
    with_stochastic_depth,
)
from caveat.errors import CaveatError, InvalidArgumentError, explain_no_run
from caveat.predictive import Mean
from caveat.samplers import MCDropout, mc_dropout


@dataclass(frozen=True)
class Examined:
    """A network, a batch, and what is known of them before any recipe runs.

    ``leaves`` are the floating-point tensors that the network returns in eval mode, ``rest`` a watched run of it.
    """

    network: Network
    x: Any
    inputs: Inputs
    live: LivePredicate
    in_dims: Any
    probe: Probe
    audit: Audit
    places: list[Place]
    leaves: list[Tensor]
    rest: Run
    entries: int
    seed: int

    @property
    def rows(self) -> int:
        """The number of rows that the batch has; 1 where it cannot be told."""
        return max(self.probe.rows, 1)

    def firing(self, run: Run) -> Firing:
        """What a watched run fired."""
        passes = len(run.outputs) if run.outputs is not None else PASSES
        return firing_of(self.places, run.seen, self.entries, self.rows, passes)

    def paths(self) -> list[str]:
        """The modules that own sites which should fire, each once."""
        return list(dict.fromkeys(place.site.path for place in self.places if place.expected))

    def sampler(self, leaf: int, masks: Any, only: Callable[[str], bool] | None = None) -> MCDropout[Any]:
        """Caveat's sampler of one of the network's tensors; ``only`` chooses among the modules by path."""
        live: LivePredicate = self.live if only is None else lambda path, module: only(path)
        masks = masks if self.probe.separable else "per_row"  # rows are not told apart, which the notes say once
        output = Mean(select=lambda returned: leaves_of(returned)[leaf])
        return mc_dropout(self.network.model, output=output, live=live, masks=masks, in_dims=self.in_dims)

    def draws(self, leaf: int, n: int, masks: str = "per_row", only: Callable[[str], bool] | None = None) -> Tensor:
        """Caveat's draws of one of the network's tensors, (n, B, ...); all alike where ``only`` leaves none."""
        if only is not None and not any(only(path) for path in {place.site.path for place in self.places}):
            return self.leaves[leaf].expand(n, *self.leaves[leaf].shape)
        with torch.no_grad():
            found = draws(self.sampler(leaf, masks, only), self.x, n, seed=self.seed)
        assert isinstance(found, Tensor)
        return found.cpu()

    def seconds_per_draw(self, leaf: int, n: int) -> float:
        """The median time of one of n draws."""
        sampler, seconds = self.sampler(leaf, "shared"), list[float]()
        for _ in range(4):
            start = perf_counter()
            with torch.no_grad():
                draws(sampler, self.x, n, seed=self.seed)
            seconds.append((perf_counter() - start) / n)
        return median(seconds[1:])  # the first looks at the network


def look_at(model: Any, x: Any, live: LivePredicate, in_dims: Any, seed: int) -> Examined:
    """Runs a network in eval mode and finds its sites.

    Raises:
        InvalidArgumentError: the network does not run on the batch, or returns no floating-point tensor.
        NothingRandomError: it has no site that could fire.
    """
    network = Network(model)
    check_initialized(network)
    inputs = as_inputs(x, network.device())
    leaves = _eval_outputs(network, inputs)
    probe = _probe(network, inputs, live, in_dims)
    audit = audit_of(network, probe)
    if not audit.live:
        listed = "; ".join(why_silent(network)) or f"{len(audit)} sites, none of them live"
        raise nothing_random(listed)
    rest = run_way(network.model, inputs, in_eval, seed=seed, draws=False)
    branches = _branches(network, probe, inputs, in_dims) if live is all_dropout else []
    places = [*places_of(audit, probe), *branches]
    return Examined(
        network, x, inputs, live, in_dims, probe, audit, places, leaves, rest, count_entries(inputs), seed
    )


def _probe(network: Network, inputs: Inputs, live: LivePredicate, in_dims: Any) -> Probe:
    return probe_network(network, inputs, live, True, lambda returned: returned, in_dims)


def _branches(network: Network, probe: Probe, inputs: Inputs, in_dims: Any) -> list[Place]:
    """Stochastic depth that the audit leaves off: the sites that are there only if it is asked for."""
    known = Counter((seen.key.path, seen.mask_shape) for seen in probe.observed)
    network.live.clear()
    asked = _probe(network, inputs, with_stochastic_depth, in_dims)
    network.live.clear()
    found = list[Place]()
    for site, seen in zip(audit_of(network, asked).sites, asked.observed, strict=False):
        if known[seen.key.path, seen.mask_shape] > 0:
            known[seen.key.path, seen.mask_shape] -= 1
        elif seen.live:
            branch = replace(site, kind="stochastic depth", live=False, passed_by="")
            found.append(Place(branch, prod(seen.mask_shape) if seen.mask_shape else None))
    return found


def _eval_outputs(network: Network, inputs: Inputs) -> list[Tensor]:
    args, kwargs = inputs
    try:
        with everything_kept(network.model, inputs), torch.no_grad():
            network.model.eval()
            leaves = [leaf.detach().cpu() for leaf in leaves_of(network.model(*args, **kwargs))]
    except CaveatError:
        raise
    except Exception as error:
        raise InvalidArgumentError(explain_no_run(error)) from error
    if not leaves:
        got, fix = "none", "wrap the network in a module that returns its scores"
        raise InvalidArgumentError("The network must return floating-point numbers.", got=got, fix=fix)
    return leaves
