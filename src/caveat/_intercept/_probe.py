"""Looking at a network before drawing from it: a few passes over one and two of its rows.

They find the axes of the inputs that are the batch, the sites and the reads of ``training`` that hide some, and, for
each site, the shape of its mask for one row and the way that a batch lays its rows out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._inputs import Axes, Inputs, read_in_dims
from caveat._intercept._batch_axes import choices, last_row, last_row_twice, two_rows
from caveat._intercept._bindings import attributes_kept, runs_hooks, same_values, state_kept
from caveat._intercept._company import rows_independent
from caveat._intercept._constants import find_constants
from caveat._intercept._guard import random_states_kept
from caveat._intercept._hidden import Hidden, ProbePass, drops_branches, find_hidden
from caveat._intercept._index_checks import indices_checked
from caveat._intercept._interception import Pass
from caveat._intercept._layout import find_layout
from caveat._intercept._masks import MaskSource
from caveat._intercept._multipliers import LEVELS, Followed, sites_of_masks
from caveat._intercept._network import Network, storages_of
from caveat._intercept._own_draws import run_and_put_back
from caveat._intercept._places import Places, could_be_chosen, live_observations
from caveat._intercept._random_states import devices_of, seed_all
from caveat._intercept._reads import ReadKey
from caveat._intercept._rules import Drawing, Observation, Observations, Rules
from caveat._intercept._second_row import RowTrial, second_row_is, try_draw
from caveat._intercept._sites import LivePredicate, Site, all_dropout
from caveat._intercept._streams import Streams

Reader = Callable[[Any], Any]
Following = Callable[[], Followed]


@dataclass(frozen=True)
class Probe:
    """What was found: the rules for drawing, and what an audit tells.

    ``axes`` are None where no choice of axes of the inputs behaves as a batch; then rows are never separated.
    ``row_bytes`` is the largest tensor that one row of one draw makes after the first live site; ``written`` are the
    buffers that a pass changes in spite of the interception, ``writes_weights`` says that one would change parameters;
    ``noisy`` are the modules that draw random numbers also where every read of ``training`` is False;
    ``output_axes`` are the batch axes of what is read, None where they cannot be told; ``rows_alone`` says that a batch
    cannot be told apart at some site, so that each row is evaluated by itself; ``unmanaged`` that a pass draws from
    torch's own random state.
    """

    rules: Rules
    observed: tuple[Observation, ...]
    called: frozenset[str]
    axes: Axes | None
    rows: int
    row_bytes: int
    written: tuple[Tensor, ...]
    refused: tuple[str, ...]
    output_axes: tuple[int, ...] | None = None
    rows_alone: bool = False
    unmanaged: bool = False
    writes_weights: bool = False
    noisy: frozenset[str] = frozenset()

    @property
    def moves(self) -> bool:
        """Would a plain call leave anything behind, or say something else the next time?"""
        kept_away = bool(self.written) or self.writes_weights
        return self.unmanaged or kept_away or self.rules.leaves_marks or not self.rules.repeatable

    @property
    def separable(self) -> bool:
        """Can rows be evaluated apart from the others?"""
        return self.axes is not None and self.output_axes is not None

    def with_rows_alone(self) -> Probe:
        """The same, to be drawn row by row; where rows depend on each other, all at once as an unknown batch."""
        if self.separable:
            return replace(self, rows_alone=True)
        return replace(self, rules=replace(self.rules, layout_known=False))


def probe_network(
    network: Network, inputs: Inputs, live: LivePredicate, per_row: bool, read: Reader, in_dims: Any = None
) -> Probe:
    """Looks at ``network`` on the last rows of ``inputs``.

    Args:
        network: The network.
        inputs: A batch.
        live: The predicate that says which sites are live.
        per_row: Fresh masks for each row.
        read: Takes what the network returned and gives the tensor(s) that matter.
        in_dims: The inputs' batch axes where the caller knows them, else None: they are found.
    """
    buffers = network.buffers()
    before = [buffer.clone() for buffer in buffers]
    with state_kept(network.modules, snapshot=buffers, random_states=False):  # each pass puts these back
        found = _probe(network, inputs, Rules(live, per_row), read, in_dims)
        changed = [buffer for buffer, was in zip(buffers, before, strict=True) if not same_values(buffer, was)]
    return replace(found, written=tuple(changed))


def _probe(network: Network, inputs: Inputs, rules: Rules, read: Reader, in_dims: Any) -> Probe:
    """What is found without a graph; with one where the network fails without, as it does to take a gradient."""
    said = None if in_dims is None else read_in_dims(in_dims, inputs)
    found = _on_rows(network, inputs, rules, read, said)
    if found is not None:
        return found
    try:
        return _on_whole(network, inputs, rules, read, said)
    except Exception:
        with_graph = replace(rules, gradient=True)
        found = _on_rows(network, inputs, with_graph, read, said)
        if found is not None:
            return found
        try:
            return _on_whole(network, inputs, with_graph, read, said)
        except Exception:  # the network cannot run on these inputs: what it said first matters
            pass
        raise


def _on_rows(network: Network, inputs: Inputs, rules: Rules, read: Reader, said: Axes | None) -> Probe | None:
    """What one and two rows show, with the first choice of axes that they behave as a batch along."""
    second: tuple[Axes, ProbePass, ProbePass] | None = None
    for axes in choices(inputs) if said is None else (said,):
        one = _try_rows(network, last_row(inputs, axes), axes, rules, read)
        pair = _try_rows(network, two_rows(inputs, axes), axes, rules, read) if one is not None else None
        if one is None or pair is None:
            continue
        try_on = partial(_try_rows, network, axes=axes, rules=rules, read=read)
        independent = rows_independent(inputs, axes, one, pair, try_on)
        stays = set(_output_axes(one, pair) or axes.of) <= set(axes.of)
        if said is not None or (independent and stays and not _is_broken(one)):
            return _conclude(network, inputs, rules, read, axes, one, pair, independent)
        if independent and second is None:  # rows of a weight are independent, too: a batch stays where it was
            second = axes, one, pair
    return None if second is None else _conclude(network, inputs, rules, read, *second, independent=True)


def _conclude(
    network: Network,
    inputs: Inputs,
    rules: Rules,
    read: Reader,
    axes: Axes,
    one: ProbePass,
    pair: ProbePass | None,
    independent: bool,
) -> Probe:
    def still_independent(flips: frozenset[ReadKey], alone: ProbePass) -> bool:
        both = _try_pass(network, two_rows(inputs, axes), replace(rules, flips=flips), read)
        return both is not None and second_row_is(alone.returned, both.returned)

    noisy = _noisy(one)
    hidden = _find_hidden(network, last_row(inputs, axes), rules, read, one, still_independent)
    rules = replace(rules, flips=hidden.flips)
    rules = _with_resting(network, last_row(inputs, axes), rules, read, hidden.probe.seen)
    one, twice = hidden.probe, None
    if hidden.flips:
        pair = _try_pass(network, two_rows(inputs, axes), rules, read)
    places = Places.of(one, pair)
    if places.unknown or pair is None or pair.seen.sizes_follow_values:
        twice = _try_pass(network, last_row_twice(inputs, axes), rules, read)
        places = Places.of(one, twice)
    output_axes = (_output_axes(one, pair) or _output_axes(one, twice)) if independent else None
    rules = replace(_with_sites(rules, one.seen), placed=places.placed, unbatched=frozenset(places.unbatched))
    found = Probe(
        rules=rules,
        observed=_without_tensors(one.seen, rules),
        called=frozenset(one.seen.called),
        axes=axes,
        rows=axes.count(inputs) or 1,
        row_bytes=max(one.seen.largest_after, 1),
        written=(),
        refused=hidden.refused,
        output_axes=output_axes,
        unmanaged=one.seen.unmanaged,
        writes_weights=one.seen.writes_weights,
        noisy=noisy,
    )
    trial = RowTrial(network, last_row(inputs, axes), axes, read)
    if independent and one.seen.unmanaged and not trial.agrees(rules):  # reads of training let such numbers in
        independent, found = False, replace(found, output_axes=None)
    settled = trial.settle(rules, places.undecided) if independent and not places.unknown else None
    if settled is None:
        return found.with_rows_alone()
    found = replace(found, rules=settled)
    with_rows = trial.find_rows_in(settled) if not one.seen.unmanaged else None
    if with_rows is not None:
        settled = replace(settled, unbatched=settled.unbatched - with_rows)
        return replace(found, rules=settled).with_rows_alone()
    late = one.seen.after_a_choice() & rules.sites.keys()
    unsafe = any(could_be_chosen(rules.sites[key], layout) for key, layout in places.placed.items() if key in late)
    return found.with_rows_alone() if unsafe else found


def _on_whole(network: Network, inputs: Inputs, rules: Rules, read: Reader, said: Axes | None) -> Probe:
    """What the whole batch shows, where no rows of it can be looked at alone."""
    first = _run_pass(network, inputs, rules, read)
    rows = (said.count(inputs) if said is not None else None) or 1
    hidden = _find_hidden(network, inputs, rules, read, first, lambda flips, alone: False, rows)
    seen = hidden.probe.seen
    rules = _with_resting(network, inputs, replace(rules, flips=hidden.flips, layout_known=False), read, seen)
    return Probe(
        rules=_with_sites(rules, seen),
        observed=_without_tensors(seen, rules),
        called=frozenset(seen.called),
        axes=None,
        rows=rows,
        row_bytes=max(seen.largest_after, 1),
        written=(),
        refused=hidden.refused,
        unmanaged=seen.unmanaged,
        writes_weights=seen.writes_weights,
        noisy=_noisy(first),
    )


def _noisy(probe: ProbePass) -> frozenset[str]:
    return frozenset(observation.key.path for observation in probe.seen.observed if observation.kind == "noise")


def _with_sites(rules: Rules, seen: Observations) -> Rules:
    return replace(
        rules,
        sites={s.key: Site(s.key, s.kind, s.rate, s.mask_shape) for s in live_observations(seen, rules)},
        sizes_follow_values=seen.sizes_follow_values,
        leaves_marks=seen.leaves_marks,
        hooked=seen.hooked,
        gradient=rules.gradient or seen.takes_gradient,
        writes_on_views=seen.writes_on_views,
        constants=seen.constants,
    )


def _with_resting(network: Network, inputs: Inputs, rules: Rules, read: Reader, seen: Observations) -> Rules:
    """The sites that the default predicate leaves off: those that drop whole branches."""
    if rules.live is not all_dropout:
        return rules
    off = {seen_at.key for seen_at in seen.observed if seen_at.kind != "noise" and drops_branches(seen_at)}
    if off:  # a number that is made of the data is 1 by chance: a gate that is open, attention to a single token
        weights = (*network.model.parameters(), *network.model.buffers())
        followed = _follow(network, inputs, rules, read, partial(Followed, LEVELS[1], weights))
        off &= {seen_at.key for seen_at in followed.seen.observed if seen_at.constant} if followed else off
    return replace(rules, resting=frozenset(off))


def _without_tensors(seen: Observations, rules: Rules) -> tuple[Observation, ...]:
    return tuple(
        replace(s, tensor=None, live=s.live and s.key not in rules.resting,
                kind="stochastic depth" if s.key in rules.resting else s.kind)
        for s in seen.observed
    )  # fmt: skip


# -- passes ------------------------------------------------------------------------------------------------------------


def _find_hidden(
    network: Network,
    inputs: Inputs,
    rules: Rules,
    read: Reader,
    first: ProbePass,
    independent: Callable[[frozenset[ReadKey], ProbePass], bool],
    rows: int = 1,
) -> Hidden:
    def probe(flips: frozenset[ReadKey]) -> ProbePass | None:
        trial = replace(rules, flips=flips)
        found = _try_pass(network, inputs, trial, read)
        if found is None or not any(observation.kind == "noise" for observation in found.seen.observed):
            return found
        passes = [_follow(network, inputs, trial, read, partial(Followed, level)) for level in LEVELS]
        masks = sites_of_masks([each and each.seen.followed for each in passes], len(found.seen.observed))
        for at, observation in enumerate(found.seen.observed):
            observation.masks = observation.kind != "noise" or at in masks
        return found

    def fired(flips: frozenset[ReadKey]) -> Any:
        trial = replace(rules, flips=flips, layout_known=rows == 1)
        device = network.device()
        drawing = Drawing(MaskSource(0, device=device), range(1), torch.arange(rows, device=device))
        return try_draw(network, inputs, trial, read, drawing)

    if _noisy(first):  # what is no mask before any read says True is none after it
        first = probe(rules.flips) or first
    return find_hidden(probe, first, rules.live, lambda module: network.paths[id(module)], independent, fired)


def _try_rows(network: Network, inputs: Inputs, axes: Axes, rules: Rules, read: Reader) -> ProbePass | None:
    """A pass over some rows along axes that may not be the batch."""
    with indices_checked(inputs, axes, network.device()):
        return _try_pass(network, inputs, rules, read)


def _try_pass(network: Network, inputs: Inputs, rules: Rules, read: Reader) -> ProbePass | None:
    try:
        return _run_pass(network, inputs, rules, read)
    except Exception:
        return None


def _follow(network: Network, inputs: Inputs, rules: Rules, read: Reader, following: Following) -> ProbePass | None:
    """A look that follows what the random numbers of a pass meet; None where it fails with such numbers."""
    try:
        return _run_pass(network, inputs, rules, read, following)
    except Exception:
        return None


def _run_pass(
    network: Network, inputs: Inputs, rules: Rules, read: Reader, following: Following | None = None
) -> ProbePass:
    """One look, after which the random states are as before; with numbers of its own it is the same look each time."""
    look = partial(_look, network, inputs, rules, read, following)
    found, drew = run_and_put_back(look, devices_of(network.modules))
    streams = found.seen.streams
    if drew:
        with random_states_kept(network.device()):
            seed_all(0)  # numbers that cannot be intercepted must not make two looks differ
            found = look()
        found.seen.unmanaged = True
    constants = find_constants(network, inputs, rules, streams) if streams is not None else None
    if constants:  # they are no sites, and what is made of them is known only now
        return _run_pass(network, inputs, replace(rules, constants=rules.constants | constants), read, following)
    return found


def _look(network: Network, inputs: Inputs, rules: Rules, read: Reader, following: Following | None) -> ProbePass:
    with torch.set_grad_enabled(rules.gradient), attributes_kept(network.modules) as bound:
        ctx, before = Pass(network, rules, inputs), _buffers(network)
        ctx.seen.followed = following and following()
        ctx.seen.streams, ctx.seen.constants = Streams(devices_of(network.modules)), rules.constants
        whole = ctx.run(bound)
        returned = pytree.tree_map_only(Tensor, Tensor.detach, read(whole))
        ctx.seen.hooked = runs_hooks(network.modules)
        ctx.seen.leaves_marks = any(bound.changed())
        ctx.seen.written &= {storage for _, storage in before}
        ctx.seen.written |= {storage for name, storage in before ^ _buffers(network) if (name, storage) in before}
    leaves, spec = pytree.tree_flatten(whole)
    shapes = tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in leaves)
    return ProbePass(ctx.seen, (type(whole), str(spec), shapes), returned)


def _buffers(network: Network) -> set[tuple[Any, int]]:
    """Which memory each buffer is in: a buffer that is bound anew is written as well."""
    found = set[tuple[Any, int]]()
    for module in network.modules:
        for name, buffer in vars(module).get("_buffers", {}).items():
            if isinstance(buffer, Tensor):
                found |= {((id(module), name), storage) for storage in storages_of([buffer])}
    return found


def _is_broken(probe: ProbePass) -> bool:
    """Is all that was read NaN? Then it equals anything as broken, such as attention to nothing but padding."""
    tensors = [leaf for leaf in pytree.tree_leaves(probe.returned) if isinstance(leaf, Tensor) and leaf.numel() > 0]
    return bool(tensors) and all(tensor.is_floating_point() and bool(tensor.isnan().all()) for tensor in tensors)


def _output_axes(one: ProbePass, pair: ProbePass | None) -> tuple[int, ...] | None:
    """The batch axis of each tensor that is read; with a single row no axis can be told, and none is needed."""
    if pair is None:
        return None
    axes = list[int]()
    for a, b in zip(pytree.tree_leaves(one.returned), pytree.tree_leaves(pair.returned), strict=True):
        layout = find_layout(tuple(a.shape), tuple(b.shape), 2) if isinstance(a, Tensor) else None
        if layout is None or layout.axis is None or layout.inserted:
            return None
        axes.append(layout.axis)
    return tuple(axes)
