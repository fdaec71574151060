"""Which units are dropped is the same on every device, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caveat._intercept import MaskSource
from caveat._intercept._masks import Make
from caveat._intercept._sites import SiteKey

SITE = SiteKey("block.drop", 1)
AS_IT_IS = Make("as it is", lambda keep: keep)
SHAPE = (3, 700)


def made(device: torch.device, strata: int | None, seed: int) -> dict[str, Tensor]:
    """Numbers of each kind, asked for in two chunks; -3 is a seed, too."""
    source = MaskSource(seed, strata, device)
    rows = torch.arange(5, device=device)
    parts = {
        "masks": [source.masks(SITE, SHAPE, 0.1, draws, AS_IT_IS) for draws in (range(6), range(6, 24))],
        "masks by row": [source.masks_by_row(SITE, SHAPE, 0.5, range(4), rows, AS_IT_IS)],
        "uniform": [source.uniform(SITE, SHAPE, range(24), torch.float32)],
        "uniform, double": [source.uniform(SITE, SHAPE, range(24), torch.float64)],
    }
    return {name: torch.cat(values) for name, values in parts.items()}


@pytest.mark.parametrize("strata", [None, 8, 6])
@pytest.mark.parametrize("seed", [0, -3, 2**63 + 11])
def test_masks_are_the_cpus_bit_for_bit(device: torch.device, strata: int | None, seed: int) -> None:
    here, there = made(torch.device("cpu"), strata, seed), made(device, strata, seed)
    for name, value in there.items():
        assert value.device == device, name
        assert torch.equal(value.cpu(), here[name]), name


def test_masks_of_a_longer_tensor_extend_those_of_a_shorter(device: torch.device) -> None:
    short = MaskSource(4, None, device).masks(SITE, (3, 5), 0.5, range(8), AS_IT_IS).unflatten(1, (3, 5))
    long = MaskSource(4, None, device).masks(SITE, (6, 9), 0.5, range(8), AS_IT_IS).unflatten(1, (6, 9))
    assert torch.equal(long[:, :3, :5].cpu(), short.cpu())
