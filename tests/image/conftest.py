"""Models that were trained once on small pictures whose truth is known."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("PIL")
from PIL import Image

from caveat.image import Classifier, Regressor

from .pictures import QUICK, draw_shapes, gray_levels, write_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures in class folders, beside one that cannot be read and one of one color; not to be changed."""
    place = write_folder(tmp_path_factory.mktemp("photos") / "photos")
    (place / "disk" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    Image.new("RGB", (20, 20), "green").save(place / "disk" / "green.png")
    return place


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier(**QUICK).fit(*draw_shapes(200))


@pytest.fixture(scope="session")
def regressor() -> Regressor:
    """Learned how light gray pictures are."""
    return Regressor(**QUICK).fit(*gray_levels(200))
