"""`caveat doctor module:factory`: examine a network and a recipe; the terminal, JSON, and one page of HTML."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import caveat
from caveat._doctor import Diagnosis
from caveat._files import write_whole
from caveat.cli._doctor_report import doctor_page
from caveat.cli._interrupts import Unwound
from caveat.cli._named_functions import import_function, make_model_and_batch
from caveat.cli._output_file import check_output, writing

FAULTY = 1
"""The exit code where faults were found; 0 where none was, 2 where nothing could be examined."""


def examine(
    target: str, batch: str | None, recipe: str | None, *, n: int, seed: int, stochastic_depth: bool, ignore: list[str]
) -> Diagnosis:
    """The diagnosis of what the named functions make.

    Raises:
        InvalidArgumentError: one of them is not there, fails, or does something else than it should.
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
        InvalidTableError: the place cannot be written to.
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
        table.add_row(*(f"[red]{cell}[/red]" if site.live and cell == "silent" else escape(cell) for cell in row))
    console.print(table)
    console.print()
    for line in found.way_sentences():
        console.print(f"[dim]{escape(line)}[/dim]")
    for line in found.comparison_sentences():
        console.print(escape(line))
    console.print()
    console.print(f"[bold {'red' if found.faults else 'green'}]{escape(found.headline)}[/]")
    for fault in found.faults:
        console.print(f"\n[bold]{escape(fault.name)}[/bold]\n{escape(fault.what)}\n[dim]Fix:[/dim] {escape(fault.fix)}")
    for note in found.notes:
        console.print(f"\n[dim]Note: {escape(note)}[/dim]")

