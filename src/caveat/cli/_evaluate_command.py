"""`caveat evaluate`: a model on a labeled file it has not seen, in numbers and as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from caveat._estimators import FILES
from caveat._extras import require
from caveat._files import write_whole
from caveat.cli._output_file import check_output, explaining_failure, writing
from caveat.cli._picture_report import picture_report
from caveat.cli._picture_tested import TestedPictures, ask_of_kind, open_model
from caveat.cli._tabular_drift import drifts_of
from caveat.cli._tabular_report import report_html
from caveat.cli._tabular_scores import judge_policy, scores_of
from caveat.cli._tabular_tested import Advance, Judged, Tested
from caveat.errors import InvalidArgumentError


def evaluate_file(
    folder: Path, data: Path, report: Path | None, *, draws: int | None, most_rows: int, advance: Advance
) -> dict[str, Any]:
    """Score a model on labeled rows, and write the report.

    Raises:
        InvalidDataError: rows that do not fit, by line and column; or no room for the report.
    """
    if report is not None:
        require("matplotlib.figure", "plot")
        if not report.parent.is_dir() or report.is_dir():
            raise InvalidArgumentError(f"--report must name a file in a folder that is there; got {report}.")
        check_output(report, read=[data, *(folder / name for name in FILES)])
    with writing(report) if report is not None else nullcontext():
        tested = ask_of_kind(open_model(folder), data, most_rows, draws, advance)
        if isinstance(tested, TestedPictures):
            about = {"rows_in_file": tested.total}
            return _judge(folder, tested, report, about, partial(picture_report, tested))
        assert isinstance(tested, Tested)
        drifts = drifts_of(tested)
        moved = {
            d.column: {"stability_index": d.index, "by_chance": d.chance, "moved": d.moved, "new": d.new}
            for d in drifts
        }
        about = {"rows_in_file": tested.sample.total, "drift": moved}
        return _judge(folder, tested, report, about, partial(report_html, tested, drifts))


def _judge(
    folder: Path, tested: Judged, report: Path | None, about: dict[str, Any], make_page: Callable[..., str]
) -> dict[str, Any]:
    """Returns the scores of labeled rows beside what is known ``about`` them, and writes the page."""
    scores, policy = scores_of(tested), judge_policy(tested)
    found: dict[str, Any] = {
        "schema": "caveat-evaluate-1",
        "model": str(folder),
        "rows": len(tested.truth),
        "calibration": tested.model.describe_calibration(),
        "metrics": {
            s.name: {"value": s.value, "low": s.low, "high": s.high, "title": s.title, "unit": s.unit} for s in scores
        },
        **about,
        **tested.describe_left_out(),
    }
    if policy is not None:
        found["policy"] = policy
    if report is not None:
        page = make_page(scores, policy)
        with explaining_failure(report):
            write_whole(report, page.encode())
        found["report"] = str(report)
    return found
