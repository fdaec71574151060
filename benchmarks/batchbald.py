"""Time and memory of one BatchBALD batch: `python -m benchmarks.batchbald`.

10,000 pool points, a batch of 10, 100 draws, 10 classes; each draw is a random linear classifier on shared features, so
that rows hang together as they do for a network.
"""

from __future__ import annotations

import resource
import time

import torch
from torch import Tensor

from caveat.acquire import batchbald

ROWS, SIZE, DRAWS, CLASSES = 10_000, 10, 100, 10


def probabilities() -> Tensor:
    """Draws (S, B, C) in float32, as a predictive keeps them."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, 32, generator=generator)
    mean, spread = torch.randn(2, 32, CLASSES, generator=generator)
    weights = 0.4 * mean + 0.3 * spread.abs() * torch.randn(DRAWS, 32, CLASSES, generator=generator)
    return (features @ weights).softmax(-1)


def peak_megabytes() -> float:
    """The most that the process has held so far (Linux counts in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    p = probabilities()
    batchbald(p[:, :100], 4)  # what is made once is made before
    print(f"{ROWS} rows, batch {SIZE}, {DRAWS} draws, {CLASSES} classes, {torch.get_num_threads()} threads")
    for configurations in (1000, 4000):
        before = peak_megabytes()
        start = time.perf_counter()
        batch = batchbald(p, SIZE, configurations=configurations)
        seconds = time.perf_counter() - start
        grown = peak_megabytes() - before
        print(
            f"{configurations:5d} configurations: {seconds:5.1f} s, peak memory +{grown:.0f} MB "
            f"(draws {p.nbytes / 2**20:.0f} MB), score {float(batch.scores[-1]):.3f} nats"
        )
