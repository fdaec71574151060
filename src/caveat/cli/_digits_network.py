"""The demo's network: two convolutions and a dense layer, each followed by dropout; and its training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from caveat.cli._demo_data import CLASSES

BATCH = 64
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4


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
    images: Tensor, labels: Tensor, *, epochs: int, seed: int, on_step: Callable[[], None] = lambda: None
) -> DigitsNetwork:
    """A network trained on these digits, in eval mode; the same for the same seed.

    Args:
        images: (B, 1, 28, 28).
        labels: (B,) classes.
        epochs: passes over the images.
        seed: of the first weights, the order of the images and the dropout while training.
        on_step: called after each of `steps(len(images), epochs)` batches.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DigitsNetwork()
        total = steps(len(images), epochs)
        adam = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        slowing = torch.optim.lr_scheduler.OneCycleLR(adam, 3 * LEARNING_RATE, total_steps=total + 1)
        for _ in range(epochs):
            order = torch.randperm(len(images))
            for start in range(0, len(images), BATCH):
                batch = order[start : start + BATCH]
                adam.zero_grad()
                loss = cross_entropy(network(images[batch]), labels[batch])
                loss.backward()
                adam.step()
                slowing.step()
                on_step()
    return network.eval()


def steps(images: int, epochs: int) -> int:
    """How many batches training takes.

    Example:
        >>> steps(130, epochs=2)
        6
    """
    return epochs * math.ceil(images / BATCH)
