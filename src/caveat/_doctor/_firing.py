"""Which sites a watched run fires: the draws of each module laid beside the sites that the audit knows of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import isnan, prod

from caveat._doctor._watch import Draw, Seen
from caveat._intercept import Audit, AuditedSite, Probe

_SAME_RATE, _SAME = 1e-4, 3


@dataclass(frozen=True)
class Place:
    """A site as the audit knows it.

    ``numbers`` is the size of its mask for one row, None where it is not known; ``by_row`` says that each row has one.
    """

    site: AuditedSite
    numbers: int | None
    by_row: bool = True

    @property
    def rate(self) -> float | None:
        """The rate; None for random numbers that are not dropout."""
        return None if isnan(self.site.rate) else self.site.rate

    @property
    def expected(self) -> bool:
        """Whether it should fire."""
        return self.site.live and self.site.called


@dataclass
class Firing:
    """What a run fired.

    ``covered`` has for each place the number of the run's outputs that it drew anew for; ``rates`` other rates than
    the place's own; ``shared`` the places whose masks rows share; ``extra`` the modules that drew where the audit
    knows of no site, ``twice`` those that drew as at a site once more; ``outside`` says that numbers were drawn outside
    of the network.
    """

    covered: list[float]
    rates: dict[int, float] = field(default_factory=dict[int, float])
    shared: set[int] = field(default_factory=set[int])
    extra: set[str] = field(default_factory=set[str])
    twice: set[str] = field(default_factory=set[str])
    outside: bool = False


def places_of(audit: Audit, probe: Probe) -> list[Place]:
    """The places that an audit lists, the called ones first, with the sizes of their masks."""
    places = [Place(site, None) for site in audit.sites]
    for at, seen in enumerate(probe.observed):
        numbers = None if seen.mask_shape is None else prod(seen.mask_shape)
        by_row = probe.rules.layout_known and seen.key not in probe.rules.unbatched
        places[at] = Place(audit.sites[at], numbers, by_row)
    return places


def firing_of(places: list[Place], seen: Seen, entries: int, rows: int, passes: int) -> Firing:
    """What a watched run fired.

    Args:
        places: The sites.
        seen: What the run showed.
        entries: The size of the batch that the doctor was given.
        rows: The number of its rows.
        passes: How many outputs the run made.
    """
    found = Firing([0.0] * len(places))
    sites = defaultdict[str, list[int]](list)
    for at, place in enumerate(places):
        if place.site.called and place.rate != 0:
            sites[place.site.path].append(at)
    groups = defaultdict[tuple[str | None, int | None], list[Draw]](list)
    for draw in seen.draws:
        groups[draw.path, draw.call].append(draw)
    for (path, call), draws in groups.items():
        times = 1.0 if call is None else seen.sizes[call] / max(entries, 1)
        if path is None:
            by_itself = sum(seen.sizes) < passes * entries  # the layers are run, or a trace, and not the network
            _match_outside(places, draws, found, rows, by_itself=by_itself)
            continue
        for at, draw in _aligned(places, sites[path], draws, whole=call is not None):
            if at is not None:
                _note(found, places[at], at, draw, times, rows)
            elif any(_fit(places[site], draw) == _SAME for site in sites[path]):
                found.twice.add(path)
            else:
                found.extra.add(path)
    return found


def _note(found: Firing, place: Place, at: int, draw: Draw, times: float, rows: int) -> None:
    """``times`` is how often the batch was in the inputs of the call: by itself, in part, or repeated."""
    masks = draw.numbers / place.numbers if place.numbers else 0.0
    found.covered[at] += max(min(times, masks), masks / rows) if masks >= 1 else times
    if 1 <= masks <= times * rows / 2 and place.by_row:
        found.shared.add(at)
    if draw.rate is not None and place.rate is not None and abs(draw.rate - place.rate) > _SAME_RATE:
        found.rates[at] = draw.rate


def _aligned(
    places: list[Place], sites: list[int], draws: list[Draw], *, whole: bool
) -> list[tuple[int | None, Draw]]:
    """Each draw of a module with the site that it is of, in order; None for one that is of no site."""
    if not sites:
        return [(None, draw) for draw in draws]
    if not whole:  # a part that was called any number of times
        return [(sites[at % len(sites)], draw) for at, draw in enumerate(draws)]
    if len(sites) == len(draws):
        return list(zip(sites, draws, strict=True))
    return _longest_match(places, sites, draws)


def _longest_match(places: list[Place], sites: list[int], draws: list[Draw]) -> list[tuple[int | None, Draw]]:
    """The alignment in order that fits best; the sites are taken up again where a module was called more often."""
    best: dict[tuple[int, int], tuple[int, list[tuple[int | None, Draw]]]] = {}

    def match(i: int, j: int) -> tuple[int, list[tuple[int | None, Draw]]]:
        if j == len(draws):
            return 0, []
        if i == len(sites):
            return 0, [(None, draw) for draw in draws[j:]]
        if (i, j) not in best:
            fit = _fit(places[sites[i]], draws[j])
            options = [match(i + 1, j)]
            score, rest = match(i, j + 1)
            options.append((score, [(None, draws[j]), *rest]))
            if fit:
                score, rest = match(i + 1, j + 1)
                options.append((score + fit, [(sites[i], draws[j]), *rest]))
            best[i, j] = max(options, key=lambda option: option[0])
        return best[i, j]

    return match(0, 0)[1]


def _fit(place: Place, draw: Draw) -> int:
    if place.numbers and draw.numbers % place.numbers:
        return 0
    same = draw.rate is not None and place.rate is not None and abs(draw.rate - place.rate) <= _SAME_RATE
    return _SAME if same else 2


def _match_outside(places: list[Place], draws: list[Draw], found: Firing, rows: int, *, by_itself: bool) -> None:
    """Draws of the recipe's own: where it runs the layers itself they may be its masks for the sites; else noise."""
    sites = [at for at, place in enumerate(places) if place.expected] if by_itself else []
    turn = 0
    for draw in draws:
        order = [sites[(turn + step) % len(sites)] for step in range(len(sites))]
        at = next((at for at in order if _fit(places[at], draw)), None)
        if at is None:
            found.outside = True
            continue
        turn = sites.index(at) + 1
        _note(found, places[at], at, draw, 1.0, rows)
