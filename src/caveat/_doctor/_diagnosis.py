"""What the doctor says: sites, ways to switch them on, faults with their fix, distances, shares, cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from caveat._plain import finite_or_none
from caveat._table_text import format_html

WAYS = ("train()", "switching", "recipe")
"""The ways of switching dropout on, as the columns of the tables name them."""

_SITES = ("site", "kind", "rate", "variance")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        name: a stable identifier, such as ``"site_silent"``; the page "Check your recipe" lists all.
        where: paths of modules, '' for the network itself; empty where it is no module's.
        what: a sentence that says what is wrong.
        fix: what to do about it.
    """

    name: str
    where: tuple[str, ...]
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}\n    Fix: {self.fix}"


@dataclass(frozen=True)
class ExaminedSite:
    """One place that draws randomness.

    Attributes:
        path: of the module that owns it, '' for the network itself.
        kind: as in the audit.
        rate: as in the audit; None for random numbers that are not dropout.
        live: Is it asked for?
        variance_fraction: how much smaller the variance of the outputs is without the sites of this module; None if
            it is not live, or was not asked for. Fractions need not sum to 1.
        fires: by the name of a way, the fraction of the draws in which it drew anew.
    """

    path: str
    kind: str
    rate: float | None
    live: bool
    variance_fraction: float | None
    fires: dict[str, float]


@dataclass(frozen=True)
class Way:
    """A way of switching dropout on, and what else it does. ``error`` is what it raised."""

    name: str
    faults: tuple[Fault, ...]
    error: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The recipe's draws beside caveat's.

    Attributes:
        passes: T, the outputs that one call of the recipe returns.
        draws: n, caveat's draws that they are compared with.
        read_as: what the recipe does to the network's return, as found by trial: "as it is", "softmax", ...
        mean_distance: root mean square, over the outputs, of (recipe's mean - caveat's), in caveat's standard
            deviations.
        mean_distance_expected: the same between T draws by caveat and its n, on average: noise alone.
        spread_ratio: recipe's variance over caveat's, averaged over the outputs.
        spread_ratio_error: its Monte-Carlo standard error at T draws.
        standard_error: of the mean of T passes, in standard deviations of the outputs.
        seconds: median time of one pass of the recipe.
        caveat_seconds: median time of one of caveat's draws, of T.
    """

    passes: int
    draws: int
    read_as: str
    mean_distance: float
    mean_distance_expected: float
    spread_ratio: float
    spread_ratio_error: float
    standard_error: float
    seconds: float
    caveat_seconds: float


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What ``caveat.doctor`` found. ``print`` it; a notebook shows it as a table.

    Attributes:
        faults: what is wrong with the recipe and the rates, worst first; empty for a clean bill.
        notes: what is worth knowing and no fault: sites of rate 0, what the audit says.
        sites: every place that draws randomness.
        ways: ``train()``, module switching and the recipe, and what each damages.
        comparison: the recipe's numbers beside caveat's; None without a recipe.
    """

    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    sites: tuple[ExaminedSite, ...]
    ways: tuple[Way, ...]
    comparison: Comparison | None

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        head, rows = self.site_table()
        table = [head, *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table)
        lines = ["  ".join(row).rstrip() for row in padded]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines += ["", *self.sentences()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, rows = self.site_table()
        return format_html("Diagnosis", head, rows, after="\n".join(self.sentences()))

    @property
    def headline(self) -> str:
        """The finding in one line."""
        about = "recipe" if self.comparison is not None else "network"
        if not self.faults:
            return f"No fault found in the {about}."
        count = len(self.faults)
        return f"{count} fault{'s' if count > 1 else ''} found: {', '.join(fault.name for fault in self.faults)}."

    def site_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The head and the rows of the table of sites, as text."""
        ways = [way.name for way in self.ways]
        rows = [
            (
                site.path or "(model)",
                site.kind,
                "" if site.rate is None else f"{site.rate:g}",
                format_share(site),
                *(format_fires(site.fires.get(way)) for way in ways),
            )
            for site in self.sites
        ]
        return (*_SITES, *ways), rows

    def sentences(self) -> list[str]:
        """All that is said below the table."""
        lines = [*self.way_sentences(), *self.comparison_sentences(), self.headline]
        lines += [f"  {fault}" for fault in self.faults]
        return [*lines, *(f"Note: {note}" for note in self.notes)]

    def way_sentences(self) -> list[str]:
        """What ``train()`` and module switching do to this network, in words."""
        others = [way for way in self.ways if way.name != "recipe"]
        return [
            f"{way.name} raises {way.error}" if way.error else f"{way.name}: {', '.join(f.name for f in way.faults)}."
            for way in others
            if way.error or way.faults
        ]

    def comparison_sentences(self) -> list[str]:
        """The recipe's numbers beside caveat's, in words."""
        found = self.comparison
        if found is None:
            return []
        return [
            f"{found.passes} passes, read {found.read_as}, beside {found.draws} draws by caveat: "
            f"the mean is {found.mean_distance:.2g} standard deviations away (noise alone: "
            f"{found.mean_distance_expected:.2g}), the variance is {found.spread_ratio:.2g} of caveat's "
            f"(± {found.spread_ratio_error:.2g}).",
            f"The mean of {found.passes} passes is known to ± {found.standard_error:.2g} standard deviations.",
            f"A pass takes {found.seconds * 1e3:.3g} ms; a draw of caveat's {found.caveat_seconds * 1e3:.3g} ms.",
        ]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain Python values; numbers that are not finite are None."""
        found = {"schema": "caveat-doctor-1", "healthy": not self.faults, "headline": self.headline, **asdict(self)}
        return finite_or_none(found)

    def to_json(self) -> str:
        """All of it as strict JSON."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)


def format_fires(fraction: float | None) -> str:
    """A fraction of draws as the tables have it: fires, silent, or how many percent."""
    if fraction is None or fraction != fraction:
        return "?"
    if fraction in (0, 1):
        return "fires" if fraction else "silent"
    return f"{fraction:.0%}"


def format_share(site: ExaminedSite) -> str:
    """A site's share of the variance as the tables have it; "not live" where it is not asked for."""
    if not site.live:
        return "not live"
    return "" if site.variance_fraction is None else f"{site.variance_fraction:.0%}"
