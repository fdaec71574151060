"""Generators and normal numbers that depend on (seed, draw) alone."""

from __future__ import annotations

import torch
from torch import Tensor

from caveat._intercept import normal_from_uniform, random_bits, uniform_from_bits
from caveat._seeds import draw_keys, fold_in, site_key


def generator_of(seed: int, draw: int, stream: str) -> torch.Generator:
    """A generator on the CPU for a draw, the same on every device."""
    return torch.Generator().manual_seed(fold_in(seed, stream, draw))


def normals_of(seed: int, draw: int, name: str, count: int, device: torch.device) -> Tensor:
    """(count,) float32 standard normal numbers for a draw and a name, the same on every device."""
    keys = draw_keys(seed, site_key(name, 0, "normal"), torch.tensor([draw], device=device))
    return normal_from_uniform(uniform_from_bits(random_bits(keys, count)))[0]
