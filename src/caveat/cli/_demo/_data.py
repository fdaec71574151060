"""Real digits without a download: scikit-learn's bundled ones, or MNIST from a folder that has it.

Either way an image is 28 x 28, ink 1 on paper 0, with the digit in the middle 20 x 20: room to turn it in.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from caveat._extras import require
from caveat.errors import InvalidArgumentError

SIDE = 28
CLASSES = 10
HELD_OUT = 360


@dataclass(frozen=True)
class Digits:
    """Images to learn from and images to be tested on.

    Images are (B, 1, 28, 28) float32 in [0, 1]; labels are (B,) int64 in 0..9.
    """

    name: str
    origin: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def first(self, *, train: int, test: int) -> Digits:
        """The same digits, only the first ``train`` and ``test`` of them."""
        return Digits(
            self.name,
            self.origin,
            self.train_images[:train],
            self.train_labels[:train],
            self.test_images[:test],
            self.test_labels[:test],
        )


def load_digits(folder: Path | None) -> Digits:
    """The digits in `folder` (MNIST as train.npz and test.npz), or those that come with scikit-learn."""
    return bundled_digits() if folder is None else folder_digits(folder)


def bundled_digits() -> Digits:
    """scikit-learn's 1,797 digits: in the order of the file, the last 360 for the test.

    See "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998,
    https://archive.ics.uci.edu/dataset/80.
    The 8 x 8 images become 20 x 20 (bilinear) in the middle of 28 x 28, which is how MNIST's are laid out.
    """
    bundled: Any = require("sklearn.datasets", "demo").load_digits()
    small = torch.from_numpy(np.asarray(bundled.images, dtype=np.float32) / 16.0).unsqueeze(1)
    images = pad(interpolate(small, size=(20, 20), mode="bilinear", align_corners=False), (4, 4, 4, 4))
    labels = torch.from_numpy(np.asarray(bundled.target, dtype=np.int64))
    origin = (
        "scikit-learn's bundled digits (8 × 8 pixels, enlarged to 20 × 20 inside 28 × 28); "
        f"in the order of the file, the last {HELD_OUT} are for the test"
    )
    split = len(images) - HELD_OUT
    return Digits("scikit-learn digits", origin, images[:split], labels[:split], images[split:], labels[split:])


def folder_digits(folder: Path) -> Digits:
    """MNIST, or anything of its shape: `train.npz` and `test.npz`, each with `images` and `labels`.

    Raises:
        InvalidArgumentError: a file is missing, unreadable, or not uint8 images (N, 28, 28) with N labels in 0..9.
    """
    train_images, train_labels = _read(folder / "train.npz")
    test_images, test_labels = _read(folder / "test.npz")
    origin = (
        f"{len(train_labels):,} + {len(test_labels):,} images of 28 × 28 pixels from train.npz and test.npz"
    )
    return Digits("MNIST", origin, train_images, train_labels, test_images, test_labels)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Images (B, 1, 28, 28) in [0, 1] and labels (B,) of one file."""
    if not path.is_file():
        raise InvalidArgumentError(f"--data must name a folder with train.npz and test.npz: there is no {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = np.asarray(file["images"]), np.asarray(file["labels"])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as problem:
        raise InvalidArgumentError(
            f"{path} must be an npz file with `images` and `labels`: {problem}"
        ) from problem
    _check(path, images, labels)
    scaled = torch.from_numpy(images).unsqueeze(1).float() / 255.0
    return scaled, torch.from_numpy(labels.astype(np.int64))


def _check(path: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE) or len(images) == 0:
        raise InvalidArgumentError(
            f"`images` of {path} must be uint8 of shape (N, {SIDE}, {SIDE}), N ≥ 1; "
            f"got {images.dtype} {images.shape}."
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidArgumentError(
            f"`labels` of {path} must be {len(images)} integers; got {labels.dtype} {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise InvalidArgumentError(f"`labels` of {path} must lie in 0..9; got {labels.min()}..{labels.max()}.")
