"""What the demo leaves behind: the report, its pictures as PNG files, the numbers as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caveat._files import write_whole
from caveat._state_file import read_state
from caveat.cli._demo._findings import SHOWN
from caveat.cli._demo._mosaics import plot_strip, plot_test_digits
from caveat.cli._demo._pictures import picture, plot_confidence, plot_entropy, plot_softmax, plot_ten
from caveat.cli._demo._readings import RULE, Readings, says
from caveat.cli._demo._report import report_html
from caveat.cli._demo._story import Result, Stage, no_stage
from caveat.cli._demo._turn import FULL_TURN, Turn
from caveat.cli._output_file import writing
from caveat.errors import InvalidArgumentError

SCHEMA = "caveat-demo-1"
PICTURES = {
    "strip.png": (plot_strip, 9.6, 5.0),
    "confidence.png": (plot_confidence, 6.0, 3.7),
    "softmax.png": (plot_softmax, 6.0, 4.7),
    "entropy.png": (plot_entropy, 6.0, 3.5),
    "ten.png": (plot_ten, 6.4, 3.8),
    "digits.png": (plot_test_digits, 7.0, 3.7),
}
"""File name: the plot, its width and height in inches."""
NAMES = ("numbers.json", "report.html", *PICTURES)


@contextmanager
def demo_folder(folder: Path) -> Generator[None]:
    """Make and hold the folder of a demo, or say why it cannot be: to be found out before the work, not after it.

    Files that were there and are not of an earlier demo stay as they are.

    Raises:
        InvalidArgumentError: The place is taken by a file, cannot be written to, or holds other files of the demo's
            names.
        BusyError: Another demo is writing it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InvalidArgumentError(f"--out must name a folder that can be written to: {problem}.") from problem
    with writing(folder):
        taken = next((name for name in NAMES if os.path.lexists(folder / name)), None)
        if taken is not None and not _is_of_demo(folder):
            raise InvalidArgumentError(
                f"--out must name a new folder, or one of an earlier demo; {folder} has a {taken}."
            )
        yield


def _is_of_demo(folder: Path) -> bool:
    try:
        return bool(read_state(folder / "numbers.json")["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_files(result: Result, folder: Path, stage: Stage = no_stage) -> list[Path]:
    """Write everything into the folder; the paths, the report first."""
    advance = stage("Drawing the report and its pictures", len(PICTURES) + 1)
    contents: dict[str, bytes] = {
        "report.html": report_html(result).encode(),
        "numbers.json": (json.dumps(as_json(result), indent=1, allow_nan=False) + "\n").encode(),
    }
    advance(1)
    for name, (plot, width, height) in PICTURES.items():
        contents[name] = picture(plot, result, width=width, height=height)
        advance(1)
    try:
        for name, content in contents.items():
            write_whole(folder / name, content)
    except OSError as problem:
        reason = problem.strerror or problem
        raise InvalidArgumentError(f"--out must name a folder that can be written to: {reason}.") from problem
    return [folder / name for name in contents]


def as_json(result: Result) -> dict[str, Any]:
    """Everything found, as plain Python values; entropies in nats, the same for the same settings."""
    with_draws, single = result.accuracies
    order = result.by_surety()
    return {
        "schema": SCHEMA,
        "rule": RULE,
        "data": {
            "name": result.digits.name,
            "train": len(result.digits.train_labels),
            "test": len(result.digits.test_labels),
        },
        "seed": result.settings.seed,
        **dataclasses.asdict(result.plan),
        "accuracy": {"mean_of_draws": with_draws, "single_pass": single},
        "turn": {
            **_turn(result.turn),
            "angles": [
                {"degrees": angle, **_image(result.turn.readings, row)} for row, angle in enumerate(FULL_TURN)
            ],
        },
        "one_of_each_class": [_turn(turn) for turn in result.ten],
        "surest_test_images": [_test_image(result, i) for i in order[:SHOWN]],
        "least_sure_test_images": [_test_image(result, i) for i in reversed(order[-SHOWN:])],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "test_image": turn.index,
        "label": turn.label,
        "chosen_by": turn.rule,
        "tally": _tally(turn.tally(turn.readings.mean)),
        "tally_single_pass": _tally(turn.tally(turn.readings.single)),
    }


def _tally(counts: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("right", "not_sure", "other"), counts, strict=True))


def _test_image(result: Result, index: int) -> dict[str, Any]:
    label = int(result.digits.test_labels[index])
    return {"test_image": index, "label": label, **_image(result.test, index)}


def _image(readings: Readings, row: int) -> dict[str, Any]:
    return {
        **dataclasses.asdict(says(readings.mean[row])),
        "mean": readings.mean[row].tolist(),
        "sd": readings.sd[row].tolist(),
        "predictive_entropy": float(readings.entropy[row]),
        "mutual_information": float(readings.information[row]),
        "single_pass": {
            **dataclasses.asdict(says(readings.single[row])),
            "softmax": readings.single[row].tolist(),
        },
    }
