"""Moving pictures: each class's softmax over the draws while an input changes, as GIF or MP4."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caveat._canvas import as_text, finish
from caveat._checks import require_number
from caveat._extras import require
from caveat._palette import BLUE, INK, PAPER, VERMILION
from caveat.errors import InvalidArgumentError, MissingExtraError
from caveat.plot._arrays import Array, as_array, in_unit
from caveat.plot._histograms import check_label, class_names, draw_class_rows
from caveat.plot._maps import picture_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Frame = npt.NDArray[np.uint8]


def animate_class_histograms(
    path: str | Path,
    probabilities: Any,
    *,
    images: Any = None,
    vmin: float = 0.0,
    vmax: float = 1.0,
    label: int | None = None,
    names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    bins: int = 50,
    frames_per_second: float = 4.0,
    title: str = "",
) -> Path:
    """Writes a GIF or MP4 of the histograms over draws, one frame per step of what changes: an angle, a blend.

    Each frame shows the image, its caption, and ``plot_class_histograms`` of its draws: the predicted class in blue,
    the true one outlined with a tick, and below the image which class is said.

    Args:
        path: File to write; ".gif" (Pillow) or ".mp4" (needs the program ffmpeg).
        probabilities: (T, S, C), for each of the T steps the probabilities of the S draws.
        images: (T, C, H, W) or (T, H, W) from ``vmin`` to ``vmax``, shown beside.
        vmin, vmax: What is black and white in the images, in their own unit.
        label: Index of the true class.
        names: Names of the C classes.
        captions: T lines such as "30°".
        bins: Number of bins of each histogram.
        frames_per_second: Frames per second; 4 gives time to read.

    Returns:
        The path.

    Raises:
        InvalidArgumentError: another ending, lengths that differ, values outside [0, 1].
        NotFiniteError: NaN among the values.
        MissingExtraError: an MP4 without ffmpeg.

    See "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", Gal and Ghahramani,
    2016, figure 4, https://arxiv.org/abs/1506.02142: a digit that turns.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = animate_class_histograms(f"{folder}/a.gif", torch.rand(2, 20, 3).softmax(-1))
        ...     written.stat().st_size > 1000
        True
    """
    target = Path(path)
    draws = in_unit(as_array(probabilities, "probabilities", (3,), letters="(T, S, C)"), "probabilities")
    pictures = None if images is None else [picture_of(image, vmin, vmax) for image in images]
    _check(target, draws, pictures, captions, label, frames_per_second)
    written = class_names(names, draws.shape[2])
    lines = [str(step) for step in range(len(draws))] if captions is None else [str(line) for line in captions]
    frames = (
        _frame(one, None if pictures is None else pictures[step], lines[step], written, label, bins, title)
        for step, one in enumerate(draws)
    )
    if target.suffix.lower() == ".gif":
        _write_gif(target, list(frames), frames_per_second)
    else:
        _write_mp4(target, frames, frames_per_second)
    return target


def _frame(
    draws: Array, picture: Array | None, caption: str, names: list[str], label: int | None, bins: int, title: str
) -> Frame:
    figure: Figure = require("matplotlib.figure", "plot").Figure(
        figsize=(7.2 if picture is not None else 5.4, max(1.9 + 0.34 * len(names), 3.2)), dpi=100, facecolor=PAPER
    )
    canvas = require("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
    # Fixed places, so that nothing jumps from one frame to the next.
    margin = 0.10 + 0.013 * max(len(name) for name in names)
    left = 0.30 + margin if picture is not None else margin + 0.05
    rows = figure.add_axes((left, 0.16, 0.97 - left, 0.72))
    finish(rows, x=f"probability in each of {len(draws):,} draws", grid="")
    draw_class_rows(rows, draws, names, label, bins)
    mean = draws.mean(0)
    said = int(mean.argmax())
    answer = as_text(f"says {names[said]}, mean {mean[said]:.2f}")
    title, caption = as_text(title), as_text(caption)
    color = BLUE if label is None or said == label else VERMILION
    if picture is not None:
        beside = figure.add_axes((0.03, 0.30, 0.27, 0.56))
        beside.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        beside.set_axis_off()
        beside.set_anchor("S")  # its caption stands right below
        figure.text(0.165, 0.25, caption, ha="center", va="top", color=INK, fontsize=12, fontweight="bold")
        figure.text(0.165, 0.16, answer.replace(", ", "\n"), ha="center", va="top", color=color, fontsize=10)
        figure.text(0.03, 0.95, title, va="center", color=INK, fontsize=11, fontweight="bold")
    else:
        figure.text(0.03, 0.95, " · ".join(filter(None, (title, caption))), va="center", color=INK, fontsize=11)
        figure.text(0.97, 0.95, answer, ha="right", va="center", color=color, fontsize=10)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write_gif(target: Path, frames: list[Frame], rate: float) -> None:
    pillow: Any = require("PIL.Image", "plot")
    # One palette for all frames, from the busiest: colors that differ between frames flicker.
    busiest = max(frames, key=lambda frame: len(np.unique(frame.reshape(-1, 3), axis=0)))
    palette = pillow.fromarray(busiest).quantize(256, method=pillow.Quantize.FASTOCTREE)
    pictures = [pillow.fromarray(frame).quantize(palette=palette, dither=pillow.Dither.NONE) for frame in frames]
    pictures[0].save(
        target, save_all=True, append_images=pictures[1:], duration=round(1000 / rate), loop=0, optimize=False
    )


def _write_mp4(target: Path, frames: Iterator[Frame], rate: float) -> None:
    first = next(frames)
    height, width = (side - side % 2 for side in first.shape[:2])  # the codec takes even sides only
    command = [
        _ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", f"{rate:g}", "-i", "-", "-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart",
        str(target),
    ]  # fmt: skip
    content = b"".join(frame[:height, :width].tobytes() for frame in (first, *frames))
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    if done.returncode:
        raise InvalidArgumentError(
            "ffmpeg must be able to write the file.",
            got=done.stderr.decode(errors="replace").strip()[-300:],
            cause="a folder that is not there, or an ffmpeg without libx264",
            fix="write a .gif",
        )


def _ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found is None:
        raise MissingExtraError(
            "An MP4 is written by the program ffmpeg.",
            got="no ffmpeg on the PATH",
            cause="it is no Python package, so no extra brings it",
            fix='install ffmpeg (apt install ffmpeg, brew install ffmpeg), or write a ".gif"',
        )
    return found


def _check(
    target: Path,
    draws: Array,
    pictures: list[Any] | None,
    captions: Sequence[str] | None,
    label: int | None,
    rate: float,
) -> None:
    if target.suffix.lower() not in (".gif", ".mp4"):
        raise InvalidArgumentError(
            "path must end in .gif or .mp4.", got=str(target), cause="another format", fix="write a .gif"
        )
    for name, given in (("images", pictures), ("captions", captions)):
        if given is not None and len(given) != len(draws):
            raise InvalidArgumentError(
                f"{name} must have one for each of the {len(draws)} steps.",
                got=f"{len(given)}",
                cause="the draws of another range of steps",
                fix="pass as many as probabilities has rows",
            )
    check_label(label, draws.shape[2])
    require_number(rate, "frames_per_second", "(0, inf)", cause="seconds per frame", fix="frames_per_second=4")
