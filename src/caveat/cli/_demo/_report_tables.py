"""The report's tables: the tally over ten digits, how it was made, and every number."""

from __future__ import annotations

from html import escape

from caveat.cli._demo import _findings as findings
from caveat.cli._demo._readings import RULE, says
from caveat.cli._demo._rotation import FULL_TURN
from caveat.cli._demo._story import Result
from caveat.cli._report_page import list_facts


def tally_table(result: Result) -> str:
    """Right, not sure and other over all ten digits, with draws and without."""
    tallies = findings.tally_ten(result.ten)
    rows = [
        (f"{result.plan.test_draws} draws", *map(str, tallies["with"])),
        ("one pass, dropout off", *map(str, tallies["without"])),
    ]
    return _table(("", "names the digit", "not sure", "names another"), rows, kind="tally")


def numbers_table(result: Result) -> str:
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
    head = ("angle", "answer", "mean softmax", "sd over draws", "entropy", "mutual information", "asked once")
    return f"<details><summary>All angles as numbers</summary>{_table(head, rows)}</details>"


def how_made(result: Result) -> str:
    """Data, network, training, draws, rule, seed."""
    plan, digits = result.plan, result.digits
    facts = {
        "Digits": f"{digits.name}: {digits.origin}",
        "Network": (
            "convolution 1→32 (5×5), ReLU, pool, spatial dropout ¼, convolution 32→64 (5×5), ReLU, pool, "
            "spatial dropout ¼, dense 128, ReLU, dropout ½, dense 10"
        ),
        "Training": (
            f"{len(digits.train_labels):,} upright digits, {plan.epochs} times each, and never a turned one"
        ),
        "Draws": (
            f"{plan.draws:,} thinned networks, the same ones at every angle; they pin each mean softmax to "
            f"± {findings.draws_error(result):.3f} (its largest standard error). Test digits and the ten "
            f"turns: {plan.test_draws} draws each"
        ),
        "Rule": RULE + " The same in every run, with draws and without",
        "Seed": str(result.settings.seed),
    }
    return f"<section><h2>How it was made</h2>{list_facts(facts)}</section>"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], kind: str = "numbers") -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table class={kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=wide>{table}</div>"
