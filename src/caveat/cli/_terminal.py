"""What commands print, each in one way: numbers as JSON, tables, bars."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print the numbers as JSON, and nothing else.")]


def print_json(found: Any) -> None:
    """Prints plain data as JSON."""
    print(json.dumps(found, indent=1, allow_nan=False))


def bare_table(columns: Sequence[str], *, left: Collection[str] = (), no_wrap: bool = False) -> Table:
    """Returns a table without lines; columns are right-justified but for those in ``left``."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), caption_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", no_wrap=no_wrap)
    return table


def progress_bars(console: Console, *, disable: bool = False) -> Progress:
    """Returns a line for each task, with a bar and the time it took."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(24), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=disable)


@contextmanager
def share_bar(title: str) -> Generator[Callable[[float], None]]:
    """A bar from 0 to 1 on the standard error, where that is a terminal."""
    console = Console(stderr=True)
    with progress_bars(console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{title:<28}", total=1.0)

        def advance(share: float) -> None:
            progress.update(task, completed=share)
            if share >= 1:
                progress.stop()

        yield advance
