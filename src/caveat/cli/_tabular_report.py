"""The report of `caveat evaluate`: one HTML file with its pictures inside, each with a sentence on how to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, cast

import torch

from caveat._estimators import Classes, Model, uncertainty_of
from caveat.cli._report_page import data_url, list_facts, make_page, section, wide_table
from caveat.cli._tabular_drift import Drift
from caveat.cli._tabular_pictures import (
    picture,
    plot_calibration,
    plot_drift,
    plot_error_by_uncertainty,
    plot_parts,
    plot_referred,
)
from caveat.cli._tabular_rows import choose_rows, rows_table
from caveat.cli._tabular_scores import Score, describe_interval, describe_policy, interval_of_fraction
from caveat.cli._tabular_tested import Judged, Tested
from caveat.predictive import Categorical

_MOST_CONFUSED, _MOST_PAIRS, _MOST_NAMED = 12, 12, 4
_MORE = """
img.plot{max-width:560px} td.wrap,th.wrap{white-space:normal;text-align:left;min-width:13em}
td.text,th.text{text-align:left}
@media screen and (prefers-color-scheme:dark){img.plot{filter:invert(1) hue-rotate(180deg);mix-blend-mode:screen}}
@media (max-width:640px){
 td:first-child{white-space:normal} th,td{padding:.32em .35em} table{font-size:.82rem}
 .rows{font-size:.8rem} .rows tr{display:grid;grid-template-columns:.6fr .9fr 1.3fr 1.2fr 1.1fr;padding:.4em 0;
 border-bottom:1px solid var(--grid)}
 .rows td,.rows th{border:0;padding:.15em .3em;white-space:normal} .rows td{overflow-wrap:anywhere}
 .rows .wrap{grid-column:1/-1;min-width:0}
}
"""


def report_html(tested: Tested, drifts: list[Drift], scores: list[Score], policy: dict[str, Any] | None) -> str:
    """The whole page."""
    model = tested.model
    usual, epistemic = model.target.usual_measure, model.target.epistemic_measure
    least_sure = choose_rows(tested, uncertainty_of(model, tested.pred, usual), [])
    least_known = choose_rows(tested, uncertainty_of(model, tested.pred, epistemic), least_sure)
    sections = [
        *judged_sections(tested),
        section("Rows it is least sure of", rows_table(tested, least_sure, usual), _read_rows(tested)),
    ]
    if least_known:
        sections.append(
            section(
                "Rows it has seen too few of",
                rows_table(tested, least_known, epistemic),
                "These have the highest epistemic uncertainty of all other rows: the first to look "
                "at when new kinds of rows turn up, and the first to have labeled for the next training.",
            )
        )
    sections += [
        _plot(
            "Do these rows look like those of training?",
            lambda: plot_drift(drifts),
            "Each bar is the population stability index of a column between this file and the training data, less what "
            "a random split of as many rows would show. Gray: no more than chance; green: little; orange: some; red: "
            "so much that the numbers above may not hold for long. Dotted: 0.1 and 0.25, the usual limits of some and "
            "of much drift.",
        ),
        _drift_table(drifts),
    ]
    return page_of(tested, scores, policy, _lead(tested, drifts, policy), sections, _facts(tested, policy))


def page_of(
    tested: Judged,
    scores: list[Score],
    policy: dict[str, Any] | None,
    lead: str,
    sections: Sequence[str],
    facts: Mapping[str, str],
) -> str:
    """Returns the page of a model that was judged: its scores, then the sections, then how all was made."""
    title = headline(tested, scores)
    whole = [
        f"<h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>",
        policy_section(tested, policy),
        scores_table(scores),
        *sections,
        f"<h2>How this was made</h2>{list_facts(facts)}",
    ]
    return make_page(title, whole, style=_MORE, footer="Made by <code>caveat evaluate</code>.")


def judged_sections(tested: Judged) -> list[str]:
    """Returns the plots of how far to trust a model, each with a sentence on how to read it."""
    classes = isinstance(tested.pred, Categorical)
    if classes:
        claims = (
            "A bar that ends on the dashed line is a claim that holds; where a bar stays below it, the model is "
            "overconfident. The gray strip is the fraction of rows that make each claim."
        )
    else:
        claims = (
            "On the dashed line, intervals hold as many targets as they claim; below it they are too narrow, above it "
            "too wide. “Mean and std as normal” is the normal distribution of those two columns."
        )
        if tested.model.calibration.rows:
            claims += " “Intervals as written” are those of caveat predict, fitted to rows that were not trained on."
    sections = [
        _plot("Does it keep what it claims?", lambda: plot_calibration(tested), claims),
        _plot(
            "Is it more often wrong where it is less sure?"
            if classes
            else "Are its errors larger where it is less sure?",
            lambda: plot_error_by_uncertainty(tested),
            "Bars should rise to the right, with the dots at their tops: then more uncertainty means more error, by "
            "as much as the model expects.",
        ),
        _plot(
            "What deferring the least sure rows gains",
            lambda: plot_referred(tested),
            "Further right, more of the least certain rows are deferred to a person; the line shows how good the "
            "answers to the rest are. Gray lines: rows deferred at random, and by an oracle that knows the errors.",
        ),
        _plot(
            "Noise, or too few rows like it?",
            lambda: plot_parts(tested),
            "Each dot is a row. At the top the model has seen too few rows like it (epistemic: more data would help); "
            "at the right rows like it differ among themselves (aleatoric: more data would not help).",
        ),
    ]
    return [sections[0], *confusion_sections(tested), *sections[1:]]


def confusion_sections(tested: Judged) -> list[str]:
    """Returns the table of true classes against answers, of many classes the most common errors; of numbers nothing."""
    if not isinstance(tested.pred, Categorical):
        return []
    labels = cast(Classes, tested.model.target).labels
    C, answers = len(labels), tested.pred.predicted.cpu()
    counts = torch.bincount(tested.truth * C + answers, minlength=C * C).reshape(C, C)
    listed = cast("list[list[int]]", counts.tolist())
    if C <= _MOST_CONFUSED:
        rows = [
            [label, *(f"{n:,}" for n in row), f"{row[i] / sum(row):.1%}" if sum(row) else ""]
            for i, (label, row) in enumerate(zip(labels, listed, strict=True))
        ]
        table = wide_table(["truth", *labels, "recall"], rows, bold=[(i, i + 1) for i in range(C)])
        words = (
            "Rows are true classes, columns are answers; right answers are bold. “Recall” is the fraction of a class's "
            "rows that are answered correctly."
        )
    else:
        counts.fill_diagonal_(0)
        pairs = cast("list[int]", counts.reshape(-1).argsort(descending=True, stable=True)[:_MOST_PAIRS].tolist())
        rows = [
            [labels[k // C], labels[k % C], f"{listed[k // C][k % C]:,}"] for k in pairs if counts.reshape(-1)[k] > 0
        ]
        table = wide_table(["truth", "answer", "rows"], rows, kinds={1: "text"})
        words = "The most common wrong answers."
    return [section("Which classes does it confuse?", table, words)]


def policy_section(tested: Judged, policy: dict[str, Any] | None) -> str:
    """Returns what the threshold does with these rows: how many are answered, and how good answers are; or nothing."""
    if policy is None or tested.model.policy is None:
        return ""
    rows, answered = len(tested.truth), policy["answered"]
    kept = round(answered * rows)
    wrong = "wrong" if policy["tolerance"] is None else f"off by more than {policy['tolerance']:g}"
    judged = policy["risk_all"] is not None
    listed: list[list[str]] = []
    for name, count in (("answered", kept), ("deferred", rows - kept), ("all", rows)):
        risk = policy[f"risk_{name}"]
        low, high = (0.0, 1.0) if risk is None else interval_of_fraction(risk, count)
        judgment = ["", ""] if risk is None else [f"{risk:.1%}", f"{low:.1%} to {high:.1%}"]
        listed.append([name, f"{count:,}", f"{count / rows:.1%}", *(judgment if judged else ())])
    titles = ["", "rows", "fraction", *((wrong, "95 % interval") if judged else ())]
    measure = f"{str(policy['measure']).replace('_', ' ')}, {policy['unit']},"
    why = str(tested.model.policy["why"])  # it begins with the name of what it is a threshold of
    return section(
        "What its threshold does",
        wide_table(titles, listed),
        f"Rows are deferred to a person where {escape(measure)} is above "
        f"{policy['threshold']:.7g}. The threshold was chosen for {escape(why.partition(': ')[2] or why)}.",
    )


def headline(tested: Judged, scores: list[Score]) -> str:
    """Returns the page's title: how many answers are right, or how far off they are, each target by itself."""
    names, rows = tested.model.target.names, f"{len(tested.truth):,} {tested.model.kind.rows}"
    if isinstance(tested.pred, Categorical):
        return f"{names[0]}: right on {scores[0].value:.1%} of {rows}"
    errors = [score.value for score in scores if score.name.startswith("root_mean_squared_error")]
    listed = [f"{name}: off by {error:.3g}" for name, error in zip(names, errors, strict=True)]
    more = [f"{len(names) - _MOST_NAMED} more below"] if len(names) > _MOST_NAMED else []
    return f"{', '.join([*listed[:_MOST_NAMED], *more])} on {rows} (root mean square)"


def _lead(tested: Tested, drifts: list[Drift], policy: dict[str, Any] | None) -> str:
    moved = [drift.column for drift in drifts if drift.moved == "much"]
    unlike = float(tested.unlike.any(1).double().mean())
    usual = tested.model.summary.get("epistemic_median")
    strange = f"{unlike:.1%} of the rows hold a value unlike training: out of range, or new."
    doubts = [f"Warning: {note}." for note in tested.warnings]
    parts = [lead_policy(policy), *warnings_of(tested), *doubts, strange]
    if usual is not None:
        by = uncertainty_of(tested.model, tested.pred, tested.model.target.epistemic_measure)
        less_known = float((by > usual).double().mean())
        parts.append(f"{less_known:.0%} have more epistemic uncertainty than the median row held out in training.")
    if moved:
        parts.append("Drifted since training: " + ", ".join(moved[:6]) + ".")
    return " ".join(parts)


def warnings_of(tested: Judged) -> list[str]:
    """Returns what must be said of a model before its numbers are read: that nothing calibrates it."""
    if tested.model.calibration.rows:
        return []
    return ["It is not calibrated: its probabilities and intervals are the networks' own and guarantee nothing."]


def lead_policy(policy: dict[str, Any] | None) -> str:
    """Returns the policy's effect as a sentence."""
    if policy is None:
        return "Every answer is given: no threshold was chosen."
    effect, _, _ = describe_policy(policy).partition(";")
    without = "" if policy["risk_all"] is None else f"; without it, {policy['risk_all']:.1%} would be wrong"
    return f"With its threshold: {effect}{without}."


def _plot(title: str, draw: Callable[[], Any], how_to_read: str) -> str:
    image = f"<img class=plot alt='{escape(title)}' src='{data_url(picture(draw))}'>"
    return section(title, image, escape(how_to_read))


def scores_table(scores: list[Score]) -> str:
    """Returns the metrics with their intervals as a table."""
    titles = [f"{score.title} ({score.unit})" if score.unit else score.title for score in scores]
    rows = [
        [title, f"{score.value:.4g}", describe_interval(score.low, score.high)]
        for title, score in zip(titles, scores, strict=True)
    ]
    return section(
        "Its scores on these rows",
        wide_table(["metric", "value", "95 % interval"], rows),
        "Confidence intervals for very many rows from the same source: exact for fractions (Clopper and Pearson), "
        "else a bootstrap over rows, corrected for its bias. The bootstrap says nothing where all resamples give the "
        "same number, as for a single row or where no answer is wrong.",
    )


def _read_rows(tested: Tested) -> str:
    unit = "nats" if tested.model.target.classifies else "standard deviations in the target's unit"
    return (
        f"“Line” is the line of the file; epistemic and aleatoric uncertainty are in {unit}. Where “why” says "
        "“aleatoric”, a person with the same columns would not know better; where it says “epistemic”, more rows "
        "like it would help."
    )


def _drift_table(drifts: list[Drift]) -> str:
    rows = [[d.column, f"{d.index:.3f}", f"{d.chance:.3f}", d.moved or "no", f"{d.new:.1%}", d.words] for d in drifts]
    titles = ["column", "stability index", "by chance alone", "drift", "unlike training", "what differs most"]
    return f"<details><summary>Every column</summary>{wide_table(titles, rows, kinds={5: 'wrap'})}</details>"


def _facts(tested: Tested, policy: dict[str, Any] | None) -> dict[str, str]:
    model, seen, total = tested.model, len(tested.truth), tested.sample.total
    rule = "every row is answered"
    if policy is not None and model.policy is not None:
        rule = f"{describe_policy(policy)} ({model.policy['why']})"
    return {
        "file": tested.sample.file,
        "rows": f"{seen:,}{f', drawn evenly from {total:,}' if total > seen else ''}",
        "method": f"{model.settings.method}, {len(model.networks)} networks, {int(tested.pred.count)} draws",
        **training_facts(model),
        "policy": rule,
    }


def training_facts(model: Model) -> dict[str, str]:
    """Returns what a page says of how a model was trained and calibrated."""
    rows = f"{model.summary.get('rows_trained_on', 0):,} {model.kind.rows}"
    return {"trained on": rows, "calibrated by": model.describe_calibration()}
