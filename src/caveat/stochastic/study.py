"""Looking at a network before drawing from it: a few passes over one and two of its rows.

They find the sites and the reads of ``training`` that hide some, the axis of the inputs that is the batch, and, for
each site, the shape of its mask for one row and the way that a batch lays its rows out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat.stochastic.guard import same_values, state_kept
from caveat.stochastic.hidden import Hidden, Look, find_hidden
from caveat.stochastic.interception import Observations, Pass, ReadKey, Rules, Sighting
from caveat.stochastic.layout import Fold, close, find_layout, fold_order
from caveat.stochastic.network import Network
from caveat.stochastic.rows import Inputs, count_rows, take_rows
from caveat.stochastic.sites import LivePredicate, Site, SiteKey

Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class Study:
    """What was found: the rules for drawing, and what an audit tells.

    ``batch_axis`` is None where no axis of the inputs behaves as a batch; then rows are never separated.
    ``row_bytes`` is the largest tensor that one row of one draw makes after the first live site; ``written`` are the
    buffers that a pass changes in spite of the interception; ``output_axes`` are the batch axes of what is read, None
    where they cannot be told; ``unmanaged`` says that a pass draws from torch's own random state.
    """

    rules: Rules
    sightings: tuple[Sighting, ...]
    called: frozenset[str]
    batch_axis: int | None
    rows: int
    row_bytes: int
    written: tuple[Tensor, ...]
    refused: tuple[str, ...]
    unknown: frozenset[SiteKey] = frozenset()
    output_axes: tuple[int, ...] | None = None
    unmanaged: bool = False


def study(
    network: Network, inputs: Inputs, live: LivePredicate, per_row: bool, read: Reader, axis: int | None
) -> Study:
    """Look at ``network`` on the last rows of ``inputs``.

    Args:
        network: the network.
        inputs: a batch.
        live: which sites to make live.
        per_row: fresh masks for each row.
        read: takes what the network returned and gives the tensor(s) that matter.
        axis: the inputs' batch axis where the caller knows it, else None: it is found.
    """
    buffers = network.buffers()
    before = [buffer.clone() for buffer in buffers]
    with state_kept(network.modules, snapshot=buffers):
        random = torch.get_rng_state()
        found = _study(network, inputs, Rules(live, per_row), read, axis)
        unmanaged = not torch.equal(random, torch.get_rng_state())
        changed = [buffer for buffer, was in zip(buffers, before, strict=True) if not same_values(buffer, was)]
    return replace(found, written=tuple(changed), unmanaged=unmanaged)


def _study(network: Network, inputs: Inputs, rules: Rules, read: Reader, axis: int | None) -> Study:
    axes = [axis] if axis is not None else [0, 1]
    for candidate in axes:
        rows = count_rows(inputs, candidate)
        if rows is None:
            continue
        try:
            hidden = _hidden(network, take_rows(inputs, candidate, [rows - 1]), rules, read)
        except Exception:  # this axis does not take one row, or the network does not: the whole batch decides below
            continue
        if rows == 1:
            return _conclude(rules, hidden, None, candidate, rows)
        pair = _try_look(network, take_rows(inputs, candidate, [rows - 2, rows - 1]), _with(rules, hidden), read)
        if pair is not None and _rows_independent(hidden.look, pair, candidate):
            return _conclude(rules, hidden, pair, candidate, rows)
    hidden = _hidden(network, inputs, rules, read)
    return _conclude(replace(rules, layout_known=False), hidden, None, None, count_rows(inputs, 0) or 1)


def _with(rules: Rules, hidden: Hidden) -> Rules:
    return replace(rules, flips=hidden.flips)


def _hidden(network: Network, inputs: Inputs, rules: Rules, read: Reader) -> Hidden:
    def look(flips: frozenset[ReadKey]) -> Look | None:
        return _try_look(network, inputs, replace(rules, flips=flips), read)

    first = _look(network, inputs, rules, read)
    return find_hidden(look, first, rules.live, lambda module: network.paths[id(module)])


def _try_look(network: Network, inputs: Inputs, rules: Rules, read: Reader) -> Look | None:
    try:
        return _look(network, inputs, rules, read)
    except Exception:
        return None


def _look(network: Network, inputs: Inputs, rules: Rules, read: Reader) -> Look:
    with torch.no_grad():
        taken = Pass(network, rules, inputs)
        whole = taken.run()
        returned = read(whole)
    leaves, spec = pytree.tree_flatten(whole)
    shapes = tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in leaves)
    return Look(taken.seen, (type(whole), str(spec), shapes), returned)


def _rows_independent(one: Look, two: Look, axis: int) -> bool:
    """Does the second of two rows give what it gives alone?"""
    pairs = list(zip(pytree.tree_leaves(one.returned), pytree.tree_leaves(two.returned), strict=True))
    pairs = [(a, b) for a, b in pairs if isinstance(a, Tensor)]
    return all(_second_row_is(a, b, axis) for a, b in pairs)


def _second_row_is(one: Tensor, two: Tensor, axis: int) -> bool:
    layout = find_layout(tuple(one.shape), tuple(two.shape), 2, Fold.MAJOR)
    if layout is None or layout.axis is None:
        return False
    opened = layout.open(two)
    assert layout.batch_axis is not None
    return close(opened.select(layout.batch_axis, 1).reshape(one.shape), one)


def _output_axes(one: Look, pair: Look | None) -> tuple[int, ...] | None:
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


def _conclude(rules: Rules, hidden: Hidden, pair: Look | None, axis: int | None, rows: int) -> Study:
    seen = hidden.look.seen
    live = [sighting for sighting in seen.sightings if sighting.live]
    sites = {s.key: Site(s.key, s.kind, s.rate, s.mask_shape) for s in live}
    folds, unbatched, unknown = _layouts(live, _live(pair.seen) if pair is not None else [])
    rules = replace(rules, flips=hidden.flips, sites=sites, folds=folds, unbatched=frozenset(unbatched))
    return Study(
        rules=rules,
        sightings=tuple(replace(sighting, tensor=None) for sighting in seen.sightings),
        called=frozenset(seen.called),
        batch_axis=axis,
        rows=rows,
        row_bytes=max(seen.largest_after // (1 if axis is not None else rows), 1),
        written=(),
        refused=hidden.refused,
        unknown=frozenset(unknown if pair is not None else ()),
        output_axes=_output_axes(hidden.look, pair) if axis is not None else None,
    )


def _live(seen: Observations) -> list[Sighting]:
    return [sighting for sighting in seen.sightings if sighting.live]


def _layouts(
    ones: Sequence[Sighting], twos: Sequence[Sighting]
) -> tuple[dict[SiteKey, Fold], set[SiteKey], set[SiteKey]]:
    """How each site's tensor holds two rows: in which order where they are folded, which sites hold no batch at all,
    and which cannot be known."""
    by_key = {two.key: two for two in twos}
    folds, unbatched, unknown = dict[SiteKey, Fold](), set[SiteKey](), set[SiteKey]()
    for one in ones:
        two = by_key.get(one.key)
        if one.mask_shape is None:
            continue
        if two is None or two.mask_shape is None:
            unknown.add(one.key)
        elif one.mask_shape == two.mask_shape:
            unbatched.add(one.key)
        elif not _place(one, two, folds):
            unknown.add(one.key)
    return folds, unbatched, unknown


def _place(one: Sighting, two: Sighting, folds: dict[SiteKey, Fold]) -> bool:
    """Note in ``folds`` how two rows are folded at a site, if they are; False where it cannot be known."""
    assert one.mask_shape is not None
    assert two.mask_shape is not None
    layout = find_layout(one.mask_shape, two.mask_shape, 2, Fold.MAJOR)
    if layout is None or layout.axis is None:
        return False
    if layout.each == 1:
        return True
    order = one.hint
    if order is None and one.tensor is not None and two.tensor is not None:
        order = fold_order(one.tensor, two.tensor, layout.axis)
    if order is None:
        return False
    folds[one.key] = order
    return True
