"""Rendered rooms whose depth, and the noise of whose depth sensor, are known at each pixel.

A camera looks over a floor at a wall, with spheres and boxes between. Rays are (u, v, 1), so that the number of steps
along a ray is the depth. Each solid is plain or striped; the sensor's noise grows with depth, and stripes trouble it
further. Fog and where a solid stands on the floor tell an onlooker the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

HEIGHT, WIDTH = 48, 64
FLOOR = -1.2  # meters from the camera, up
WALL = 8.0
NOISE = 0.06  # of the sensor, a share of the depth
STRIPED = 2.5  # times as much on stripes
FOG, FOG_COLOR = 10.0, np.array([0.75, 0.8, 0.9])  # meters until 1 / e of a color is left

Array = np.ndarray
Solid = Callable[[np.random.Generator], tuple[Array, Array]]  # random -> depth (H, W), normal (H, W, 3)


@dataclass(frozen=True)
class Scenes:
    """N rooms, with one channel but for the images: (N, 1, H, W).

    Fields:
        images: (N, 3, H, W) in [0, 1].
        depth: the truth, meters.
        measured: what the sensor says, meters: the truth and Gaussian noise.
        noise: the standard deviation of that noise, meters.
        outline: whether something else begins within two pixels.
    """

    images: Tensor
    depth: Tensor
    measured: Tensor
    noise: Tensor
    outline: Tensor


def rays() -> Array:
    """(H, W, 3), each with depth 1."""
    u, v = np.meshgrid((np.arange(WIDTH) + 0.5) / WIDTH - 0.5, 0.5 - (np.arange(HEIGHT) + 0.5) / HEIGHT)
    return np.stack([1.2 * u, 0.9 * v - 0.1, np.ones_like(u)], -1)


RAYS = rays()


def _place(random: np.random.Generator) -> tuple[float, float, float]:
    """Where a solid stands, and how wide it is."""
    z = random.uniform(2.3, WALL - 0.8)
    return random.uniform(-0.5, 0.5) * z, z, random.uniform(0.35, 0.75)


def sphere(random: np.random.Generator) -> tuple[Array, Array]:
    """One that lies on the floor."""
    x, z, r = _place(random)
    center = np.array([x, FLOOR + r, z])
    b, a = RAYS @ center, (RAYS**2).sum(-1)
    inside = b**2 - a * (center @ center - r**2)
    depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    return depth, (_points(depth) - center) / r


def box(random: np.random.Generator) -> tuple[Array, Array]:
    """One along the axes."""
    x, z, r = _place(random)
    half = np.array([r, random.uniform(0.3, 0.9), r]) * random.uniform(0.6, 1, 3)
    center = np.array([x, FLOOR + half[1], z])
    with np.errstate(divide="ignore"):
        ends = np.sort(np.stack([(center - half) / RAYS, (center + half) / RAYS]), axis=0)
    near, far = ends[0].max(-1), ends[1].min(-1)
    depth = np.where((near < far) & (near > 0), near, np.inf)
    return depth, -np.sign(RAYS) * (ends[0] == near[..., None])


def cone(random: np.random.Generator) -> tuple[Array, Array]:
    """One that stands on the floor: a shape that is not trained on."""
    x, z, r = _place(random)
    tall = random.uniform(0.9, 1.8)
    apex, k = np.array([x, FLOOR + tall, z]), (r / tall) ** 2
    weight = np.array([1.0, -k, 1.0])  # x^2 + z^2 = k y^2 about the apex
    a, b, c = (RAYS**2) @ weight, RAYS @ (weight * apex), apex**2 @ weight
    inside = b**2 - a * c
    depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    y = RAYS[..., 1] * np.where(np.isfinite(depth), depth, 0)
    depth = np.where((y <= apex[1]) & (y >= FLOOR) & (depth > 0), depth, np.inf)
    normal = (_points(depth) - apex) * weight
    return depth, normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)


def cylinder(random: np.random.Generator) -> tuple[Array, Array]:
    """A post that hangs from above and does not reach the floor: not trained on either."""
    x, z, r = _place(random)
    flat = np.array([1.0, 0.0, 1.0])
    center = np.array([x, 0.0, z])
    a, b, c = (RAYS**2) @ flat, RAYS @ (flat * center), center**2 @ flat - (0.7 * r) ** 2
    inside = b**2 - a * c
    depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    y = RAYS[..., 1] * np.where(np.isfinite(depth), depth, 0)
    depth = np.where(y > random.uniform(-0.8, 0.0), depth, np.inf)
    return depth, (_points(depth) - center) * flat / (0.7 * r)


def _points(depth: Array) -> Array:
    return RAYS * np.where(np.isfinite(depth), depth, 0)[..., None]


def render(count: int, seed: int, *, solids: Sequence[Solid] = (sphere, box), light_from: float = 1.0) -> Scenes:
    """So many rooms with two to four solids each.

    Args:
        count: N.
        seed: the same seed, the same rooms.
        solids: which shapes there are.
        light_from: 1: from above, -1: from below.
    """
    random = np.random.default_rng(seed)
    rooms = [_room(random, solids, light_from) for _ in range(count)]
    image, *others = (torch.from_numpy(np.stack(part)).float() for part in zip(*rooms, strict=True))
    depth, noise, solid = (part[:, None] for part in others)
    measured = depth + noise * torch.from_numpy(random.standard_normal(depth.shape)).float()
    outline = F.max_pool2d(solid, 5, 1, 2) != -F.max_pool2d(-solid, 5, 1, 2)
    return Scenes(image.movedim(-1, 1), depth, measured, noise, outline)


def _room(random: np.random.Generator, solids: Sequence[Solid], light_from: float) -> tuple[Array, ...]:
    """Image (H, W, 3); depth, noise, and the number of what is seen (H, W)."""
    light = np.array([random.uniform(-0.7, 0.7), light_from, random.uniform(-1.0, -0.4)])
    light /= np.linalg.norm(light)
    down = RAYS[..., 1] < 0
    floor = np.where(down, FLOOR / np.where(down, RAYS[..., 1], 1), np.inf)
    depth = np.minimum(floor, WALL)
    on_floor = (floor < WALL)[..., None]
    normal = np.where(on_floor, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0]))
    color = np.where(on_floor, random.uniform(0.5, 0.7, 3), random.uniform(0.6, 0.9, 3))
    striped, solid = np.zeros(depth.shape, bool), np.where(floor < WALL, 0, 1)
    for number in range(2, random.integers(4, 7)):
        own, facing = solids[random.integers(len(solids))](random)
        nearer = own < depth
        depth, normal = np.where(nearer, own, depth), np.where(nearer[..., None], facing, normal)
        color = np.where(nearer[..., None], random.uniform(0.25, 1.0, 3), color)
        striped, solid = np.where(nearer, random.random() < 0.5, striped), np.where(nearer, number, solid)
    bands = np.floor(_points(depth).sum(-1) * 3) % 2
    color = color * np.where(striped & (bands > 0), 0.45, 1.0)[..., None]
    shade = 0.4 + 0.6 * np.maximum(normal @ light, 0)
    left = np.exp(-depth / FOG)[..., None]
    image = color * shade[..., None] * left + FOG_COLOR * (1 - left) + random.normal(0, 0.01, color.shape)
    return np.clip(image, 0, 1), depth, NOISE * depth * np.where(striped, STRIPED, 1.0), solid
