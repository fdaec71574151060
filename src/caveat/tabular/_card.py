"""The model card: what a person should know before relying on a model, in Markdown.

See "Model Cards for Model Reporting", Mitchell et al., 2019.
"""

from __future__ import annotations

from caveat.tabular._dress import PLAIN
from caveat.tabular._model import Model
from caveat.tabular._schema import CategoryColumn, Column, DateColumn
from caveat.tabular._targets import Classes

_MOST_SHOWN = 8
_ABOUT = {
    "ensemble": "an ensemble of networks, each with dropout on while drawing",
    "mc_dropout": "one network with dropout on while drawing",
    "concrete_dropout": "one network with learned rates of dropout",
    "sngp": "one network with a Gaussian process as its last layer",
}


def model_card(model: Model) -> str:
    """The card of a model."""
    target, summary = model.target, model.summary
    if isinstance(target, Classes):
        total = max(sum(target.counts), 1)
        shares = zip(target.labels, target.counts, strict=True)
        said = f"the class of `{target.name}`: " + ", ".join(f"{label} ({n / total:.1%})" for label, n in shares)
    else:
        named = zip(target.names, target.shifts, target.scales, strict=True)
        said = "numbers: " + ", ".join(f"`{name}` (mean {mean:.4g}, sd {sd:.4g})" for name, mean, sd in named)
    held = model.calibration.rows
    honest = (
        f"{held:,} rows were held out; probabilities or variances and intervals are fitted to them."
        if held
        else "The table was too small to hold rows out: intervals are the network's own and may be too narrow."
    )
    lines = [
        "# Model card",
        "",
        f"Answers {said}.",
        "",
        f"* Method: {_ABOUT[model.settings.method]} ({len(model.networks)} trained, {model.settings.draws} draws).",
        f"* Trained on {summary.get('rows_trained_on', 0):,} of {summary.get('rows', 0):,} rows, seed "
        f"{model.settings.seed}.",
        f"* Calibration: {honest}",
        f"* Policy: {_policy(model)}",
        "",
        "## Columns it expects",
        "",
        "| column | holds | in training |",
        "| --- | --- | --- |",
        *(_row(column) for column in model.schema.columns),
        "",
        "## What to expect of it",
        "",
        "Where a category was never seen, a value is missing that never was, or a number is outside the range above,",
        "epistemic uncertainty rises; the mean stays that of the nearest known value. Odd combinations of common",
        "values are noticed only as far as the networks disagree. Intervals hold their level on average over rows like",
        "those of training, not row by row, and not after the data have shifted.",
        "",
    ]
    return "\n".join(lines)


def _row(column: Column) -> str:
    name = column.name.replace("|", "\\|").replace("\n", " ")
    if isinstance(column, DateColumn):
        first, last = column.parts[0].low, column.parts[0].high
        order = {"dmy": ", the day first", "mdy": ", the month first"}.get(column.order, "")
        return f"| {name} | dates{order} | days {first:.0f} to {last:.0f} since 1970 |"
    if isinstance(column, CategoryColumn):
        shown = ", ".join(column.categories[:_MOST_SHOWN]).replace("|", "\\|").replace("\n", " ")
        more = len(column.categories) - _MOST_SHOWN
        rest = f" and {more:,} more" if more > 0 else ""
        return f"| {name} | categories | {shown}{rest}; {column.missing:,} missing |"
    dress = "" if column.dress == PLAIN else f" ({column.dress})".replace("|", "\\|")
    return f"| {name} | numbers{dress} | {column.low:.6g} to {column.high:.6g}; {column.missing:,} missing |"


def _policy(model: Model) -> str:
    policy = model.policy
    if policy is None:
        return "none; every row is answered."
    measure = f"{policy['measure'].replace('_', ' ')}, {policy.get('unit', '')},"
    return f"rows with {measure} above {policy['cut']:.6g} are referred to a person."
