"""Small pictures whose truth is known: red disks and blue squares, and gray levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

QUICK: dict[str, Any] = {"width": 4, "epochs": 4, "draws": 10, "batch_size": 16}


def draw_shapes(rows: int, seed: int = 0, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (rows, side, side, 3) of red disks and blue squares somewhere on noise, and their names."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 90, (rows, side, side, 3), dtype=np.uint8)
    names = np.array(["disk", "square"])[np.arange(rows) % 2]
    down, right = np.mgrid[:side, :side]
    for picture, name in zip(pictures, names, strict=True):
        y, x = random.integers(5, side - 5, 2)
        near = (down - y) ** 2 + (right - x) ** 2 < 14
        inside = near if name == "disk" else (abs(down - y) < 4) & (abs(right - x) < 4)
        picture[inside, 0 if name == "disk" else 2] = 220
    return pictures, names


def write_folder(place: Path, rows: int = 60, seed: int = 0) -> Path:
    """Write pictures as class folders."""
    pictures, names = draw_shapes(rows, seed)
    for row, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        (place / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / name / f"{row:03}.png")
    return place


def gray_levels(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gray pictures (rows, 12, 12) and how light they are."""
    random = np.random.default_rng(seed)
    light = random.uniform(40, 200, rows)
    return (light[:, None, None] + random.normal(0, 20, (rows, 12, 12))).clip(0, 255).astype(np.uint8), light
