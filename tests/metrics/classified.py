"""Random classified rows, and a Hypothesis strategy of them."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor


def rows(n: int, classes: int = 3, *, seed: int = 0, sharpness: float = 2.0) -> tuple[Tensor, Tensor]:
    """Probabilities (n, C) in float64 and labels drawn from a softer version of them: an overconfident network."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0]
    return (sharpness * z).softmax(-1), labels


def some_rows(least: int = 1) -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    """Rows of many sizes, some with probabilities that are exactly 0, 1 or tied."""

    def build(n: int, classes: int, seed: int, rounded: bool) -> tuple[Tensor, Tensor]:
        p, y = rows(n, classes, seed=seed, sharpness=4.0)
        if rounded:
            p = (4 * p).round()
            p = torch.where(p.sum(-1, keepdim=True) > 0, p, torch.ones_like(p))
            p = p / p.sum(-1, keepdim=True)
        return p, y

    return st.builds(build, st.integers(least, 40), st.integers(2, 5), st.integers(0, 10_000), st.booleans())
