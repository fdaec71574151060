"""Colors of the pictures and the report, on white and on near-black paper.

The hues are Okabe and Ito's, which people with any common color vision can tell apart
(https://jfly.uni-koeln.de/color/); the darkest of them are lightened on dark paper.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """One paper and what is printed on it.

    Attributes:
        right: what names the digit.
        other: what names another one.
        accent: anything else that wants a color.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    right: str
    other: str
    accent: str
    image_map: str


LIGHT = Theme(
    paper="#ffffff",
    ink="#1b1d21",
    muted="#5c626b",
    grid="#e2e4e8",
    right="#0072b2",
    other="#c04a00",
    accent="#009e73",
    image_map="gray_r",
)
DARK = Theme(
    paper="#15171b",
    ink="#eceef1",
    muted="#a4abb5",
    grid="#333840",
    right="#56b4e9",
    other="#ff9a52",
    accent="#2fc79b",
    image_map="gray",
)
