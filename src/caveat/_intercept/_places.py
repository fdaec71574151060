"""Where the rows of a batch are in the tensor of each site: a look at two rows beside a look at the second alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from caveat._intercept._layout import Fold, Layout, find_layout, fold_orders
from caveat._intercept._looks import ProbePass
from caveat._intercept._rules import Observation, Observations, Rules
from caveat._intercept._sites import Site, SiteKey


@dataclass
class Places:
    """How each site's tensor holds two rows: placed, without a batch, or unknown.

    ``undecided`` are sites where rows are folded in with other entries, of values that fit either order.
    """

    placed: dict[SiteKey, Layout] = field(default_factory=dict[SiteKey, Layout])
    unbatched: set[SiteKey] = field(default_factory=set[SiteKey])
    undecided: dict[SiteKey, Layout] = field(default_factory=dict[SiteKey, Layout])
    unknown: bool = False

    @classmethod
    def of(cls, one: ProbePass, two: ProbePass | None) -> Places:
        """What a look at two rows adds to one at the second of them."""
        places = cls()
        ones, twos = live_observations(one.seen), live_observations(two.seen) if two is not None else []
        if [observation.key for observation in ones] != [observation.key for observation in twos]:
            places.unknown = bool(ones)  # a call for each row, or for chosen rows
            return places
        for alone, both in zip(ones, twos, strict=True):
            places._add(alone, both)
        return places

    def _add(self, one: Observation, two: Observation) -> None:
        if one.mask_shape is None or two.mask_shape is None:  # a site that knows where its rows are
            return
        if one.mask_shape == two.mask_shape:
            self.unbatched.add(one.key)
            return
        layout = find_layout(one.mask_shape, two.mask_shape, 2, Fold.MAJOR)
        if layout is None or layout.axis is None:
            self.unknown = True
            return
        if layout.each > 1:
            orders: tuple[Fold, ...] = ()
            if one.tensor is not None and two.tensor is not None:
                orders = fold_orders(one.tensor, two.tensor, layout.axis)
            if len(orders) == 2:
                self.undecided[one.key] = layout
                return
            if not orders:
                self.unknown = True
                return
            layout = replace(layout, fold=orders[0])
        self.placed[one.key] = layout


def could_be_chosen(site: Site, layout: Layout) -> bool:
    """Returns whether the rows of this site's tensor could be entries chosen by value, some of them of one row.

    Entries of rows that lie one after another could, and so could vectors: of a row that has one such entry alone.
    """
    return layout.each > 1 or layout.inserted or sum(size > 1 for size in site.shape or ()) < 2


def live_observations(seen: Observations, rules: Rules | None = None) -> list[Observation]:
    """The sites of a look that are to fire."""
    off = rules.resting if rules is not None else frozenset[SiteKey]()
    return [observation for observation in seen.observed if observation.live and observation.key not in off]
