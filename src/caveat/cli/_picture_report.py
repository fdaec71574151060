"""The report of `caveat evaluate` on pictures: what that of tables shows, and the pictures it is least sure of."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from caveat._estimators import uncertainty_of
from caveat._extras import require
from caveat._pictures import upright
from caveat.cli._picture_tested import TestedPictures
from caveat.cli._report_page import data_url, section, wide_table
from caveat.cli._tabular_report import judged_sections, lead_policy, page_of, training_facts, warnings_of
from caveat.cli._tabular_rows import answer_text, truth_text
from caveat.cli._tabular_scores import Score, describe_policy
from caveat.predictive import Categorical

_SHOWN, _SIDE = 24, 96
_MOST_NAMED = 50


def picture_report(tested: TestedPictures, scores: list[Score], policy: dict[str, Any] | None) -> str:
    """Returns the whole page."""
    model = tested.model
    sections = [
        _mosaic(
            tested,
            "Pictures it is least sure of",
            uncertainty_of(model, tested.pred, model.target.usual_measure),
            "Above each picture is the truth, below it the answer and the file; the least certain comes first.",
        ),
        _mosaic(
            tested,
            "Pictures it has seen too few of",
            uncertainty_of(model, tested.pred, model.target.epistemic_measure),
            "These have the highest epistemic uncertainty: the first to look at when another kind of pictures turns "
            "up, and the first to have labeled for the next training.",
        ),
        *judged_sections(tested),
        _left_out(tested),
    ]
    return page_of(tested, scores, policy, _lead(tested, policy), sections, _facts(tested, policy))


def _lead(tested: TestedPictures, policy: dict[str, Any] | None) -> str:
    count = len(tested.left_out)
    left_out = f" Pictures left out: {count:,}, which cannot be read or show nothing." if count else ""
    return " ".join([f"{lead_policy(policy)}{left_out}", *warnings_of(tested)])


def _mosaic(tested: TestedPictures, title: str, by: Tensor, how_to_read: str) -> str:
    rows = by.argsort(descending=True, stable=True)[:_SHOWN]
    tiles = "".join(_tile(tested, row) for row in cast("list[int]", rows.tolist()))
    return section(title, f"<div class='tiles eight'>{tiles}</div>", escape(how_to_read))


def _tile(tested: TestedPictures, row: int) -> str:
    path = tested.sources[row]
    kind = "unsure"
    if isinstance(tested.pred, Categorical):
        kind = "other" if bool(tested.wrong[row]) else "right"
    name = f"{path.parent.name}/{path.name}"
    return (
        f"<figure title='{escape(str(path), quote=True)}'><span>{escape(truth_text(tested, row))}</span>"
        f"<img alt='{escape(name, quote=True)}' src='{data_url(_thumbnail(path))}'>"
        f"<b class={kind}>{escape(answer_text(tested, row))}</b>"
        f"<span>{escape(name if len(name) <= 18 else '…' + name[-17:])}</span></figure>"
    )


def _thumbnail(path: Path) -> bytes:
    file = io.BytesIO()
    with require("PIL.Image", "image").open(path) as image:
        ready = upright(image)
        ready = ready.convert("L" if ready.mode == "1" else ready.mode).convert("RGBA")
        ready.thumbnail((_SIDE, _SIDE))
        ready.save(file, "PNG")
    return file.getvalue()


def _left_out(tested: TestedPictures) -> str:
    if not tested.left_out:
        return ""
    named = list(tested.left_out.items())
    table = wide_table(["file", "why"], named[:_MOST_NAMED])
    more = f"And {len(named) - _MOST_NAMED:,} more." if len(named) > _MOST_NAMED else ""
    return section(f"Pictures that were left out: {len(named):,}", table, more)


def _facts(tested: TestedPictures, policy: dict[str, Any] | None) -> dict[str, str]:
    model, seen = tested.model, len(tested.truth)
    drawn = f", drawn evenly from {tested.total:,}" if tested.total > seen + len(tested.left_out) else ""
    return {
        "pictures": f"{seen:,} of {tested.file}{drawn}",
        "method": f"{len(model.networks)} networks, {int(tested.pred.count)} draws",
        **training_facts(model),
        "policy": "every picture is answered" if policy is None else describe_policy(policy),
    }
