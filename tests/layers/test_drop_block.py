"""DropBlock drops whole blocks, keeps the share it says, and keeps each row's scale."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from caveat.errors import InvalidArgumentError
from caveat.layers import DropBlock1d, DropBlock2d, DropBlock3d
from caveat.layers._drop_block import _block_rate as block_rate

BY_PLACES = {1: DropBlock1d, 2: DropBlock2d, 3: DropBlock3d}


def expected_kept(gamma: float, block: int, sizes: tuple[int, ...]) -> float:
    """By brute force: a place is kept if none of the corners whose block covers it was chosen."""
    total = 0.0
    for place in itertools.product(*map(range, sizes)):
        corners = itertools.product(*(range(size - min(block, size) + 1) for size in sizes))
        covering = sum(
            all(c <= at < c + min(block, size) for c, at, size in zip(corner, place, sizes, strict=True))
            for corner in corners
        )
        total += (1 - gamma) ** covering
    return total / math.prod(sizes)


@given(
    p=st.floats(0, 0.95),
    block=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
)
def test_the_expected_share_kept_is_one_minus_p(p: float, block: int, sizes: tuple[int, ...]) -> None:
    """To 1e-9, for any block and any map, by the exact gamma; overlaps make the paper's drop less or as much."""
    assert expected_kept(block_rate(p, block, sizes), block, sizes) == pytest.approx(1 - p, abs=1e-9)
    paper = block_rate(p, block, sizes, exact=False)
    if paper < 1:
        assert expected_kept(paper, block, sizes) >= 1 - p - 1e-9


def test_the_papers_gamma() -> None:
    # Equation 1 at keep_prob 0.9, block 7, feature map 28: 0.1 / 49 * 784 / 22^2.
    assert block_rate(0.1, 7, (28, 28), exact=False) == pytest.approx(0.1 / 49 * 28**2 / 22**2)
    # A block as large as the map: one place, gamma = p.
    assert block_rate(0.1, 7, (5, 5), exact=False) == pytest.approx(0.1)
    assert block_rate(0.1, 7, (5, 5)) == pytest.approx(0.1)


@pytest.mark.parametrize(("places", "p", "block", "size"), [
    (1, 0.3, 4, 30), (2, 0.1, 7, 14), (2, 0.3, 4, 9), (3, 0.2, 2, 6),
])  # fmt: skip
def test_the_share_kept_in_passes_is_one_minus_p(places: int, p: float, block: int, size: int) -> None:
    """Within 5 standard errors of the mean over rows, 0.02 at most; the paper's gamma keeps what it should, more."""
    torch.manual_seed(0)
    x, sizes = torch.ones(400, 8, *(size,) * places), (size,) * places
    for exact in (True, False):
        kept = BY_PLACES[places](p, block, exact=exact)(x).ne(0).double().flatten(1).mean(1)
        error = float(kept.std()) / math.sqrt(len(kept))
        expected = expected_kept(block_rate(p, block, sizes, exact=exact), block, sizes)
        assert 5 * error < 0.02
        assert abs(float(kept.mean()) - expected) < 5 * error
        assert expected == pytest.approx(1 - p) if exact else expected > 1 - p


@given(block=st.integers(1, 5), seed=st.integers(0, 99))
def test_what_is_dropped_is_whole_blocks_inside_the_map(block: int, seed: int) -> None:
    torch.manual_seed(seed)
    gone = DropBlock2d(0.3, block)(torch.ones(1, 3, 7, 6)).eq(0).float()
    whole = -nn.functional.max_pool2d(-gone, block, 1)  # 1 where a whole block is gone
    padded = nn.functional.pad(whole, [block - 1] * 4)
    assert torch.equal(nn.functional.max_pool2d(padded, block, 1), gone)


def test_a_row_keeps_its_scale_and_is_alone() -> None:
    """Multipliers of a row sum to the number of its elements, by the paper's normalization over each row."""
    torch.manual_seed(0)
    out = DropBlock2d(0.4, 3)(torch.ones(16, 4, 8, 8, dtype=torch.float64))
    torch.testing.assert_close(out.sum((1, 2, 3)), torch.full((16,), 256.0, dtype=torch.float64))
    scales = out.amax((1, 2, 3))
    assert len(scales.unique()) > 1
    assert ((out == 0) | (out == scales[:, None, None, None])).all()


def test_one_row_alone_and_a_row_that_lost_everything() -> None:
    torch.manual_seed(0)
    assert DropBlock2d(0.4, 3)(torch.ones(4, 8, 8)).shape == (4, 8, 8)
    out = DropBlock2d(0.95, 3)(torch.ones(100, 1, 2, 2))
    assert out.isfinite().all()
    assert (out.flatten(1).sum(1) == 0).any()


@pytest.mark.parametrize("block_size", [0, -1, 2.5, "7", True])
def test_a_block_has_a_whole_size(block_size: object) -> None:
    with pytest.raises(InvalidArgumentError, match="block_size must be an integer of at least 1"):
        DropBlock2d(0.1, block_size)  # type: ignore[arg-type]
