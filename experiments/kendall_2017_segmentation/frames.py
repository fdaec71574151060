"""CamVid at 80 x 60, other images to be unsure about, and what is counted of labeled pixels."""

from __future__ import annotations

import functools
import io
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parents[1]))
from records import data

from caveat.shift import corrupt

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
VOID = 11
PLACES = ("CamVid", "night", "fog", "noise", "ImageNet")


@functools.cache
def camvid(part: str, every: int = 1) -> tuple[Tensor, Tensor]:
    """Frames (N, 3, 60, 80) in [0, 1] and labels (N, 60, 80), every so manieth frame of a part."""
    from PIL import Image

    pictures = sorted(data("camvid", part).glob("*.jpg"))[::every]
    truths = [data("camvid", f"{part}annot") / f"{path.stem}.png" for path in pictures]
    x = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in pictures])).movedim(-1, 1)
    y = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in truths]))
    # Frames by the area, labels by the nearest pixel: a mean of two class numbers is a third class.
    return F.avg_pool2d(x.float() / 255, 2), y[:, ::2, ::2].long()


@functools.cache
def place(name: str, every: int) -> Tensor:
    """The test frames as they are, spoiled, or photographs of other things: (N, 3, 60, 80)."""
    x, _ = camvid("test", every)
    if name == "night":
        return 0.25 * x
    if name in ("fog", "noise"):
        return corrupt(x, {"fog": "fog", "noise": "gaussian_noise"}[name], 3)
    return photographs(len(x)) if name == "ImageNet" else x


def photographs(count: int) -> Tensor:
    """So many of the thousand ImageNet classes, evenly: the middle of each image."""
    from PIL import Image

    with np.load(data("imagenet_sample", "imagenet_sample_112.npz")) as file:
        jpeg, offsets = file["jpeg"], file["offsets"]
    rows = np.linspace(0, 999, count).astype(int)
    images = [Image.open(io.BytesIO(jpeg[offsets[row] : offsets[row + 1]].tobytes())).convert("RGB") for row in rows]
    pixels = [np.asarray(one.crop((0, 14, 112, 98)).resize((80, 60))) for one in images]
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1).float() / 255


def confusion(said: Tensor, labels: Tensor) -> Tensor:
    """How many pixels of each class were taken for each, (11, 11), true class first; void is left out."""
    seen = labels != VOID
    return torch.bincount(labels[seen] * VOID + said[seen], minlength=VOID * VOID).reshape(VOID, VOID)


def intersection_over_union(counts: Tensor) -> Tensor:
    """Of each class, (11,); NaN where it is neither there nor said."""
    hit = counts.diagonal().double()
    return hit / (counts.sum(0) + counts.sum(1) - hit)
