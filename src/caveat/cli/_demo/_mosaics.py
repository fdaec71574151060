"""Pictures made of digits: the strip of a turning one, and the surest beside the least sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from matplotlib import image as matplotlib_image
from matplotlib.axes import Axes
from torch import Tensor

from caveat.cli._demo import _findings as findings
from caveat.cli._demo._data import SIDE
from caveat.cli._demo._readings import Saying, says
from caveat.cli._demo._story import Result
from caveat.cli._demo._turn import FULL_TURN
from caveat.cli._report_page import LIGHT, Theme

COLUMN, ROW = 46, 76
LEGEND = (
    "bold: the answer from the draws; under it their first choice and its mean softmax;\n"
    "once: a single pass of the same network, dropout off; ?: over ln 2 nats, not sure"
)


@dataclass(frozen=True)
class Tile:
    """One image and what stands around it."""

    image: Tensor
    above: str
    said: Saying
    single: Saying
    label: int

    @property
    def kind(self) -> str:
        """right, other or unsure: what the draws' answer is, next to the label."""
        if not self.said.sure:
            return "unsure"
        return "right" if self.said.names(self.label) else "other"

    @property
    def answer(self) -> str:
        """What the draws come down to, in a word."""
        return str(self.said.answer) if self.said.sure else "not sure"

    @property
    def first_choice(self) -> str:
        """The draws' likeliest class and its mean softmax."""
        return _choice(self.said)

    @property
    def once(self) -> str:
        """The same of the single pass with dropout off."""
        return f"once {_choice(self.single)}"


def _choice(saying: Saying) -> str:
    """A class and its probability, with a question mark where that is no answer."""
    share = ">99%" if saying.probability > 0.995 else f"{saying.probability:.0%}"
    return f"{saying.answer}{'' if saying.sure else '?'} {share}"


def turn_tiles(result: Result) -> list[Tile]:
    """The turning digit, one tile an angle."""
    turn = result.turn
    return [
        Tile(image, f"{angle}°", says(mean), says(single), turn.label)
        for angle, image, mean, single in zip(
            FULL_TURN, turn.images, turn.readings.mean, turn.readings.single, strict=True
        )
    ]


def test_tiles(result: Result) -> tuple[list[Tile], list[Tile]]:
    """The surest test digits, surest first, and the least sure, least sure first."""
    order = result.by_surety()
    return _test_tiles(result, order[: findings.SHOWN]), _test_tiles(
        result, order[: -findings.SHOWN - 1 : -1]
    )


def _test_tiles(result: Result, indices: Sequence[int]) -> list[Tile]:
    digits, test = result.digits, result.test
    return [
        Tile(
            digits.test_images[i],
            f"label {int(digits.test_labels[i])}",
            says(test.mean[i]),
            says(test.single[i]),
            int(digits.test_labels[i]),
        )
        for i in indices
    ]


def tile_png(tile: Tile) -> bytes:
    """The image alone as a small PNG, dark ink on white."""
    file = BytesIO()
    matplotlib_image.imsave(file, tile.image[0].numpy(), format="png", cmap="gray_r", vmin=0, vmax=1)
    return file.getvalue()


def plot_strip(ax: Axes, result: Result, theme: Theme = LIGHT) -> Axes:
    """The turning digit in rows of 12, with the answer under each and below it that of the single pass."""
    tiles = turn_tiles(result)
    rows = [tiles[start : start + 12] for start in range(0, len(tiles), 12)]
    return _plot_rows(ax, rows, findings.headline(result), theme)


def plot_test_digits(ax: Axes, result: Result, theme: Theme = LIGHT) -> Axes:
    """The surest test digits in the upper row, the least sure in the lower one."""
    return _plot_rows(ax, list(test_tiles(result)), findings.test_digits_finding(result), theme)


def _plot_rows(ax: Axes, rows: list[list[Tile]], title: str, theme: Theme) -> Axes:
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            _plot_tile(ax, tile, column * COLUMN, row * ROW, theme)
    ax.set(xlim=(-8, len(rows[0]) * COLUMN - 8), ylim=(len(rows) * ROW + 8, -12), aspect="equal")
    ax.set_axis_off()
    ax.text(-8, len(rows) * ROW - 6, LEGEND, fontsize=8, color=theme.muted, va="top", linespacing=1.5)
    ax.set_title(title, loc="left")
    return ax


def _plot_tile(ax: Axes, tile: Tile, x: float, y: float, theme: Theme) -> None:
    ax.imshow(tile.image[0].numpy(), cmap="gray_r", vmin=0, vmax=1, extent=(x, x + SIDE, y + SIDE, y))
    color = {"right": theme.right, "other": theme.other, "unsure": theme.ink}[tile.kind]
    lines = (
        (y - 2, "bottom", tile.above, 8, theme.muted, "normal"),
        (y + SIDE + 2, "top", tile.answer, 9.5, color, "bold"),
        (y + SIDE + 13, "top", tile.first_choice, 7.5, theme.muted, "normal"),
        (y + SIDE + 22, "top", tile.once, 7.5, theme.muted, "normal"),
    )
    for height, edge, text, size, ink, weight in lines:
        ax.text(x + SIDE / 2, height, text, ha="center", va=edge, fontsize=size, color=ink, fontweight=weight)
