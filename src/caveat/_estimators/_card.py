"""The model card: what a person should know before relying on a model, in Markdown.

See "Model Cards for Model Reporting", Mitchell et al., 2019.
"""

from __future__ import annotations

from textwrap import wrap

from caveat._estimators._model import Model
from caveat._estimators._targets import Classes

_MOST_CLASSES = 20
_WIDTH = 105


def model_card(model: Model) -> str:
    """Returns the card of a model."""
    own, summary, rows = model.kind.describe(model), model.summary, model.kind.rows
    trained, given = summary.get("rows_trained_on", 0), summary.get("rows", 0)
    lines = [
        "# Model card",
        "",
        f"Answers {_answers(model)}.",
        "",
        *(f"* {line}" for line in own.method),
        f"* Trained on {trained:,} of {given:,} {rows}, random state {model.settings.random_state}.",
        f"* Calibration: {model.describe_calibration()}.",
        *_tails(model),
        f"* Policy: {_policy(model)}",
        "",
        *own.inputs,
        "## What to expect from it",
        "",
        *own.limits,
        *_promise(model),
        "",
    ]
    return "\n".join(lines)


def _tails(model: Model) -> tuple[str, ...]:
    heavy = [
        f"of {nu} degrees of freedom{'' if model.target.count == 1 else f' (`{plain_text(name)}`)'}"
        for name, nu in zip(model.target.names, model.calibration.freedom, strict=False)
        if nu is not None
    ]
    return (f"* Errors have tails heavier than a normal's: Student's t {', '.join(heavy)}.",) if heavy else ()


def _promise(model: Model) -> tuple[str, ...]:
    rows = model.kind.rows
    if not model.calibration.rows:
        return ("Probabilities and intervals guarantee nothing: no rows were left to calibrate them on.",)
    return (
        f"Intervals and sets hold their level on average over {rows} like those of training, not one by one, and not",
        "after the data have shifted.",
    )


def draws_line(model: Model) -> str:
    """Returns the line on networks whose dropout is on in draws."""
    count = len(model.networks)
    networks = "one network" if count == 1 else f"an ensemble of {count} networks, each"
    return f"Method: {networks} with dropout on while drawing, {model.settings.draws} draws."


def unlike_lines(rows: str) -> list[str]:
    """Returns the lines on rows unlike those of training, such as "Sentences of another kind"."""
    text = (
        f"{rows} than those of training are noticed only as far as the draws disagree or the answers are spread out: "
        "choose a threshold, and look at what it lets through."
    )
    return wrap(text, _WIDTH)


def plain_text(text: str) -> str:
    """Returns text that stays within its line and its backquotes or cell of a table."""
    return text.replace("`", "'").replace("|", "\\|").replace("\n", " ")


def _answers(model: Model) -> str:
    target = model.target
    if isinstance(target, Classes):
        total = max(sum(target.counts), 1)
        most = sorted(zip(target.labels, target.counts, strict=True), key=lambda pair: -pair[1])
        named = ", ".join(f"{plain_text(label)} ({n / total:.1%})" for label, n in most[:_MOST_CLASSES])
        more = len(most) - _MOST_CLASSES
        about = f"one of {len(most)} classes of `{plain_text(target.name)}`"
        return f"{about}: {named}{f' and {more} more' if more > 0 else ''}"
    named = zip(target.names, target.shifts, target.scales, strict=True)
    each = ", ".join(f"`{plain_text(name)}` (mean {mean:.4g}, sd {sd:.4g} in training)" for name, mean, sd in named)
    return f"with numbers: {each}"


def _policy(model: Model) -> str:
    policy, rows = model.policy, model.kind.rows
    if policy is None:
        return f"none; all {rows} are answered."
    measure = f"{policy['measure']}, {policy['unit']},"
    return f"{rows} with {measure} above {policy['threshold']:.6g} are deferred ({policy['why']})."
