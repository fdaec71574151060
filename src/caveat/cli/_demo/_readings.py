"""What the demo keeps of a prediction, and the rule by which it answers or says "not sure"."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import caveat

SURE_UP_TO = math.log(2)
"""Nats: the entropy of a fair coin."""
RULE = "“Not sure” where the predictive entropy is over ln 2 = 0.69 nats, the entropy of a fair coin toss."
PART = 36


@dataclass(frozen=True)
class Readings:
    """Numbers of B images, all on the CPU in float64.

    Attributes:
        mean: (B, C) mean softmax over the draws.
        sd: (B, C) standard deviation of the softmax over the draws.
        entropy: (B,) predictive entropy, nats.
        information: (B,) mutual information between the answer and the draw, nats.
        single: (B, C) softmax of one pass with dropout off: the network without MC dropout.
    """

    mean: Tensor
    sd: Tensor
    entropy: Tensor
    information: Tensor
    single: Tensor

    def split(self, size: int) -> list[Readings]:
        """Runs of `size` images."""
        fields = [getattr(self, f.name).split(size) for f in dataclasses.fields(self)]
        return [Readings(*parts) for parts in zip(*fields, strict=True)]

    @staticmethod
    def join(parts: list[Readings]) -> Readings:
        """The images of all parts, in order."""
        return Readings(
            *(torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Readings))
        )


@dataclass(frozen=True)
class Saying:
    """What is said of one image: the first choice, its probability, and whether it is the answer."""

    answer: int
    probability: float
    sure: bool

    def names(self, label: int) -> bool:
        """Whether the answer is given, and is this label."""
        return self.sure and self.answer == label


def says(probabilities: Tensor) -> Saying:
    """What probabilities (C,) come down to under the demo's rule.

    Example:
        >>> says(torch.tensor([0.25, 0.75]))
        Saying(answer=1, probability=0.75, sure=True)
        >>> says(torch.tensor([0.3, 0.3, 0.4])).sure
        False
    """
    p = probabilities.double()
    entropy = float(-torch.xlogy(p, p).sum())
    return Saying(answer=int(p.argmax()), probability=float(p.max()), sure=entropy <= SURE_UP_TO)


def read_images(
    network: nn.Module,
    images: Tensor,
    *,
    draws: int,
    seed: int,
    part: int = PART,
    on_images: Callable[[int], None] = lambda count: None,
) -> Readings:
    """What `draws` thinned networks, and the whole network once, say about images (B, 1, 28, 28).

    The images go in parts of `part`, only to move the progress bar: a draw depends on the seed and its number
    alone, so every part meets the same thinned networks.
    """
    sampler = caveat.mc_dropout(network, output=caveat.Logits())
    parts: list[Readings] = []
    for start in range(0, len(images), part):
        some = images[start : start + part]
        pred = caveat.predict(sampler, some, n=draws, seed=seed)
        with torch.no_grad():
            single = network(some).double().softmax(-1)
        parts.append(
            Readings(
                mean=pred.mean.double(),
                sd=pred.variance.double().sqrt(),
                entropy=caveat.predictive_entropy(pred).double(),
                information=caveat.mutual_information(pred).double(),
                single=single,
            )
        )
        on_images(len(some))
    return Readings.join(parts)
