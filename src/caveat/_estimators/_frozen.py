"""Networks that are not trained but give features, and what heads on these are made of.

A frozen network, an encoder or a backbone, goes over each row once. Heads are perceptrons with dropout on its features,
brought to one scale. A folder may only name it, with a digest of its weights, and it is looked for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat.errors import InvalidArgumentError, InvalidModelError


class Standardized(nn.Module):
    """Features (B, F) brought to mean 0 and a standard deviation of 1 over all of them.

    Args:
        features: The number F.
        scales: The shape of the buffer that holds the one scale.
    """

    def __init__(self, features: int, *scales: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("scale", torch.ones(scales))

    def standardize(self, features: Tensor) -> None:
        """Take the mean and scale of features (N, F)."""
        wide = features.double()
        cast(Tensor, self.shift).copy_(wide.mean(0))
        cast(Tensor, self.scale).copy_((wide - wide.mean(0)).square().mean().sqrt().clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features, standardized."""
        return (features - cast(Tensor, self.shift)) / cast(Tensor, self.scale)


def build_on(features: Tensor | None, build: Callable[[], nn.Module]) -> nn.Module:
    """Returns an untrained network; one on features (N, F) of a frozen network standardizes by those."""
    network = build()
    if features is not None:
        for head in [module for module in network.modules() if isinstance(module, Standardized)]:
            head.standardize(features)
    return network


def perceptron(widths: Sequence[int], dropout: float) -> list[nn.Module]:
    """Returns the layers of a perceptron of these widths, from its inputs to its outputs, each after dropout."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Dropout(dropout), nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def digest_of_weights(module: nn.Module, first: bytes = b"") -> str:
    """Returns what tells a network that a folder only names from another: a digest of ``first`` and of its weights."""
    digest = hashlib.sha256(first)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find_frozen(
    place: Path, open_one: Callable[[], Any], digest: str | None, *, what: str, differs: str, cause: str, fix: str
) -> Any:
    """Returns the frozen network that a model's folder only names.

    Args:
        place: Folder.
        open_one: Opens the network, which has a ``name`` and a ``fingerprint()``.
        digest: Fingerprint of the one that the model was trained with.
        what: What such a network is called, for the message, as are the next three.
        differs: What another one is.
        cause: What has become of it.
        fix: How to say where it is.

    Raises:
        InvalidModelError: It cannot be opened, or is another one.
    """
    problem: InvalidArgumentError | None = None
    try:
        found = open_one()
        if found.fingerprint() == digest:
            return found
        got = f"{found.name!r}: {differs}"
    except InvalidArgumentError as error:
        got, problem = str(error).splitlines()[1].strip().removeprefix("Got: "), error
    rule = f"The model in {place} needs the {what} that it was trained with."
    raise InvalidModelError(rule, got=got, cause=cause, fix=fix) from problem
