"""The report of `caveat evaluate` on pictures: what that of tables shows, and the pictures it is least sure of."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from caveat._estimators import describe_calibration, epistemic_measure, uncertainty_of, usual_measure
from caveat._extras import require
from caveat.cli._picture_tested import TestedPictures
from caveat.cli._report_page import data_url, list_facts
from caveat.cli._tabular_report import (
    headline,
    judged_sections,
    lead_policy,
    page_of,
    policy_section,
    scores_table,
    warnings_of,
)
from caveat.cli._tabular_rows import answer_text, truth_text
from caveat.cli._tabular_scores import Score, describe_policy
from caveat.predictive import Categorical

_SHOWN, _SIDE = 24, 96
_MOST_NAMED = 50


def picture_report(tested: TestedPictures, scores: list[Score], policy: dict[str, Any] | None) -> str:
    """Returns the whole page."""
    title = headline(tested, scores)
    model = tested.model
    least_sure = uncertainty_of(model, tested.pred, usual_measure(model))
    least_known = uncertainty_of(model, tested.pred, epistemic_measure(model))
    sections = [
        f"<h1>{escape(title)}</h1><p class=lead>{escape(_lead(tested, policy))}</p>",
        policy_section(tested, policy),
        scores_table(scores),
        _mosaic(
            tested,
            "Pictures it is least sure of",
            least_sure,
            "Over each picture its truth, under it the answer, and its file; the least sure comes first.",
        ),
        _mosaic(
            tested,
            "Pictures of which it has seen too few",
            least_known,
            "These have the highest epistemic uncertainty: the first to look at when another kind of pictures turns "
            "up, and the first to have labeled for the next training.",
        ),
        *judged_sections(tested),
        _left_out(tested),
        _how(tested, policy),
    ]
    return page_of(title, sections)


def _lead(tested: TestedPictures, policy: dict[str, Any] | None) -> str:
    count = len(tested.left_out)
    left_out = f" Pictures left out: {count:,}, which cannot be read or show nothing." if count else ""
    return " ".join([f"{lead_policy(policy)}{left_out}", *warnings_of(tested)])


def _mosaic(tested: TestedPictures, title: str, by: Tensor, how_to_read: str) -> str:
    rows = by.argsort(descending=True, stable=True)[:_SHOWN]
    tiles = "".join(_tile(tested, row) for row in cast("list[int]", rows.tolist()))
    return (
        f"<section><h2>{escape(title)}</h2><div class='tiles eight'>{tiles}</div>"
        f"<p class='read small'>{escape(how_to_read)}</p></section>"
    )


def _tile(tested: TestedPictures, row: int) -> str:
    path = tested.sources[row]
    kind = "unsure"
    if isinstance(tested.pred, Categorical):
        kind = "other" if bool(tested.wrong[row]) else "right"
    name = f"{path.parent.name}/{path.name}"
    return (
        f"<figure title='{escape(str(path), quote=True)}'><span>{escape(truth_text(tested, row))}</span>"
        f"<img alt='{escape(name, quote=True)}' src='{data_url(_thumbnail(tested, path))}'>"
        f"<b class={kind}>{escape(answer_text(tested, row))}</b>"
        f"<span>{escape(name if len(name) <= 18 else '…' + name[-17:])}</span></figure>"
    )


def _thumbnail(tested: TestedPictures, path: Path) -> bytes:
    file = io.BytesIO()
    with require("PIL.Image", "image").open(path) as image:
        ready = tested.model.reader.upright(image)
        ready = ready.convert("L" if ready.mode == "1" else ready.mode).convert("RGBA")
        ready.thumbnail((_SIDE, _SIDE))
        ready.save(file, "PNG")
    return file.getvalue()


def _left_out(tested: TestedPictures) -> str:
    if not tested.left_out:
        return ""
    named = list(tested.left_out.items())
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(why)}</td></tr>" for name, why in named[:_MOST_NAMED])
    more = f"<p class='read small'>And {len(named) - _MOST_NAMED:,} more.</p>" if len(named) > _MOST_NAMED else ""
    return (
        f"<section><h2>Pictures that were left out: {len(named):,}</h2><div class=wide><table>"
        f"<tr><th>file</th><th>why</th></tr>{rows}</table></div>{more}</section>"
    )


def _how(tested: TestedPictures, policy: dict[str, Any] | None) -> str:
    model, seen = tested.model, len(tested.truth)
    drawn = f", drawn evenly from {tested.total:,}" if tested.total > seen + len(tested.left_out) else ""
    pairs = {
        "pictures": f"{seen:,} of {tested.file}{drawn}",
        "method": f"{len(model.networks)} networks, {int(tested.pred.count)} draws",
        "trained on": f"{model.summary.get('rows_trained_on', 0):,} pictures",
        "calibrated by": describe_calibration(model),
        "policy": "every picture is answered" if policy is None else describe_policy(policy),
    }
    return f"<h2>How this was made</h2>{list_facts(pairs)}"
