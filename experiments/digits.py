"""The small networks for digits that experiments on MNIST share; trained once a seed and kept in the temporary folder.

Ten thousand training images and few channels: two cores shall do in minutes what a paper did on a graphics card.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from records import images
from torch import nn

import caveat
from caveat.samplers import deterministic, ensemble, mixture
from caveat.train import fit_ensemble

MEMBERS, TRAINED_ON, EPOCHS = 5, 10_000, 10
RATE = 0.5  # of dropout, before each of the two fully connected layers
SPATIAL_RATE = 0.2  # of spatial dropout, which leaves out whole channels, where there is some after each convolution


def network(spatial_rate: float = 0.0) -> nn.Module:
    """LeNet's form with 8 and 16 channels; with spatial dropout after each convolution where its rate is above 0."""
    spatial = [nn.Dropout2d(spatial_rate)] if spatial_rate else []
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), *spatial, nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5), *spatial, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(RATE), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(RATE), nn.Linear(128, 10),
    )  # fmt: skip


def trained(
    seed: int, *, spatial_rate: float = 0.0, members: int = MEMBERS, smoke: bool = False
) -> Sequence[nn.Module]:
    """Networks on the first 10,000 training images, a tenth held out; the weights of the best epoch."""
    x, y = images("mnist", "train")
    count = 1000 if smoke else TRAINED_ON
    kind = f"{seed}" if (spatial_rate, members) == (0.0, MEMBERS) else f"{seed}-{spatial_rate}-{members}"
    folder = None if smoke else Path(tempfile.gettempdir()) / "caveat-digits" / kind
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return fit_ensemble(
        functools.partial(network, spatial_rate), nn.functional.cross_entropy, (x[:count], y[:count]),
        members=min(2, members) if smoke else members, seed=seed, epochs=1 if smoke else EPOCHS, batch_size=32,
        learning_rate=1e-3, backend="loop", checkpoint=folder, progress=False,
    )  # fmt: skip


def four_methods(networks: Sequence[nn.Module], draws: int, *, single: str = "one pass") -> dict[str, tuple[Any, int]]:
    """By method a sampler of the same networks, and its number of draws; ``single`` names one network alone."""
    output = caveat.Logits()
    with_dropout = [caveat.mc_dropout(one, output=output) for one in networks]
    return {
        single: (deterministic(networks[0], output=output), 1),
        "MC dropout": (with_dropout[0], draws),
        "deep ensemble": (ensemble(networks, output=output), len(networks)),
        "ensemble of MC dropout": (mixture(with_dropout), len(networks) * draws // 5),
    }
