"""Draws of a decoder token by token: each draw keeps its own keys and values from step to step.

A step runs one token, at the end of a sequence. Its masks are the end of the masks that the whole sequence would have:
what grows with the sequence, at each site, is seen by looking at two lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast, final

import torch
from torch import Tensor

from caveat._engine import allowed_bytes
from caveat._extras import require
from caveat._inputs import as_inputs, map_leaves
from caveat._intercept import (
    Drawing,
    MaskSource,
    Network,
    Pass,
    Probe,
    Shape,
    SiteKey,
    Unplaced,
    as_draws,
    draws_of,
    interruptible,
    over_draws,
    patched,
    probe_network,
    state_kept,
    warnings_caught,
)
from caveat.samplers import MCDropout


@final
@dataclass
class CachedDraws:
    """The scores of the next token, from the last token and what is kept of those before; made by ``start_cache``.

    Fields:
        inputs: keyword arguments that stay: the encoder's attention mask; empty for a decoder alone.
        first: the length at which sites had the shapes in ``sites``.
        sites: for each site its shape in one row, and by how much each axis grows with a token.
        held: for some draws each, the keyword arguments with what is kept, (s, ...).
    """

    network: Network
    probe: Probe
    inputs: dict[str, Any]
    seed: int
    first: int
    sites: dict[SiteKey, tuple[tuple[int, ...], tuple[int, ...]]]
    held: list[tuple[range, dict[str, Any]]]

    @interruptible
    def score(self, sequence: Tensor) -> Tensor:
        """(S, B, V) scores of the token after ``sequence`` (B, T), of which all but the last token are kept."""
        scores = list[Tensor]()
        length = sequence.shape[1]
        kept = state_kept(self.network.modules, self.probe.written, random_states=self.probe.unmanaged)
        with warnings_caught(), patched(), kept, torch.no_grad():  # vmap warns where it has no rule and runs a loop
            for at, (draws, held) in enumerate(self.held):
                new = sequence[:, -1:] if held else sequence
                values, after = self._run(_arguments(self.inputs, new, length), held, draws, length)
                self.held[at] = draws, after
                scores.append(values)
        return torch.cat(scores)

    def _run(
        self, arguments: dict[str, Any], held: dict[str, Any], draws: range, length: int
    ) -> tuple[Tensor, dict[str, Any]]:
        def begins(site: SiteKey, shape: Shape) -> tuple[int, ...]:
            shape = (shape,) if isinstance(shape, int) else shape
            first, by = self.sites.get(site, ((), ()))
            if len(first) != len(shape):
                raise Unplaced(site)
            whole = [size + each * (length - self.first) for size, each in zip(first, by, strict=True)]
            start = tuple(a - b for a, b in zip(whole, shape, strict=True))
            if any(place < 0 or (place and not each) for place, each in zip(start, by, strict=True)):
                raise Unplaced(site)
            return start

        device = self.network.device()
        source = MaskSource(self.seed, device=device, starts=begins)
        rows = torch.arange(len(next(iter(arguments.values()))), device=device)
        # a site has other sizes at each step
        rules = replace(self.probe.rules, sizes_follow_values=True)
        with over_draws(len(draws)) as level:
            inside = map_leaves(lambda leaf: as_draws(cast(Tensor, leaf), level), ((), held))[1]
            returned = Pass(
                self.network, rules, ((), {**arguments, **inside}), Drawing(source, draws, rows, level)
            ).run()
            outside = ((), {"logits": returned.logits[:, -1], **_held_of(returned)})
            found = map_leaves(lambda leaf: draws_of(cast(Tensor, leaf), level, len(draws)), outside)[1]
        return found.pop("logits"), found


def start_cache(
    sampler: MCDropout[Any], inputs: dict[str, Any], sequence: Tensor, n: int, seed: int
) -> CachedDraws | None:
    """Keeps what there is of all tokens of ``sequence`` (B, T) but the last; None for settings that ask for more."""
    plain = sampler.masks == "shared" and sampler.strata is None and sampler.backend is None
    if not plain or sampler.in_dims is not None:
        return None
    network = Network(sampler.model)
    first = sequence.shape[1] - 1
    with patched():
        short, long = (_look(sampler, network, inputs, part) for part in (sequence[:, :-1], sequence))
    rules = short.rules
    if not short.separable or short.rows_alone or short.unmanaged or not rules.repeatable:
        return None
    shapes = {key: (site.shape, long.rules.sites[key].shape) for key, site in rules.sites.items()}
    sites = {
        key: (one, tuple(b - a for a, b in zip(one, two, strict=True)))
        for key, (one, two) in shapes.items()
        if one is not None and two is not None
    }
    at_once = allowed_bytes(network.device(), sampler.memory) // (short.row_bytes * len(sequence))
    at_once = sampler.chunk or max(1, min(n, at_once))
    held = [(range(start, min(start + at_once, n)), dict[str, Any]()) for start in range(0, n, at_once)]
    cache = CachedDraws(network, short, inputs, seed, first, sites, held)
    cache.score(sequence[:, :-1])
    return cache


def _look(sampler: MCDropout[Any], network: Network, inputs: dict[str, Any], sequence: Tensor) -> Probe:
    arguments = as_inputs(_arguments(inputs, sequence, sequence.shape[1]), network.device())
    return probe_network(network, arguments, sampler.live, False, lambda returned: returned.logits[:, -1])


def _arguments(inputs: dict[str, Any], tokens: Tensor, length: int) -> dict[str, Any]:
    """The model's keyword arguments for the ``tokens`` at the end of a sequence of some length."""
    if not inputs:
        there = torch.ones(len(tokens), length, dtype=torch.int64, device=tokens.device)
        return {"input_ids": tokens, "attention_mask": there, "use_cache": True}
    given = {name: value.to(tokens.device) for name, value in inputs.items()}
    return {"decoder_input_ids": tokens, **given, "use_cache": True}


def _held_of(returned: Any) -> dict[str, Any]:
    """What is kept of a pass: keys and values, and what the encoder gave."""
    held = {"past_key_values": returned.past_key_values}
    states = getattr(returned, "encoder_last_hidden_state", None)
    if states is None:
        return held
    output: Any = require("transformers.modeling_outputs", "encoders").BaseModelOutput
    return {**held, "encoder_outputs": output(last_hidden_state=states)}
