"""What the two experiments after Kendall and Gal compute: rendered depth and noise, and what is counted of pixels."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def _module(monkeypatch: pytest.MonkeyPatch, folder: str, name: str) -> ModuleType:
    """A module of an experiment, under a name of its own: several experiments have a `pictures.py`."""
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS / folder), str(EXPERIMENTS), *sys.path])
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", EXPERIMENTS / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _module(monkeypatch, "kendall_2017_depth", "scenes")


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield _module(monkeypatch, "kendall_2017_segmentation", "frames")
    sys.modules.pop("records", None)


@pytest.mark.parametrize("name", ["sphere", "box", "cone", "cylinder"])
def test_points_lie_on_the_solid(scenes: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    x, z, r = 0.3, 4.0, 0.6
    monkeypatch.setattr(scenes, "_place", lambda random: (x, z, r))
    depth, normal = getattr(scenes, name)(np.random.default_rng(0))
    seen = np.isfinite(depth)
    assert seen.sum() > 20
    points = (scenes.RAYS * np.where(seen, depth, 0)[..., None])[seen]
    np.testing.assert_allclose(np.linalg.norm(normal[seen], axis=-1), 1, atol=1e-6)
    assert ((normal[seen] * points).sum(-1) <= 1e-9).all()  # what is seen faces the camera
    assert (points[:, 1] >= scenes.FLOOR - 1e-9).all()
    across = np.hypot(points[:, 0] - x, points[:, 2] - z)
    if name == "sphere":
        np.testing.assert_allclose(np.hypot(across, points[:, 1] - scenes.FLOOR - r), r)
    if name == "cylinder":
        np.testing.assert_allclose(across, 0.7 * r)
    if name == "cone":  # the radius shrinks linearly from r on the floor to 0 at the apex
        up = points[:, 1] - scenes.FLOOR
        slope = np.polyfit(up, across, 1)
        np.testing.assert_allclose(np.polyval(slope, up), across, atol=1e-6)
        assert math.isclose(slope[1], r, rel_tol=1e-6)
    if name == "box":  # each point lies on a face that the camera sees: one coordinate is that face's
        faces = [np.unique(points[np.abs(normal[seen][:, axis]) == 1][:, axis].round(6)) for axis in range(3)]
        assert all(len(face) <= 1 for face in faces)


def test_empty_room_has_the_depth_of_floor_and_wall(scenes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.full(scenes.RAYS.shape[:2], np.inf), np.zeros_like(scenes.RAYS)
    found = scenes.render(1, 0, solids=(lambda random: nothing,))
    down = scenes.RAYS[..., 1]
    expected = np.minimum(np.where(down < 0, scenes.FLOOR / np.minimum(down, -1e-9), np.inf), scenes.WALL)
    np.testing.assert_allclose(found.depth[0, 0].numpy(), expected, rtol=1e-6)
    torch.testing.assert_close(found.noise, scenes.NOISE * found.depth)


def test_readings_have_the_noise_that_is_told(scenes: ModuleType) -> None:
    found = scenes.render(20, 3)
    z = ((found.measured - found.depth) / found.noise).flatten().double()
    assert abs(float(z.mean())) < 4 / math.sqrt(len(z))
    assert abs(float(z.std()) - 1) < 4 / math.sqrt(2 * len(z))
    times = (found.noise / (scenes.NOISE * found.depth)).flatten()
    striped = (times - scenes.STRIPED).abs() < 1e-5
    assert bool((striped | ((times - 1).abs() < 1e-5)).all())
    assert bool(striped.any())
    again = scenes.render(20, 3)
    torch.testing.assert_close(again.images, found.images, rtol=0, atol=0)
    assert float(found.images.min()) >= 0
    assert float(found.images.max()) <= 1


def test_light_from_below_is_the_same_room(scenes: ModuleType) -> None:
    above, below = scenes.render(3, 5), scenes.render(3, 5, light_from=-1.0)
    torch.testing.assert_close(above.depth, below.depth, rtol=0, atol=0)
    assert not torch.allclose(above.images, below.images, atol=0.1)


def test_confusion_and_intersection_over_union(frames: ModuleType) -> None:
    labels = torch.tensor([[[0, 0, 1, 11]]])
    said = torch.tensor([[[0, 1, 1, 5]]])  # what is said of void counts for nothing
    counts = frames.confusion(said, labels)
    assert counts.sum() == 3
    iou = frames.intersection_over_union(counts)
    torch.testing.assert_close(iou[:2], torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert bool(iou[2:].isnan().all())
