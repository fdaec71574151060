"""The colors of all pictures: Okabe and Ito's eight, which people with any common color vision can tell apart.

See "Color Universal Design", Okabe and Ito, 2008, https://jfly.uni-koeln.de/color/. Lines differ in their dashes and
markers as well, so that a gray print still tells them apart.
"""

from __future__ import annotations

BLUE = "#0072b2"
VERMILION = "#d55e00"
GREEN = "#009e73"
ORANGE = "#e69f00"
SKY = "#56b4e9"
PURPLE = "#cc79a7"
YELLOW = "#f0e442"
BLACK = "#000000"

INK = "#1b1d21"
MUTED = "#5c626b"
FAINT = "#a9afb8"
GRID = "#e2e4e8"
PAPER = "#ffffff"

TOTAL = SKY
EPISTEMIC = VERMILION
ALEATORIC = GREEN

SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, MUTED)
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SEQUENTIAL = "viridis"
"""For amounts: rises evenly in lightness, and stays legible to color-blind readers and in gray."""


def series(number: int) -> tuple[str, str, str]:
    """Color, dashes and marker of the line with this number; after eight the colors return, dashed otherwise.

    Example:
        >>> series(0), series(8)
        (('#0072b2', '-', 'o'), ('#0072b2', '--', 's'))
    """
    lap, place = divmod(number, len(SERIES))
    return SERIES[place], DASHES[lap % len(DASHES)], MARKERS[(place + lap) % len(MARKERS)]
