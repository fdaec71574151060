"""Three kinds of small image classifiers, for digits and for CIFAR-10: plain, with dropout, and SNGP.

Each kind is trained as it is used: the plain one and the members of its ensemble know no dropout, as in "Can You Trust
Your Model's Uncertainty?", Ovadia et al., 2019. All run to the last epoch, without early stopping; trained once and
kept in the temporary folder. A tenth of the paper's sizes: a core shall do in half an hour what it did on accelerators.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from records import data, images
from torch import Tensor, nn

from caveat.layers import RandomFeatureGaussianProcess, spectral_normalized, update_precision
from caveat.train import fit_ensemble

Rows = tuple[Tensor, Tensor]
KINDS = ("plain", "dropout", "sngp")
WIDTH, RANDOM_FEATURES = 128, 512
BOUND = 6.0  # on the spectral norm of every layer below SNGP's head


@dataclass(frozen=True)
class Problem:
    """What is trained on how many images, how long, and how many networks of each kind."""

    name: str
    train: int
    held: int  # images after those, that no network is trained on: for the temperature
    epochs: int
    members: dict[str, int]
    rate: float  # of dropout, before each fully connected layer


PROBLEMS = {
    "mnist": Problem("mnist", 10_000, 2000, 20, {"plain": 10, "dropout": 3, "sngp": 2}, 0.2),
    "cifar": Problem("cifar", 15_000, 2000, 12, {"plain": 5, "dropout": 2, "sngp": 1}, 0.2),
}


class Centered(nn.Module):
    """Pixels in [0, 1] to about zero mean and unit variance."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return (x - 0.5) * 4


def trunk(name: str, drop: type[nn.Module] | functools.partial[nn.Module]) -> list[nn.Module]:
    """LeNet's form for digits; three convolutions, the first of which halves the side, for CIFAR-10."""
    if name == "mnist":
        return [
            nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), drop(), nn.Linear(256, WIDTH), nn.ReLU(),
        ]  # fmt: skip
    return [
        Centered(), nn.Conv2d(3, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), drop(), nn.Linear(1024, WIDTH), nn.ReLU(),
    ]  # fmt: skip


def network(name: str, kind: str, rate: float) -> nn.Module:
    """An untrained classifier with ten classes."""
    drop = functools.partial(nn.Dropout, rate) if kind == "dropout" else nn.Identity
    layers = trunk(name, drop)
    if kind == "sngp":
        head = RandomFeatureGaussianProcess(
            WIDTH, 10, features=RANDOM_FEATURES, length_scale=math.sqrt(WIDTH)
        )  # the norm of what the layer before it returns
        whole = nn.Sequential(
            spectral_normalized(nn.Sequential(*layers), BOUND), nn.LayerNorm(WIDTH, elementwise_affine=False), head
        )
    else:
        whole = nn.Sequential(*layers, drop(), nn.Linear(WIDTH, 10))
    return whole.to(memory_format=torch.channels_last)  # half the time on a CPU


def trained(name: str, kind: str, seed: int = 0, *, smoke: bool = False) -> list[nn.Module]:
    """The networks of one kind; SNGP's know where their training images were."""
    problem = PROBLEMS[name]
    x, y = rows(name, "train")
    count = 300 if smoke else problem.train
    folder = None if smoke else Path(tempfile.gettempdir()) / "caveat-classifiers" / f"{name}-{kind}-{seed}"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    found = fit_ensemble(
        functools.partial(network, name, kind, problem.rate), nn.functional.cross_entropy, (x[:count], y[:count]),
        members=min(2, problem.members[kind]) if smoke else problem.members[kind], seed=seed, validation=None,
        epochs=1 if smoke else problem.epochs, patience=None, batch_size=64, learning_rate=1e-3, weight_decay=1e-4,
        backend="loop", checkpoint=folder, progress=False,
    )  # fmt: skip
    if kind == "sngp":
        for one in found:
            update_precision(one, x[:count])
    return list(found)


def held_out(name: str, *, smoke: bool = False) -> Rows:
    """Training images that no network was trained on."""
    x, y = rows(name, "train")
    problem = PROBLEMS[name]
    chosen = slice(problem.train, problem.train + (200 if smoke else problem.held))
    return x[chosen], y[chosen]


@functools.cache
def rows(name: str, part: str) -> Rows:
    """Images (N, C, H, W) in [0, 1] and labels (N,) of "train" or "test"."""
    if name == "mnist":
        return images("mnist", part)
    with np.load(data("cifar10", f"{part}.npz")) as file:
        return decoded(file["jpeg"], file["offsets"]), torch.from_numpy(file["labels"]).long()


def decoded(jpeg: np.ndarray, offsets: np.ndarray, side: int | None = None) -> Tensor:
    """JPEG files laid end to end as images (N, 3, side, side) in [0, 1]; resized by boxes where a side is given."""
    from PIL import Image

    found: list[np.ndarray] = []
    for start, end in itertools.pairwise(offsets):
        picture = Image.open(io.BytesIO(jpeg[start:end].tobytes())).convert("RGB")
        found.append(np.asarray(picture if side is None else picture.resize((side, side), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(found)).movedim(-1, 1).contiguous() / 255
