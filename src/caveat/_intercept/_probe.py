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
from caveat._intercept._bindings import same_values, state_kept
from caveat._intercept._company import rows_independent
from caveat._intercept._hidden import Hidden, drops_branches, find_hidden
from caveat._intercept._index_checks import indices_checked
from caveat._intercept._layout import find_layout
from caveat._intercept._looks import Looks, ProbePass, Reader
from caveat._intercept._masks import MaskSource
from caveat._intercept._multipliers import LEVELS, Followed, sites_of_masks
from caveat._intercept._network import Network
from caveat._intercept._places import Places, could_be_chosen, live_observations
from caveat._intercept._reads import ReadKey
from caveat._intercept._rules import Drawing, Observation, Observations, Rules
from caveat._intercept._second_row import RowTrial, second_row_is
from caveat._intercept._sites import LivePredicate, Site, all_dropout


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
        """Whether a plain call would leave anything behind, or say something else the next time."""
        kept_away = bool(self.written) or self.writes_weights
        return self.unmanaged or kept_away or self.rules.leaves_marks or not self.rules.repeatable

    @property
    def separable(self) -> bool:
        """Whether rows can be evaluated apart from the others."""
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
    looks = Looks(network, read)
    with state_kept(network.modules, network.buffers(), random_states=False, bound=looks.bound) as kept:
        found = _probe(looks, inputs, Rules(live, per_row), in_dims)
        changed = [buffer for buffer, was in kept if not same_values(buffer, was)]
    return replace(found, written=tuple(changed))


def _probe(looks: Looks, inputs: Inputs, rules: Rules, in_dims: Any) -> Probe:
    """What is found without a graph; with one where the network fails without, as it does to take a gradient."""
    said = None if in_dims is None else read_in_dims(in_dims, inputs)
    found, row = _on_rows(looks, inputs, rules, said)
    if found is not None:
        return found
    try:
        return _on_whole(looks, inputs, rules, said, row)
    except Exception:
        with_graph = replace(rules, gradient=True)
        found, row = _on_rows(looks, inputs, with_graph, said)
        if found is not None:
            return found
        try:
            return _on_whole(looks, inputs, with_graph, said, row)
        except Exception:  # the network cannot run on these inputs: what it said first matters
            pass
        raise


def _on_rows(looks: Looks, inputs: Inputs, rules: Rules, said: Axes | None) -> tuple[Probe | None, Inputs | None]:
    """What one and two rows show, with the first choice of axes that they behave as a batch along.

    And a row along the first axes that the network takes one and two along, whether or not they behave so.
    """
    second: tuple[Axes, ProbePass, ProbePass] | None = None
    row: Inputs | None = None
    for axes in choices(inputs) if said is None else (said,):
        one = _try_rows(looks, axes, rules, last_row(inputs, axes))
        pair = _try_rows(looks, axes, rules, two_rows(inputs, axes)) if one is not None else None
        if one is None or pair is None:
            continue
        row = row or last_row(inputs, axes)
        try_on = partial(_try_rows, looks, axes, rules)
        independent = rows_independent(inputs, axes, one, pair, try_on)
        stays = set(_output_axes(one, pair) or axes.of) <= set(axes.of)
        if said is not None or (independent and stays and not _is_broken(one)):
            return _conclude(looks, inputs, rules, axes, one, pair, independent), row
        if independent and second is None:  # rows of a weight are independent, too: a batch stays where it was
            second = axes, one, pair
    return None if second is None else _conclude(looks, inputs, rules, *second, independent=True), row


def _conclude(
    looks: Looks,
    inputs: Inputs,
    rules: Rules,
    axes: Axes,
    one: ProbePass,
    pair: ProbePass | None,
    independent: bool,
) -> Probe:
    def still_independent(flips: frozenset[ReadKey], alone: ProbePass) -> bool:
        both = looks.attempt(two_rows(inputs, axes), replace(rules, flips=flips))
        return both is not None and second_row_is(alone.returned, both.returned)

    noisy = _noisy(one)
    hidden = _find_hidden(looks, last_row(inputs, axes), rules, one, still_independent)
    rules = replace(rules, flips=hidden.flips)
    rules = _with_resting(looks, last_row(inputs, axes), rules, hidden.probe.seen)
    one, twice = hidden.probe, None
    if hidden.flips:
        pair = looks.attempt(two_rows(inputs, axes), rules)
    places = Places.of(one, pair)
    if places.unknown or pair is None or pair.seen.sizes_follow_values:
        twice = looks.attempt(last_row_twice(inputs, axes), rules)
        places = Places.of(one, twice)
    output_axes = (_output_axes(one, pair) or _output_axes(one, twice)) if independent else None
    rules = replace(_with_sites(rules, one.seen), placed=places.placed, unbatched=frozenset(places.unbatched))
    found = _probe_of(rules, hidden, noisy, axes, axes.count(inputs) or 1, output_axes)
    trial = RowTrial(looks, last_row(inputs, axes), axes)
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


def _on_whole(looks: Looks, inputs: Inputs, rules: Rules, said: Axes | None, row: Inputs | None) -> Probe:
    """What the whole batch shows, where its rows depend on each other (one is ``row``) or cannot be told apart."""
    first = looks.look(inputs, rules)
    rows = (said.count(inputs) if said is not None else None) or 1
    hidden = _find_hidden(looks, inputs, rules, first, lambda flips, alone: False, rows, row)
    seen = hidden.probe.seen
    rules = _with_resting(looks, inputs, replace(rules, flips=hidden.flips, layout_known=False), seen)
    return _probe_of(_with_sites(rules, seen), hidden, _noisy(first), None, rows)


def _probe_of(
    rules: Rules,
    hidden: Hidden,
    noisy: frozenset[str],
    axes: Axes | None,
    rows: int,
    output_axes: tuple[int, ...] | None = None,
) -> Probe:
    seen = hidden.probe.seen
    return Probe(
        rules=rules,
        observed=_without_tensors(seen, rules),
        called=frozenset(seen.called),
        axes=axes,
        rows=rows,
        row_bytes=max(seen.largest_after, 1),
        written=(),
        refused=hidden.refused,
        output_axes=output_axes,
        unmanaged=seen.unmanaged,
        writes_weights=seen.writes_weights,
        noisy=noisy,
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


def _with_resting(looks: Looks, inputs: Inputs, rules: Rules, seen: Observations) -> Rules:
    """The sites that the default predicate leaves off: those that drop whole branches."""
    if rules.live is not all_dropout:
        return rules
    off = {seen_at.key for seen_at in seen.observed if seen_at.kind != "noise" and drops_branches(seen_at)}
    if off:  # a number that is made of the data is 1 by chance: a gate that is open, attention to a single token
        weights = (*looks.network.model.parameters(), *looks.network.model.buffers())
        followed = looks.attempt(inputs, rules, partial(Followed, LEVELS[1], weights))
        off &= {seen_at.key for seen_at in followed.seen.observed if seen_at.constant} if followed else off
    return replace(rules, resting=frozenset(off))


def _without_tensors(seen: Observations, rules: Rules) -> tuple[Observation, ...]:
    return tuple(
        replace(s, tensor=None, live=s.live and s.key not in rules.resting,
                kind="stochastic depth" if s.key in rules.resting else s.kind)
        for s in seen.observed
    )  # fmt: skip


def _find_hidden(
    looks: Looks,
    inputs: Inputs,
    rules: Rules,
    first: ProbePass,
    independent: Callable[[frozenset[ReadKey], ProbePass], bool],
    rows: int = 1,
    row: Inputs | None = None,
) -> Hidden:
    def probe(flips: frozenset[ReadKey]) -> ProbePass | None:
        trial = replace(rules, flips=flips)
        found = looks.attempt(inputs, trial)
        if found is not None and row is not None:
            _note_row_shapes(found.seen, looks.attempt(row, trial))
        if found is None or not any(observation.kind == "noise" for observation in found.seen.observed):
            return found
        passes = [looks.attempt(inputs, trial, partial(Followed, level)) for level in LEVELS]
        followed = [each and each.seen.followed for each in passes]
        masks = sites_of_masks(followed, len(found.seen.observed))
        for at, observation in enumerate(found.seen.observed):
            observation.masks = observation.kind != "noise" or at in masks
            observation.decides = any(at in each.read for each in followed if each is not None)
        return found

    def fired(flips: frozenset[ReadKey]) -> Any:
        trial = replace(rules, flips=flips, layout_known=rows == 1)
        device = looks.network.device()
        drawing = Drawing(MaskSource(0, device=device), range(1), torch.arange(rows, device=device))
        return looks.draw(inputs, trial, drawing)

    if row is not None:
        _note_row_shapes(first.seen, looks.attempt(row, rules))
    if _noisy(first):  # what is no mask before any read says True is none after it
        first = probe(rules.flips) or first
    return find_hidden(probe, first, rules.live, lambda module: looks.network.paths[id(module)], independent, fired)


def _note_row_shapes(seen: Observations, row: ProbePass | None) -> None:
    """Note the shapes that the masks of all rows have for one of them, if that meets the same sites."""
    alone = row.seen.observed if row is not None else []
    if [one.key for one in alone] == [observation.key for observation in seen.observed]:
        for observation, one in zip(seen.observed, alone, strict=True):
            observation.row_shape = one.mask_shape


def _try_rows(looks: Looks, axes: Axes, rules: Rules, inputs: Inputs) -> ProbePass | None:
    """A pass over some rows along axes that may not be the batch."""
    with indices_checked(inputs, axes, looks.network.device()):
        return looks.attempt(inputs, rules)


def _is_broken(probe: ProbePass) -> bool:
    """Returns whether all that was read is NaN, as of attention to padding only; it then equals anything as broken."""
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
