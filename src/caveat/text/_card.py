"""The model card: what a person should know before relying on a model, in Markdown.

See "Model Cards for Model Reporting", Mitchell et al., 2019.
"""

from __future__ import annotations

from caveat.text._model import Model
from caveat.text._targets import Classes

_MOST_SHOWN = 20


def model_card(model: Model) -> str:
    """The card of a model."""
    settings, summary = model.settings, model.summary
    held = model.calibration.rows
    honest = (
        f"{held:,} sentences were held out; probabilities or variances and intervals are fitted to them."
        if held
        else "there were too few sentences to hold some out: probabilities and intervals are the network's own."
    )
    count = len(model.networks)
    networks = "one network" if count == 1 else f"an ensemble of {count} networks, each"
    lines = [
        "# Model card",
        "",
        f"Reads a sentence and answers {_answers(model)}.",
        "",
        f"* Reader: {_reader(model)} At most {settings.max_length} of them are read of a sentence.",
        f"* Method: {networks} with dropout on while drawing, {settings.draws} draws.",
        f"* Trained on {summary.get('rows_trained_on', 0):,} of {summary.get('rows', 0):,} sentences, seed "
        f"{settings.seed}; {summary.get('rows_cut', 0):,} were cut.",
        f"* Calibration: {honest}",
        f"* Policy: {_policy(model)}",
        "",
        "## What to expect of it",
        "",
        *_unknown(model),
        "Sentences of another language, subject or kind than those of training are noticed only as far as the draws",
        "disagree or the answers are spread out: choose a cut, and look at what it lets through. Intervals and sets",
        "hold their level on average over sentences like those of training, not one by one, and not after a change.",
        "",
    ]
    return "\n".join(lines)


def _answers(model: Model) -> str:
    target = model.target
    if isinstance(target, Classes):
        total = max(sum(target.counts), 1)
        most = sorted(zip(target.labels, target.counts, strict=True), key=lambda pair: -pair[1])
        named = ", ".join(f"{_plain(label)} ({n / total:.1%})" for label, n in most[:_MOST_SHOWN])
        more = len(most) - _MOST_SHOWN
        return f"one of {len(most)} classes: {named}{f' and {more} more' if more > 0 else ''}"
    pairs = zip(target.shifts, target.scales, strict=True)
    return "with numbers: " + ", ".join(f"mean {mean:.4g}, sd {sd:.4g} in training" for mean, sd in pairs)


def _reader(model: Model) -> str:
    if model.encoder is None:
        return f"an LSTM in each direction over {len(model.vocabulary or ()):,} known words, trained from nothing."
    how = "trained on with these sentences, its own dropout on" if model.settings.fine_tune else "as it was published"
    return f"the encoder `{_plain(model.encoder.name)}`, {how}; it reads tokens."


def _unknown(model: Model) -> list[str]:
    if model.vocabulary is None:
        return ["The encoder reads words that were not in training too, but what they mean here it was not taught."]
    return ["A word that was not in training has another vector in each draw, so that epistemic uncertainty rises."]


def _policy(model: Model) -> str:
    policy = model.policy
    if policy is None:
        return "none; every sentence is answered."
    return f"sentences with {policy['measure']} above {policy['cut']:.6g} are refused ({policy['why']})."


def _plain(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")
