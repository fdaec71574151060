"""The demo's network: two convolutions and a dense layer, each followed by dropout; and its training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from caveat.cli._demo._data import CLASSES
from caveat.train import fit

_BATCH = 64
_WEIGHT_DECAY = 1e-4


class DigitsNetwork(nn.Sequential):
    """A small convolutional network with a dropout site after each convolution and after the dense layer.

    Takes images (B, 1, 28, 28), returns logits (B, C). After a convolution whole channels are dropped
    (spatial dropout): neighboring pixels say much the same, so dropping single ones would change little.
    See "Efficient Object Localization Using Convolutional Networks", Tompson et al., 2015,
    https://arxiv.org/abs/1411.4280.

    Example:
        >>> DigitsNetwork()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout2d(0.25),
            nn.Conv2d(32, 64, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout2d(0.25),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, classes),
        )


def fit_digits_network(
    images: Tensor, labels: Tensor, *, epochs: int, seed: int, advance: Callable[[float], None] | None = None
) -> DigitsNetwork:
    """Returns a network trained on these digits, in eval mode; the same for the same seed.

    Args:
        images: Images (B, 1, 28, 28).
        labels: Classes (B,).
        epochs: Number of passes over the images.
        seed: Random seed for the first weights, the order of the images and the dropout while training.
        advance: Called at each step with the fraction of all steps that has been taken.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DigitsNetwork()

    def even(fraction: float) -> float:
        if advance:
            advance(fraction)
        return 1.0

    fit(
        network,
        cross_entropy,
        (images, labels),
        validation=None,
        epochs=epochs,
        batch_size=_BATCH,
        weight_decay=_WEIGHT_DECAY,
        patience=None,
        seed=seed,
        schedule=even if advance else None,
        progress=False,
    )
    return network
