"""`caveat doctor module:factory`: examine a network and a recipe; the terminal, and one page of HTML."""

from __future__ import annotations

from html import escape
from pathlib import Path

from rich.console import Console
from rich.markup import escape as plain
from rich.table import Table

import caveat
from caveat._doctor import Comparison, Diagnosis, ExaminedSite, Fault, format_fires
from caveat._files import write_whole
from caveat.cli._interrupts import Unwound
from caveat.cli._named_functions import import_function, make_model_and_batch
from caveat.cli._output_file import check_output, writing
from caveat.cli._report_page import list_facts, make_page, section

FAULTY = 1
"""The exit code where faults were found; 0 where none was, 2 where nothing could be examined."""
_OWN_STYLE = """
.fault{border-left:4px solid var(--other);padding:.1em 0 .1em 1em;margin:1.2em 0;break-inside:avoid}
.fault h3{font-size:1rem;margin:0;font-family:ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.fault p{margin:.3em 0;overflow-wrap:anywhere} .clean{color:var(--right)}
td,th{text-align:left} td.silent{color:var(--other);font-weight:600}
td.path{white-space:normal;overflow-wrap:anywhere;min-width:8em}
.bar{display:inline-block;width:70px;height:.6em;background:var(--grid);border-radius:3px;margin-right:.5em}
.bar i{display:block;height:100%;background:var(--right);border-radius:3px}
@media (max-width:640px){.bar{display:none} table{font-size:.8rem} td,th{padding:.3em .25em} td.path{min-width:6em}}
"""


def examine(
    target: str, batch: str | None, recipe: str | None, *, n: int, seed: int, stochastic_depth: bool, ignore: list[str]
) -> Diagnosis:
    """The diagnosis of what the named functions make.

    Raises:
        InvalidArgumentError: one of them is not there, fails, or does something other than it should.
        NothingRandomError: the network has no dropout.
    """
    live = caveat.with_stochastic_depth if stochastic_depth else caveat.all_dropout
    with Unwound():
        model, x = make_model_and_batch(target, batch)
        predict = None if recipe is None else import_function(recipe)
        return caveat.doctor(model, x, predict, live=live, n=n, seed=seed, ignore=ignore)


def write_page(path: Path, found: Diagnosis, target: str, recipe: str | None) -> None:
    """Writes the page of a diagnosis.

    Raises:
        InvalidDataError: the place cannot be written to.
    """
    check_output(path, read=())
    with writing(path):
        write_whole(path, doctor_page(found, target, recipe).encode())


def print_diagnosis(console: Console, found: Diagnosis) -> None:
    """Prints the table of sites, what was measured, and the faults with their fix."""
    head, rows = found.site_table()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(head):
        table.add_column(name, overflow="fold", justify="right" if name in ("rate", "variance") else "left")
        table.columns[at].no_wrap = at > 0
    for site, row in zip(found.sites, rows, strict=True):
        table.add_row(*(f"[red]{cell}[/red]" if site.live and cell == "silent" else plain(cell) for cell in row))
    console.print(table)
    console.print()
    for line in found.way_sentences():
        console.print(f"[dim]{plain(line)}[/dim]")
    for line in found.comparison_sentences():
        console.print(plain(line))
    console.print()
    console.print(f"[bold {'red' if found.faults else 'green'}]{plain(found.headline)}[/]")
    for fault in found.faults:
        console.print(f"\n[bold]{plain(fault.name)}[/bold]\n{plain(fault.what)}\n[dim]Fix:[/dim] {plain(fault.fix)}")
    for note in found.notes:
        console.print(f"\n[dim]Note: {plain(note)}[/dim]")


def doctor_page(found: Diagnosis, target: str, recipe: str | None) -> str:
    """Returns the whole page."""
    about = f"{recipe} on {target}" if recipe is not None else target
    title = _title(found)
    sections = [
        f"<h1>{escape(title)}</h1><p class=lead>{escape(about)}</p>",
        _faults(found),
        _sites(found),
        _ways(found),
        "" if found.comparison is None else _comparison(found.comparison),
        _notes(found),
    ]
    return make_page(title, sections, style=_OWN_STYLE, footer="Made by <code>caveat doctor</code>.")


def _title(found: Diagnosis) -> str:
    about = "recipe" if found.comparison is not None else "network"
    if not found.faults:
        return f"No fault found in the {about}"
    return f"{len(found.faults)} fault{'s' if len(found.faults) > 1 else ''} found"


def _faults(found: Diagnosis) -> str:
    if found.comparison is None and not found.faults:
        return "<p>No recipe was given: below is what the two usual ones do to this network.</p>"
    if not found.faults:
        return "<p class=clean>Every site that should fire does, and nothing else moves.</p>"
    return f"<section>{''.join(map(_fault, found.faults))}</section>"


def _fault(fault: Fault) -> str:
    return (
        f"<div class=fault><h3>{escape(fault.name)}</h3><p>{escape(fault.what)}</p>"
        f"<p class=read><b>Fix:</b> {escape(fault.fix)}</p></div>"
    )


def _sites(found: Diagnosis) -> str:
    ways = [way.name for way in found.ways]
    titles = "".join(f"<th>{escape(title)}</th>" for title in ("site", "variance", *ways))
    lines = "".join(f"<tr>{_site(site, ways)}</tr>" for site in found.sites)
    return section(
        "What draws, and what fires it",
        f"<div class=wide><table><tr>{titles}</tr>{lines}</table></div>",
        "“Variance” is how much smaller the variance of the outputs is without the site; the fractions "
        "need not sum to 100 %. Switching puts the Dropout modules of torch.nn in train mode and nothing else.",
    )


def _site(site: ExaminedSite, ways: list[str]) -> str:
    rate = "" if site.rate is None else f", rate {site.rate:g}"
    asked = "" if site.live else ", not live"
    cells = [f"{escape(site.path or '(model)')}<br><small>{escape(site.kind)}{rate}{asked}</small>", _share(site)]
    cells += [format_fires(site.fires.get(way)) for way in ways]
    kinds = [" class=path", *(" class=silent" if cell == "silent" and site.live else "" for cell in cells[1:])]
    return "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True))


def _share(site: ExaminedSite) -> str:
    if site.variance_fraction is None:
        return ""
    width = min(max(100 * site.variance_fraction, 0.0), 100.0)
    return f"<span class=bar><i style='width:{width:.0f}%'></i></span>{site.variance_fraction:.0%}"


def _ways(found: Diagnosis) -> str:
    others = [way for way in found.ways if way.name != "recipe"]
    faults = {way.name: "; ".join(f"{f.name}: {f.what}" for f in way.faults) or "does nothing else" for way in others}
    said = faults | {way.name: f"raises {way.error}" for way in others if way.error}
    return section("What the usual ways do to this network", list_facts(said))


def _comparison(found: Comparison) -> str:
    noise = found.mean_distance_expected
    facts = {
        "outputs": f"{found.passes} passes of the recipe, {found.draws} draws by caveat, read {found.read_as}",
        "distance of the means": f"{found.mean_distance:.2g} standard deviations; noise alone gives {noise:.2g}",
        "ratio of the variances": f"{found.spread_ratio:.2g} ± {found.spread_ratio_error:.2g}",
        "standard error of the mean": f"{found.standard_error:.2g} standard deviations, with {found.passes} passes",
        "cost": f"{found.seconds * 1e3:.3g} ms per pass; {found.caveat_seconds * 1e3:.3g} ms per draw by caveat",
    }
    return section("The recipe beside caveat", list_facts(facts))


def _notes(found: Diagnosis) -> str:
    if not found.notes:
        return ""
    return section("Notes", "".join(f"<p class=read>{escape(note)}</p>" for note in found.notes))
