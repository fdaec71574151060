"""Looking at a network before drawing from it: a few passes over one and two of its rows.

They find the sites and the reads of ``training`` that hide some, the axis of the inputs that is the batch, and, for
each site, the shape of its mask for one row and the way that a batch lays its rows out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat.layers.insertion import drop_returned
from caveat.stochastic.guard import attributes_kept, attributes_of, random_state, same_values, state_kept
from caveat.stochastic.hidden import Hidden, Look, find_hidden
from caveat.stochastic.interception import Pass
from caveat.stochastic.layout import Fold, close, find_layout, fold_order
from caveat.stochastic.network import Network
from caveat.stochastic.rows import Inputs, count_rows, take_rows
from caveat.stochastic.rules import Observations, ReadKey, Rules, Sighting
from caveat.stochastic.sites import LivePredicate, Site, SiteKey

Reader = Callable[[Any], Any]

# How far back to look for a row that differs from the last.
_ROWS_COMPARED = 64


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
        found = _study(network, inputs, Rules(live, per_row), read, axis)
        changed = [buffer for buffer, was in zip(buffers, before, strict=True) if not same_values(buffer, was)]
    return replace(found, written=tuple(changed))


def _study(network: Network, inputs: Inputs, rules: Rules, read: Reader, axis: int | None) -> Study:
    axes = [axis] if axis is not None else [0, 1]
    for candidate in axes:
        rows = count_rows(inputs, candidate)
        if rows is None or (axis is None and candidate == 1 and _is_table(inputs)):
            continue
        try:
            hidden = _hidden(network, take_rows(inputs, candidate, [rows - 1]), rules, read)
        except Exception:  # this axis does not take one row, or the network does not: the whole batch decides below
            continue
        if rows == 1:
            return _conclude(rules, hidden, None, candidate, rows)
        pair = _try_look(network, _two_rows(inputs, candidate, rows), _with(rules, hidden), read)
        if pair is not None and _rows_independent(hidden.look, pair, candidate):
            return _conclude(rules, hidden, pair, candidate, rows)
    hidden = _hidden(network, inputs, rules, read)
    return _conclude(replace(rules, layout_known=False), hidden, None, None, count_rows(inputs, 0) or 1)


def _two_rows(inputs: Inputs, axis: int, rows: int) -> Inputs:
    """The last row after another one that differs from it: equal rows cannot show that they are independent."""
    other = _other_row(inputs, axis, rows)
    if other is not None:
        return take_rows(inputs, axis, [other, rows - 1])

    def made_different(two: Any, one: Any) -> Any:
        if not isinstance(two, Tensor) or not two.is_floating_point() or two.shape == one.shape:
            return two
        at = axis if two.dim() > axis and two.shape[axis] == 2 * one.shape[axis] else 0
        factor = torch.tensor([0.9, 1.0], dtype=two.dtype, device=two.device)
        shift = torch.tensor([0.1, 0.0], dtype=two.dtype, device=two.device)
        shape = [2 if place == at else 1 for place in range(two.dim())]
        return two * factor.reshape(shape) + shift.reshape(shape)

    last = take_rows(inputs, axis, [rows - 1])
    return pytree.tree_map(made_different, take_rows(inputs, axis, [rows - 1, rows - 1]), last)


def _other_row(inputs: Inputs, axis: int, rows: int) -> int | None:
    last = pytree.tree_leaves(take_rows(inputs, axis, [rows - 1]))
    for row in range(rows - 2, max(rows - 2 - _ROWS_COMPARED, -1), -1):
        leaves = pytree.tree_leaves(take_rows(inputs, axis, [row]))
        if any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(leaves, last, strict=True)):
            return row
    return None


def _is_table(inputs: Inputs) -> bool:
    """Is the first tensor a table of numbers (B, D)? Then its second axis is features, never a batch."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim() > 0]
    return bool(tensors) and tensors[0].is_floating_point() and tensors[0].dim() == 2


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
    with torch.no_grad(), attributes_kept(network.modules):
        taken, bound, random = Pass(network, rules, inputs), attributes_of(network.modules), random_state()
        whole = taken.run()
        returned = read(whole)
        hooked = any(_runs_hooks(module) for module in network.modules)
        taken.seen.unmanaged = random_state() != random
        taken.seen.leaves_marks = hooked or attributes_of(network.modules) != bound
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
    rules = replace(rules, leaves_marks=seen.leaves_marks, writes_on_views=seen.writes_on_views)
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
        unmanaged=seen.unmanaged,
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


def _runs_hooks(module: nn.Module) -> bool:
    """Has the module hooks of the user's, who may count on every call?"""
    hooks = [*vars(module)["_forward_hooks"].values(), *vars(module)["_forward_pre_hooks"].values()]
    return any(hook is not drop_returned for hook in hooks)
