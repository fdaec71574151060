"""Masks as random numbers: the right rate, nothing in common, and the same however they are asked for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caveat._intercept._masks import MaskSource, normal_from_uniform, random_bits, threshold, uniform_from_bits
from caveat._intercept._sites import SiteKey
from caveat._seeds import draw_keys, site_key

from .kept import KEPT, SITE, keep, kept_by, kept_rows

# The chance that a right generator fails one of the tests below; the bound is spread over all comparisons of a test.
ALPHA = 1e-6


def z_bound(comparisons: int) -> float:
    """Two-sided normal quantile for ALPHA over this many comparisons (Bonferroni)."""
    return math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - ALPHA / comparisons, dtype=torch.float64)))


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.25, 0.5, 0.9])
def test_the_rate_is_right_overall_by_draw_and_by_element(rate: float) -> None:
    dropped = (~keep(rate)).double()
    for share, size in ((dropped.mean(), dropped.numel()), (dropped.mean(0), 256), (dropped.mean(1), 512)):
        expected = size * rate
        if expected < 20:  # too few for a normal bound
            continue
        z = (share - rate) / math.sqrt(rate * (1 - rate) / size)
        assert float(z.abs().max()) < z_bound(z.numel()) + 0.5  # a little for the binomial's skew


def test_rates_near_the_ends() -> None:
    assert bool(keep(1e-12).all())
    assert threshold(0.0) == -(2**31)
    assert threshold(1.0) == 2**31 - 1
    assert int(keep(1 - 1e-12).sum()) == 0


def correlations(rows: Tensor) -> Tensor:
    """z-scores of the correlation of every pair of rows of a (R, N) tensor."""
    centered = rows.double() - rows.double().mean(1, keepdim=True)
    unit = centered / centered.norm(dim=1, keepdim=True)
    pairs = torch.triu_indices(len(rows), len(rows), 1)
    return (unit @ unit.T)[pairs[0], pairs[1]] * math.sqrt(rows.shape[1])


def many(what: str) -> Tensor:
    """Rows of masks that differ in one thing only."""
    if what == "draws":
        return keep(0.5, range(128), 2048)
    if what == "elements":
        return keep(0.5, range(2048), 128).T
    if what == "sites":
        return torch.stack([keep(0.5, range(8), 256, site=SiteKey(f"drop.{i}", 0)).reshape(-1) for i in range(64)])
    if what == "calls of a site":
        return torch.stack([keep(0.5, range(8), 256, site=SiteKey("drop", i)).reshape(-1) for i in range(64)])
    if what == "seeds":
        return torch.stack([keep(0.5, range(8), 256, seed=i).reshape(-1) for i in range(-32, 32)])
    if what == "rows":
        return kept_rows(0.5, range(8), torch.arange(64), 256).movedim(1, 0).reshape(64, -1)
    # The first draws of different blocks of strata.
    return torch.cat([keep(0.5, range(16 * i, 16 * i + 1), 1024, strata=16) for i in range(64)])


@pytest.mark.parametrize("what", ["draws", "elements", "sites", "calls of a site", "seeds", "rows", "blocks"])
def test_nothing_is_correlated_with_anything(what: str) -> None:
    z = correlations(many(what))
    assert float(z.abs().max()) < z_bound(z.numel())
    # All together: the sum of squares of the z-scores is nearly chi-square.
    assert abs(float((z.square().mean() - 1) * math.sqrt(z.numel() / 2))) < z_bound(1) + 1


@pytest.mark.parametrize("lag", [1, 2, 3, 32, 64, 127])
def test_no_correlation_along_the_elements(lag: int) -> None:
    signs = keep(0.5, range(512), 1024).double() * 2 - 1
    z = (signs[:, lag:] * signs[:, :-lag]).sum() / math.sqrt(512 * (1024 - lag))
    assert abs(float(z)) < z_bound(6)


def test_patterns_of_neighbors_are_all_as_likely() -> None:
    """Chi-square over the 256 patterns of eight neighboring elements."""
    bits = keep(0.5, range(512), 1024).reshape(-1, 8).long()
    counts = torch.bincount((bits * 2 ** torch.arange(8)).sum(1), minlength=256).double()
    expected = len(bits) / 256
    chi = ((counts - expected).square() / expected).sum()
    assert abs(float((chi - 255) / math.sqrt(2 * 255))) < z_bound(1) + 1


def test_each_bit_of_the_words_is_fair_and_the_words_do_not_repeat() -> None:
    words = random_bits(draw_keys(3, site_key("drop", 0), torch.arange(64)), 4096)
    for bit in range(32):
        ones = ((words >> bit) & 1).double().mean()
        assert abs(float(ones) - 0.5) * 2 * math.sqrt(words.numel()) < z_bound(32)
    # 262,144 words of 32 bits collide about 8 times by chance.
    assert words.numel() - len(words.unique()) < 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_and_normal_numbers(dtype: torch.dtype) -> None:
    uniform = MaskSource(1).uniform(SITE, 1024, range(256), dtype)
    assert uniform.dtype == dtype
    assert 0 < float(uniform.min()) < float(uniform.max()) < 1
    counts = torch.histc(uniform.float(), bins=64, min=0, max=1).double()
    chi = ((counts - uniform.numel() / 64).square() / (uniform.numel() / 64)).sum()
    assert abs(float((chi - 63) / math.sqrt(126))) < z_bound(2) + 1
    normal = normal_from_uniform(uniform).double()
    assert bool(normal.isfinite().all())
    assert abs(float(normal.mean())) * math.sqrt(normal.numel()) < z_bound(2)
    assert abs(float(normal.var() - 1)) * math.sqrt(normal.numel() / 2) < z_bound(2)


def test_uniform_at_the_ends_of_the_words() -> None:
    ends = torch.tensor([-(2**31), -1, 0, 2**31 - 1], dtype=torch.int32)
    for dtype in (torch.float32, torch.float64):
        uniform = uniform_from_bits(ends, dtype)
        assert bool(((uniform > 0) & (uniform < 1)).all())
        assert uniform.tolist() == sorted(uniform.tolist())


@settings(max_examples=20)
@given(
    start=st.integers(0, 2**40),
    length=st.integers(1, 40),
    elements=st.integers(1, 300),
    strata=st.sampled_from([None, 2, 7, 64]),
    before=st.integers(0, 5000),
)
def test_a_mask_is_the_same_however_it_is_asked_for(
    start: int, length: int, elements: int, strata: int | None, before: int
) -> None:
    source = MaskSource(5, strata)
    kept_by(source, 0.3, range(before, before + 3), elements)  # what was asked before leaves no trace
    draws = range(start, start + length)
    piece = kept_by(source, 0.3, draws, elements).clone()
    alone = [keep(0.3, range(i, i + 1), elements, seed=5, strata=strata) for i in (draws[0], draws[-1])]
    assert torch.equal(piece[[0, -1]], torch.cat(alone))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.77])
@pytest.mark.parametrize("strata", [2, 8, 64])
def test_strata_drop_each_element_its_share_of_times_in_each_block(rate: float, strata: int) -> None:
    dropped = ~keep(rate, range(strata * 24), 96, strata=strata)
    counts = dropped.unflatten(0, (24, strata)).sum(1).double()
    assert float((counts - strata * rate).abs().max()) < 1
    # The mean over blocks is unbiased: the part of a drop left over fires in proportion.
    left = strata * rate % 1
    z = (counts.mean() - strata * rate) / math.sqrt(max(left * (1 - left), 1e-9) / counts.numel())
    assert abs(float(z)) < z_bound(1) or left * (1 - left) < 1e-6


def test_strata_are_in_random_order_within_a_block() -> None:
    dropped = (~keep(0.5, range(16), 4096, strata=16)).double()
    z = (dropped.mean(1) - 0.5) * 2 * math.sqrt(4096)
    assert float(z.abs().max()) < z_bound(16)


def test_no_more_is_made_than_asked_for_until_somebody_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(keys: tuple[Tensor, Tensor], elements: int, start: tuple[int, ...]) -> Tensor:
        made.append(len(keys[0]))
        return random_bits(keys, elements, start)

    monkeypatch.setattr("caveat._intercept._masks.random_bits", counted)
    source = MaskSource(0)
    parts = [kept_by(source, 0.5, range(start, start + 7), 10) for start in (0, 7, 14)]
    assert made[0] == 7  # a call with one chunk ends here
    assert len(made) == 2  # from the second one on, in blocks
    assert made[1] > 1000
    assert torch.equal(torch.cat(parts), keep(0.5, range(21), 10))


@pytest.mark.parametrize("strata", [None, 4])
def test_part_of_a_tensor_has_its_part_of_the_mask(strata: int | None) -> None:
    whole = MaskSource(3, strata).masks(SITE, (2, 6, 5), 0.5, range(4), KEPT).reshape(4, 2, 6, 5)
    source = MaskSource(3, strata, starts=lambda site, shape: (0, 4, 1) if site == SITE else ())
    assert torch.equal(source.masks(SITE, (2, 1, 3), 0.5, range(4), KEPT).reshape(4, 2, 1, 3), whole[:, :, 4:5, 1:4])
    numbers = MaskSource(3, strata).uniform(SITE, (2, 6, 5), range(4), torch.float32).reshape(4, 2, 6, 5)
    part = source.uniform(SITE, (2, 2, 4), range(4), torch.float32).reshape(4, 2, 2, 4)
    assert torch.equal(part, numbers[:, :, 4:6, 1:5])


def test_fresh_masks_of_a_row_follow_its_number() -> None:
    every = kept_rows(0.5, range(6), torch.arange(9), 50)
    some = kept_rows(0.5, range(2, 5), torch.tensor([7, 3]), 50)
    assert torch.equal(some, every[2:5][:, [7, 3]])
    assert not torch.equal(every[:, 0], every[:, 1])
