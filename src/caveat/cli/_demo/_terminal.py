"""The demo in a terminal: a progress bar while it works, tables when it is done."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from caveat.cli._demo import _findings as findings
from caveat.cli._demo._mosaics import Tile, test_tiles, turn_tiles
from caveat.cli._demo._readings import RULE
from caveat.cli._demo._story import Advance, Result, Stage
from caveat.cli._demo._turn import FULL_TURN
from caveat.cli._terminal import bare_table, progress_bars

COLORS = {"right": "blue", "other": "dark_orange", "unsure": "bold"}


@contextmanager
def progress_bar(console: Console) -> Generator[Stage]:
    """A line for each stage, with a bar and the time it took."""
    with progress_bars(console) as progress:

        def stage(title: str, total: int) -> Advance:
            task = progress.add_task(f"{title:<46}", total=total)
            return lambda count: progress.advance(task, count)

        yield stage


def print_result(console: Console, result: Result) -> None:
    """The numbers of the report as tables, with the same sentences."""
    console.print()
    console.print(f"[bold]{findings.headline(result)}.[/bold]", highlight=False)
    for line in (
        findings.without_draws(result),
        RULE,
        f"The digit is {result.turn.rule} (number {result.turn.index}).",
    ):
        console.print(line, highlight=False)
    console.print(_turn_table(result))
    for line in (
        findings.ten_finding(result),
        findings.accuracy_finding(result),
        findings.answered_finding(result),
    ):
        console.print(line, highlight=False)
    surest, least_sure = test_tiles(result)
    console.print(_pair_table(surest, least_sure))
    console.print(f"{findings.test_digits_finding(result)}.", highlight=False)


def _turn_table(result: Result) -> Table:
    """The turning digit, a row an angle."""
    table = bare_table(("angle", "answer", "mean softmax ± sd", "entropy", "MI", "single pass"), no_wrap=True)
    readings = result.turn.readings
    for row, (angle, tile) in enumerate(zip(FULL_TURN, turn_tiles(result), strict=True)):
        sd = float(readings.sd[row, tile.said.answer])
        table.add_row(
            f"{angle}°",
            _answer(tile),
            f"{tile.said.answer}: {tile.said.probability:.2f} ± {sd:.2f}",
            f"{float(readings.entropy[row]):.2f}",
            f"{float(readings.information[row]):.2f}",
            tile.once.removeprefix("once "),
        )
    table.caption = "entropy and mutual information (MI) in nats; ?: not sure"
    return table


def _pair_table(surest: list[Tile], least_sure: list[Tile]) -> Table:
    """The surest and the least sure test digits side by side."""
    table = bare_table(("surest", "answer", "first choice", "least sure", "answer", "first choice"), no_wrap=True)
    for sure, unsure in zip(surest, least_sure, strict=True):
        table.add_row(
            sure.above, _answer(sure), sure.first_choice, unsure.above, _answer(unsure), unsure.first_choice
        )
    return table


def _answer(tile: Tile) -> Text:
    return Text(tile.answer, style=COLORS[tile.kind])
