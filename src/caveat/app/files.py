"""What the demo leaves behind: the report, its pictures as PNG files, the numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from caveat.app.demo import Result, Stage, no_stage
from caveat.app.mosaics import plot_strip, plot_test_digits
from caveat.app.numbers import as_json
from caveat.app.pictures import picture, plot_confidence, plot_entropy, plot_softmax, plot_ten
from caveat.app.report import report_html
from caveat.errors import InvalidArgument

PICTURES = {
    "strip.png": (plot_strip, 9.6, 5.0),
    "confidence.png": (plot_confidence, 6.0, 3.7),
    "softmax.png": (plot_softmax, 6.0, 4.7),
    "entropy.png": (plot_entropy, 6.0, 3.5),
    "ten.png": (plot_ten, 6.4, 3.8),
    "digits.png": (plot_test_digits, 7.0, 3.7),
}
"""File name: the plot, its width and height in inches."""


def make_folder(folder: Path) -> None:
    """Make the folder, or say why it cannot be: to be found out before the work, not after it.

    Raises:
        InvalidArgument: the place is taken by a file or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InvalidArgument(f"--out must name a folder that can be written to: {problem}.") from problem


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
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]
