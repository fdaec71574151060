"""The second of two rows must give what it gives alone: as in eval mode, and under the same masks.

Where the values of a site's tensor do not tell which entries are of which row (rows that hold the same numbers, rows
that are put into places which are there whatever the batch), a draw does: masks in a wrong place show in what is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._inputs import Axes, Inputs
from caveat._intercept._batch_axes import stirred
from caveat._intercept._layout import Fold, Layout, close, rows_in
from caveat._intercept._looks import Looks
from caveat._intercept._masks import Make, MaskSource, Shape, uniform_by_row
from caveat._intercept._rules import Drawing, Rules
from caveat._intercept._sites import SiteKey

# So little of what another draw changes, or of all that is read, is rounding.
_OF_A_DRAW, _OF_ALL = 0.01, 1e-5


def second_row_is(alone: Any, pair: Any) -> bool:
    """Returns whether the second of two rows gives what it gives by itself, in each tensor that is read."""
    rows = rows_in(alone, pair, 2)
    return rows is not None and all(close(both[1], one) for both, one in zip(rows, _tensors(alone), strict=True))


def _both_rows_are(alone: Any, another: Any, twice: Any) -> bool:
    """Returns whether a row, there twice, draws what it draws by itself, up to a little of what a draw changes."""
    rows, ones, others = rows_in(alone, twice, 2), _tensors(alone), _tensors(another)
    if rows is None or len(ones) != len(others):
        return False
    drawn = zip(rows, ones, others, strict=True)
    return all(_is_same_draw(row, one, other) for both, one, other in drawn for row in both)


def _tensors(returned: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]


def _is_same_draw(row: Tensor, one: Tensor, other: Tensor) -> bool:
    if not close(row, one) or not one.is_floating_point() or other.shape != one.shape:
        return close(row, one)
    off, between, scale = (_largest(part) for part in (row - one, other - one, one))
    return off <= max(_OF_A_DRAW * between, _OF_ALL * scale)


def _largest(tensor: Tensor) -> float:
    return float(tensor.abs().nan_to_num(0.0, 0.0, 0.0).amax()) if tensor.numel() else 0.0


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
    """Draws of one row, ``alone``, and of the same row twice."""

    looks: Looks
    alone: Inputs
    axes: Axes

    def settle(self, rules: Rules, undecided: Mapping[SiteKey, Layout]) -> Rules | None:
        """The rules with the order in which rows are folded at these sites; None where no or each order fits."""
        for key, layout in undecided.items():
            orders = [replace(rules, placed={**rules.placed, key: replace(layout, fold=fold)}) for fold in Fold]
            for trial in (self, replace(self, alone=stirred(self.alone, self.axes))):
                orders = [each for each in orders if trial.agrees(_with_live(each, [key]))]
                if len(orders) < 2:
                    break
            if len(orders) != 1:
                return None
            (rules,) = orders
        return rules

    def find_rows_in(self, rules: Rules) -> frozenset[SiteKey] | None:
        """The sites, of those that seem to hold no batch, where rows have places of their own; None if all is well.

        It may be told that rows are not where they seem to be, and not at which sites.
        """
        folded = any(layout.each > 1 for layout in rules.placed.values())  # a row may take an entry of another's
        if not (rules.unbatched or folded) or self.agrees(rules):
            return None
        return frozenset(key for key in rules.unbatched if not self.agrees(_with_live(rules, [key])))

    def agrees(self, rules: Rules) -> bool:
        """Returns whether both rows draw what one draws by itself, or one cannot be drawn by itself."""
        alone, another = (self._draw(rules, self.alone, 1, draw) for draw in (0, 1))
        if alone is None or another is None:
            return True
        return _both_rows_are(alone, another, self._draw(rules, self.axes.take(self.alone, [0, 0]), 2, 0))

    def _draw(self, rules: Rules, inputs: Inputs, rows: int, draw: int) -> Any:
        device = self.looks.network.device()
        source = cast(MaskSource, _Differing(MaskSource(0, device=device)))
        numbers = torch.zeros(rows, dtype=torch.int64, device=device)
        return self.looks.draw(inputs, rules, Drawing(source, range(draw, draw + 1), numbers))


def _with_live(rules: Rules, keys: Iterable[SiteKey]) -> Rules:
    return replace(rules, resting=rules.resting | (rules.sites.keys() - set(keys)))
