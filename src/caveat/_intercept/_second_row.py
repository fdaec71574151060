"""The second of two rows must give what it gives alone: as in eval mode, and under the same masks.

Where the values of a site's tensor do not tell which entries are of which row (rows that hold the same numbers, rows
that are put into places which are there whatever the batch), a draw does: masks in a wrong place show in what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._inputs import Inputs
from caveat._intercept._bindings import attributes_kept
from caveat._intercept._guard import random_states_kept
from caveat._intercept._interception import Pass
from caveat._intercept._layout import Fold, Layout, close, find_layout
from caveat._intercept._masks import Make, MaskSource, Shape, uniform_by_row
from caveat._intercept._network import Network
from caveat._intercept._random_states import seed_all
from caveat._intercept._rules import Drawing, Rules
from caveat._intercept._sites import SiteKey

# So little of what another draw changes, or of all that is read, is rounding.
_OF_A_DRAW, _OF_ALL = 0.01, 1e-5


def second_row_is(alone: Any, pair: Any, another_draw: Any = None) -> bool:
    """Does the second of two rows give what it gives alone, in each tensor that is read?

    Beside ``another_draw`` of the row alone, a difference is small only where it is small beside that of the draws.
    """
    ones, twos = pytree.tree_leaves(alone), pytree.tree_leaves(pair)
    others = pytree.tree_leaves(another_draw) if another_draw is not None else [None] * len(ones)
    if not len(ones) == len(twos) == len(others):
        return False
    return all(_second_is(*leaves) for leaves in zip(ones, twos, others, strict=True) if isinstance(leaves[0], Tensor))


def _second_is(one: Tensor, two: Tensor, other: Tensor | None) -> bool:
    layout = find_layout(tuple(one.shape), tuple(two.shape), 2, Fold.MAJOR)
    if layout is None or layout.axis is None:
        return False
    assert layout.batch_axis is not None
    second = layout.open(two).select(layout.batch_axis, 1).reshape(one.shape)
    if not close(second, one) or other is None or not one.is_floating_point() or other.shape != one.shape:
        return close(second, one)
    off, between, scale = (_largest(part) for part in (second - one, other - one, one))
    return off <= max(_OF_A_DRAW * between, _OF_ALL * scale)


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().nan_to_num(0.0, 0.0, 0.0).amax()) if tensor.numel() else 0.0


def try_draw(network: Network, inputs: Inputs, rules: Rules, read: Callable[[Any], Any], drawing: Drawing) -> Any:
    """What is read of a draw; None where it fails."""
    apart = copy(network)
    apart.layouts = {}  # what these rules say of a site is not to be remembered
    try:
        kept = attributes_kept(network.modules), random_states_kept(network.device())
        with torch.set_grad_enabled(rules.gradient), kept[0], kept[1]:
            seed_all(0)
            returned = read(Pass(apart, rules, inputs, drawing).run())
            return pytree.tree_map_only(Tensor, Tensor.detach, returned)
    except Exception:
        return None


@dataclass(frozen=True)
class _Differing:
    """Masks of numbers that differ from element to element, whatever the rate."""

    source: MaskSource

    def masks(self, site: SiteKey, shape: Shape, rate: float, draws: range, make: Make) -> Tensor:
        """As ``MaskSource.masks``."""
        return make.of(self.source.uniform(site, shape, draws, torch.float32))

    def masks_by_row(
        self, site: SiteKey, shape: Shape, rate: float, draws: range, rows: Tensor, make: Make
    ) -> Tensor:
        """As ``MaskSource.masks_by_row``."""
        one = (shape,) if isinstance(shape, int) else shape
        return make.of(uniform_by_row(self.source, site, one, draws, rows, torch.float32))

    def uniform(self, site: SiteKey, shape: Shape, draws: range, dtype: torch.dtype) -> Tensor:
        """As ``MaskSource.uniform``."""
        return self.source.uniform(site, shape, draws, dtype)


@dataclass(frozen=True)
class RowTrial:
    """One row, the same row twice, and draws of both."""

    network: Network
    alone: Inputs
    twice: Inputs
    read: Callable[[Any], Any]

    def settle(self, rules: Rules, undecided: Mapping[SiteKey, Layout]) -> Rules | None:
        """The rules with the order in which rows are folded at these sites; None where no or each order fits."""
        for key, layout in undecided.items():
            only = _with_live(rules, [key])
            orders = [replace(layout, fold=fold) for fold in Fold]
            fits = [each for each in orders if self.agrees(replace(only, placed={**rules.placed, key: each}))]
            if len(fits) != 1:
                return None
            rules = replace(rules, placed={**rules.placed, key: fits[0]})
        return rules

    def find_rows_in(self, rules: Rules) -> frozenset[SiteKey] | None:
        """The sites, of those that seem to hold no batch, where rows have places of their own; None if there are none.

        It may be told that there are some, and not which.
        """
        if not rules.unbatched or self.agrees(rules):
            return None
        return frozenset(key for key in rules.unbatched if not self.agrees(_with_live(rules, [key])))

    def agrees(self, rules: Rules) -> bool:
        """Does the second row draw what it draws alone? (Also where it cannot be drawn alone: that is to be told.)"""
        alone, another = (self._draw(rules, self.alone, 1, draw) for draw in (0, 1))
        return alone is None or another is None or second_row_is(alone, self._draw(rules, self.twice, 2, 0), another)

    def _draw(self, rules: Rules, inputs: Inputs, rows: int, draw: int) -> Any:
        device = self.network.device()
        source = cast(MaskSource, _Differing(MaskSource(0, device=device)))
        numbers = torch.zeros(rows, dtype=torch.int64, device=device)
        return try_draw(self.network, inputs, rules, self.read, Drawing(source, range(draw, draw + 1), numbers))


def _with_live(rules: Rules, keys: Iterable[SiteKey]) -> Rules:
    return replace(rules, resting=rules.resting | (rules.sites.keys() - set(keys)))
