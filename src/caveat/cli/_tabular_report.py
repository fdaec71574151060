"""The report of `caveat evaluate`: one HTML file with its pictures inside, each with a sentence on how to read it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, cast

import torch
from torch import Tensor

from caveat._estimators import Classes, epistemic_measure, uncertainty_of, usual_measure
from caveat._tables import ABSENT
from caveat.cli._report_style import STYLE
from caveat.cli._tabular_drift import Drift
from caveat.cli._tabular_pictures import (
    picture,
    plot_calibration,
    plot_drift,
    plot_error_by_uncertainty,
    plot_parts,
    plot_referred,
)
from caveat.cli._tabular_policy import describe_policy
from caveat.cli._tabular_scores import Score
from caveat.cli._tabular_tested import Judged, Tested
from caveat.predictive import Categorical

_LEAST_SURE = 8
_MOST_COLUMNS = 5
_MORE = """
section img.plot{background:#fff;border-radius:6px;padding:6px}
td.wrap,th.wrap{white-space:normal;text-align:left;min-width:13em} td.text,th.text{text-align:left}
"""


def report_html(tested: Tested, drifts: list[Drift], scores: list[Score], policy: dict[str, Any] | None) -> str:
    """The whole page."""
    title = headline(tested, scores)
    sections = [
        f"<h1>{escape(title)}</h1><p class=lead>{escape(_lead(tested, drifts, policy))}</p>",
        scores_table(scores),
        *judged_sections(tested),
        f"<section><h2>The rows it is least sure of</h2>{_rows_table(tested, usual_measure(tested.model))}"
        f"<p class='read small'>{_read_rows(tested)}</p></section>",
        f"<section><h2>The rows it knows least about</h2>{_rows_table(tested, epistemic_measure(tested.model))}"
        "<p class='read small'>These have the highest epistemic uncertainty: the first to look at when new "
        "kinds of rows "
        "turn up, and the first to have labeled for the next training.</p></section>",
        _section(
            "Has the table moved since training?",
            lambda: plot_drift(drifts),
            "A bar is how much the distribution of a column in this file differs from that in training, less what a "
            "random split of so many rows would show: gray no more than chance brings, green little, orange some, red "
            "so much that all numbers above may not hold for long.",
        ),
        _drift_table(drifts),
        _how(tested, policy),
    ]
    return page(title, sections)


def page(title: str, sections: Sequence[str]) -> str:
    """Returns the sections as one HTML page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_MORE}</style></head><body><main>\n"
        + "\n".join(sections)
        + "\n<footer class=small>Made by <code>caveat evaluate</code>.</footer></main></body></html>\n"
    )


def judged_sections(tested: Judged) -> list[str]:
    """Returns the plots of how far to trust a model, each with a sentence on how to read it."""
    classes = isinstance(tested.pred, Categorical)
    return [
        _section(
            "Does it claim what it keeps?",
            lambda: plot_calibration(tested),
            "Bars that end on the dashed line are claims that come true; where a bar stays under it, the model "
            "is surer "
            "than it is right."
            if classes
            else "On the dashed line intervals hold as many targets as they claim; a line under it means intervals "
            "that are too narrow.",
            width=460,
        ),
        _section(
            "What referring the least sure rows buys",
            lambda: plot_referred(tested),
            "Going right, ever more of the least sure rows are deferred to a person, and the line shows how good the "
            "answers to the rest are; gray lines are rows picked at random, and by one who knows the errors.",
        ),
        _section(
            "Is it wrong where it says so?",
            lambda: plot_error_by_uncertainty(tested),
            "Bars should rise to the right, and dots should sit on top of them: then a doubt means an error, of "
            "the size "
            "that was announced.",
        ),
        _section(
            "Which kind of doubt",
            lambda: plot_parts(tested),
            "A dot is a row; high up the model has seen too little like it (epistemic, more data would help), "
            "far right "
            "rows like it differ among themselves (aleatoric, more data would not).",
        ),
    ]


def headline(tested: Judged, scores: list[Score]) -> str:
    """Returns the page's title: how many answers are right, or how far off they are."""
    first, rows = scores[0], f"{len(tested.truth):,} {tested.model.kind.rows}"
    name = " and ".join(tested.model.target.names)
    if isinstance(tested.pred, Categorical):
        return f"{first.value:.1%} of {rows} are answered right ({name})"
    return f"{name}: off by {first.value:.4g} (RMSE) on {rows}"


def _lead(tested: Tested, drifts: list[Drift], policy: dict[str, Any] | None) -> str:
    moved = [drift.column for drift in drifts if drift.moved == "much"]
    new = float((tested.unfamiliar >= 1).any(1).double().mean())
    usual = tested.model.summary.get("epistemic_median")
    parts = [f"{new:.1%} of the rows hold a value unlike any in training."]
    if usual is not None:
        by = uncertainty_of(tested.model, tested.pred, epistemic_measure(tested.model))
        less_known = float((by > usual).double().mean())
        parts.append(f"{less_known:.0%} are less known to the model than the median row held out in training.")
    if moved:
        parts.append("Much moved since training: " + ", ".join(moved[:6]) + ".")
    if policy is not None:
        parts.append(f"The policy: {describe_policy(policy)}.")
    return " ".join(parts)


def _section(title: str, draw: Callable[[], Any], how_to_read: str, width: int = 660) -> str:
    url = f"data:image/png;base64,{b64encode(picture(draw)).decode('ascii')}"
    return (
        f"<section><h2>{escape(title)}</h2><img class=plot style='max-width:{width}px' alt='{escape(title)}' "
        f"src='{url}'>"
        f"<p class='read small'>{escape(how_to_read)}</p></section>"
    )


def scores_table(scores: list[Score]) -> str:
    """Returns the metrics with their intervals as a table."""
    rows = "".join(
        f"<tr><td>{escape(score.title)}{f' ({score.unit})' if score.unit else ''}</td><td>{score.value:.4g}</td>"
        f"<td>{score.low:.4g} to {score.high:.4g}</td></tr>"
        for score in scores
    )
    return (
        f"<section><div class=wide><table><tr><th>metric</th><th>value</th><th>95 % "
        f"interval</th></tr>{rows}</table></div>"
        "<p class='read small'>The interval is what the metric would be on other files of this size from the same "
        "source: a percentile bootstrap over rows.</p></section>"
    )


def _rows_table(tested: Tested, measure: str) -> str:
    by = uncertainty_of(tested.model, tested.pred, measure)
    chosen = by.argsort(descending=True, stable=True)[:_LEAST_SURE]
    parts = tested.parts()
    head = "<tr><th>line</th><th class=text>truth</th><th class=text>answer</th><th>epistemic</th><th>aleatoric</th>"
    cells: list[str] = []
    numbers = cast("list[int]", chosen.tolist())
    for row in numbers:
        words = why(tested, row, little_known=measure == epistemic_measure(tested.model))
        cells.append(
            f"<tr><td>{int(tested.sample.lines[row])}</td><td class=text>{escape(truth_text(tested, row))}</td>"
            f"<td class=text>{escape(answer_text(tested, row))}</td><td>{float(parts['epistemic'][row]):.3g}</td>"
            f"<td>{float(parts['aleatoric'][row]):.3g}</td><td class=wrap>{escape(words)}</td></tr>"
        )
    return f"<div class=wide><table>{head}<th class=wrap>why</th></tr>{''.join(cells)}</table></div>"


def why(tested: Tested, row: int, *, little_known: bool = False) -> str:
    """In words, which kind of doubt a row has most of, and which of its values are unlike training.

    ``little_known`` speaks of its epistemic uncertainty, whatever else it has.
    """
    found = cast("list[float]", tested.unfamiliar[row].tolist())
    strange = [(value, k) for k, value in enumerate(found) if value >= 0.25]
    schema = tested.model.reader.schema
    N = len(schema.numbers)
    words: list[str] = []
    for amount, place in sorted(strange, reverse=True)[:_MOST_COLUMNS]:
        name = schema.numbers[place].name if place < N else schema.categories[place - N].name
        if place < N:
            absent = bool(tested.encoded[row, N + place])
            words.append(f"{name} is missing" if absent else f"{name} is {amount:.2g} sd out of range")
        else:
            code = int(tested.encoded[row, 2 * N + place - N])
            words.append(
                f"{name} is missing" if code == ABSENT else f"{name} is new" if amount == 1 else f"{name} is rare"
            )
    parts = tested.parts()
    epistemic, aleatoric = float(parts["epistemic"][row]), float(parts["aleatoric"][row])
    if little_known or epistemic > 0.5 * aleatoric:
        return "epistemic: " + (", ".join(words) or "the draws disagree, rows like it were few")
    return "; ".join(["aleatoric: rows like it differ in the target", *words])


def truth_text(tested: Judged, row: int) -> str:
    """Returns the answer that a row should have."""
    target = tested.model.target
    if isinstance(target, Classes):
        return target.labels[int(tested.truth[row])]
    truth = cast("list[float]", tested.truth[row].tolist())
    return ", ".join(f"{value:.5g}" for value in truth)


def answer_text(tested: Judged, row: int) -> str:
    """Returns the answer that a row has, and how sure it is."""
    target, pred = tested.model.target, tested.pred
    if isinstance(target, Classes) and isinstance(pred, Categorical):
        best = int(pred.predicted[row])
        return f"{target.labels[best]} ({float(pred.mean[row, best]):.0%})"
    spread: Tensor = pred.variance.sqrt() if not isinstance(pred, Categorical) else torch.zeros(1)
    means = cast("list[float]", pred.mean[row].tolist())
    deviations = cast("list[float]", spread[row].tolist())
    pairs = zip(means, deviations, strict=True)
    return ", ".join(f"{mean:.5g} ± {float(f'{sd:.2g}'):.6g}" for mean, sd in pairs)  # 190, and not 1.9e+02


def _read_rows(tested: Tested) -> str:
    unit = "nats" if tested.model.classifies else "standard deviations in the target's unit"
    return (
        f"The line is that of the file; epistemic and aleatoric uncertainty are in {unit}. Where it says "
        f"“aleatoric”, a "
        "person with the same columns would not know better; where it says “epistemic”, more rows like it would help."
    )


def _drift_table(drifts: list[Drift]) -> str:
    rows = "".join(
        f"<tr><td>{escape(drift.column)}</td><td>{drift.index:.3f}</td><td>{drift.chance:.3f}</td>"
        f"<td>{drift.moved or 'no'}</td><td>{drift.new:.1%}</td>"
        f"<td class=wrap>{escape(drift.words)}</td></tr>"
        for drift in drifts
    )
    return (
        "<details><summary>Every column</summary><div class=wide><table><tr><th>column</th><th>stability index</th>"
        "<th>of chance alone</th><th>moved</th>"
        f"<th>outside of training</th><th class=wrap>what differs most</th></tr>{rows}</table></div></details>"
    )


def _how(tested: Tested, policy: dict[str, Any] | None) -> str:
    model = tested.model
    rule = "every row is answered"
    if policy is not None and model.policy is not None:
        rule = f"{describe_policy(policy)} ({model.policy['why']})"
    if tested.sample.total > len(tested.truth):
        rows = f"{len(tested.truth):,}, drawn evenly from {tested.sample.total:,}"
    else:
        rows = f"{len(tested.truth):,}"
    pairs = {
        "file": tested.sample.file,
        "rows": rows,
        "method": f"{model.settings.method}, {len(model.networks)} networks, {int(tested.pred.count)} draws",
        "trained on": f"{model.summary.get('rows_trained_on', 0):,} rows; {model.calibration.rows:,} held out "
        "to calibrate",
        "policy": rule,
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in pairs.items())
    return f"<h2>How this was made</h2><dl>{listed}</dl>"
