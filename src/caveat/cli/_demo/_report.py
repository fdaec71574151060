"""The demo's report: one HTML file with its pictures and style inside, which fetches nothing."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from matplotlib.axes import Axes

from caveat.cli._demo import _findings as findings
from caveat.cli._demo._mosaics import Tile, test_tiles, tile_png, turn_tiles
from caveat.cli._demo._pictures import picture, plot_confidence, plot_entropy, plot_softmax, plot_ten
from caveat.cli._demo._readings import RULE, says
from caveat.cli._demo._story import Result
from caveat.cli._demo._turn import FULL_TURN
from caveat.cli._report_page import DARK, LIGHT, data_url, list_facts, make_page, section, wide_table

READ_STRIP = """
In bold is the answer from the draws, <span class=right>blue</span> where it is the digit itself and <span
class=other>orange</span> where it is another one; below it are the draws’ first choice and its mean softmax;
“once” is the answer of the same network in one pass, with dropout off. A question mark means that the entropy
is over the threshold, so it is not an answer.
"""
READ_CONFIDENCE = """
Each point is the probability of the first choice at one angle: a disc where it is right, a cross where
it is another digit, a ring where the network is not sure.
"""
READ_SOFTMAX = """
One row for each digit that is ever the first choice: the line is its mean softmax over the draws, the
band one standard deviation of the draws to either side (cut at 0 and 1); blue is the digit that turns.
"""
READ_ENTROPY = """
The line is the total uncertainty of the answer; the shaded part, mutual information, comes from draws
that disagree, and the rest is uncertainty within each draw; above the dashed line it says “not sure”.
"""
READ_TEN = """
Each row is one test digit that turns, chosen by the same rule; a brighter cell is a less certain answer; the
sign in it is the answer, bold where it is right and “?” where it is not sure.
"""
READ_DIGITS = """
Above each image is its label, in bold the answer; the upper rows have the lowest predictive entropy of all
test digits, the lower rows the highest.
"""
LIMITS = """
This does not show that dropout notices everything the network has not learned. It softens the network’s
claims where its thinned copies disagree; where they agree on a wrong digit, the answer is sure and wrong:
every orange one above is a digit other than the one that was turned. A 6 turned half way counts as “another
digit” when it is read as a 9, though nobody would blame the network.
"""


def report_html(result: Result) -> str:
    """The whole page."""
    surest, least_sure = test_tiles(result)
    title = findings.headline(result)
    parts = [
        f"<h1>{escape(title)}</h1><p class=lead>{escape(findings.without_draws(result))}</p>",
        f"<p class=read>{escape(RULE)} The digit is {escape(result.turn.rule)} (number {result.turn.index}).</p>",
        f"<section><div class=tiles>{_tiles(turn_tiles(result))}</div>"
        f"<p class='read small'>{READ_STRIP.strip()}</p></section>",
        _plot(plot_confidence, 3.6, findings.confidence_finding(result), READ_CONFIDENCE, result),
        _plot(plot_softmax, 4.4, findings.softmax_finding(result), READ_SOFTMAX, result),
        _plot(plot_entropy, 3.3, findings.entropy_finding(result), READ_ENTROPY, result),
        _plot(plot_ten, 3.6, findings.ten_finding(result), READ_TEN, result),
        _tally_table(result),
        section(
            findings.test_digits_finding(result),
            f"<p>{escape(findings.accuracy_finding(result))} {escape(findings.answered_finding(result))}</p>"
            f"<div class='tiles eight'>{_tiles(surest)}</div><div class='tiles eight'>{_tiles(least_sure)}</div>",
            READ_DIGITS.strip(),
        ),
        f"<h2>What to make of it</h2><p>{LIMITS}</p>",
        _how_made(result),
        _numbers_table(result),
    ]
    footer = "Made by <code>caveat demo</code>. Entropies and mutual information are in nats."
    return make_page(title, parts, footer=footer)


def _plot(plot: Callable[..., Axes], height: float, finding: str, how_to_read: str, result: Result) -> str:
    """A finding, its picture for either paper, and a sentence on how to read it."""
    images = "".join(
        f'<img class="plot {name}" alt="{escape(finding)}" '
        f'src="{data_url(picture(plot, result, height=height, theme=theme, title=False))}">'
        for name, theme in (("light", LIGHT), ("dark", DARK))
    )
    return section(finding, images, how_to_read.strip())


def _tiles(tiles: list[Tile]) -> str:
    return "".join(_tile(tile) for tile in tiles)


def _tile(tile: Tile) -> str:
    return (
        f"<figure><span>{escape(tile.above)}</span>"
        f'<img alt="{escape(tile.above)}" src="{data_url(tile_png(tile))}">'
        f"<b class={tile.kind}>{escape(tile.answer)}</b><span>{escape(tile.first_choice)}</span>"
        f"<span>{escape(tile.once)}</span></figure>"
    )


def _tally_table(result: Result) -> str:
    """Right, not sure and other over all ten digits, with draws and without."""
    tallies = findings.tally_ten(result.ten)
    rows = [
        (f"{result.plan.test_draws} draws", *map(str, tallies["with"])),
        ("one pass, dropout off", *map(str, tallies["without"])),
    ]
    return wide_table(("", "right", "not sure", "another digit"), rows, kind="tally")


def _numbers_table(result: Result) -> str:
    """Every number of the turn, folded away until asked for."""
    readings = result.turn.readings
    rows: list[tuple[str, ...]] = []
    for row, angle in enumerate(FULL_TURN):
        with_draws, alone = says(readings.mean[row]), says(readings.single[row])
        rows.append(
            (
                f"{angle}°",
                str(with_draws.answer) if with_draws.sure else f"not sure ({with_draws.answer})",
                f"{with_draws.probability:.3f}",
                f"{float(readings.sd[row, with_draws.answer]):.3f}",
                f"{float(readings.entropy[row]):.3f}",
                f"{float(readings.information[row]):.3f}",
                f"{alone.answer if alone.sure else f'not sure ({alone.answer})'} {alone.probability:.3f}",
            )
        )
    head = ("angle", "answer", "mean softmax", "sd over draws", "entropy", "mutual information", "single pass")
    return f"<details><summary>All angles as numbers</summary>{wide_table(head, rows)}</details>"


def _how_made(result: Result) -> str:
    """Data, network, training, draws, rule, seed."""
    plan, digits = result.plan, result.digits
    facts = {
        "Digits": f"{digits.name}: {digits.origin}",
        "Network": (
            "convolution 1→32 (5×5), ReLU, pool, spatial dropout ¼, convolution 32→64 (5×5), ReLU, pool, "
            "spatial dropout ¼, dense 128, ReLU, dropout ½, dense 10"
        ),
        "Training": (f"{len(digits.train_labels):,} upright digits, {plan.epochs} times each, and never a turned one"),
        "Draws": (
            f"{plan.draws:,} thinned networks, the same ones at every angle; they pin each mean softmax to "
            f"± {findings.draws_error(result):.3f} (its largest standard error). Test digits and the ten "
            f"turns: {plan.test_draws} draws each"
        ),
        "Rule": RULE + " The same in every run, with draws and without",
        "Seed": str(result.settings.seed),
    }
    return section("How it was made", list_facts(facts))
