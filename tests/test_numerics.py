"""Running moments: golden numbers, laws of the merge, and digits kept where float32 sums lose them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caveat._numerics import (
    Moments,
    accumulator,
    concatenate_moments,
    entropy,
    log_softmax,
    merged_mean,
    public_dtype,
)
from caveat.errors import InvalidArgumentError

values = st.floats(-100, 100, width=32)


@st.composite
def three_sets(draw: st.DrawFn) -> list[torch.Tensor]:
    rows = draw(st.integers(1, 4))
    sizes = [draw(st.integers(1, 6)) for _ in range(3)]
    return [torch.from_numpy(draw(hnp.arrays(np.float32, (s, rows), elements=values))) for s in sizes]


def assert_same(a: Moments, b: Moments) -> None:
    assert torch.equal(a.count.expand(a.mean.shape), b.count.expand(b.mean.shape))
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.m2, b.m2, rtol=1e-10, atol=1e-9)


def test_golden_moments() -> None:
    # 1, 2, 6: mean 9/3 = 3; m2 = 4 + 1 + 9 = 14; variance 14/2 = 7; standard error sqrt(7/3).
    m = Moments.from_draws(torch.tensor([1.0, 2.0, 6.0])[:, None])
    assert (m.count.item(), m.mean.item(), m.m2.item(), m.variance.item()) == (3, 3.0, 14.0, 7.0)
    assert m.standard_error.item() == pytest.approx(math.sqrt(7 / 3), rel=1e-15)
    assert m.mean.dtype == torch.float64
    assert m.count.dtype == torch.int64
    assert m.count.ndim == 0


def test_moments_along_another_axis() -> None:
    x = torch.randn(4, 9)
    assert_same(Moments.from_draws(x, dim=1), Moments.from_draws(x.T))


def test_one_draw_has_no_variance_and_no_standard_error() -> None:
    m = Moments.from_draws(torch.randn(1, 5))
    assert torch.equal(m.variance, torch.zeros(5, dtype=torch.float64))
    assert m.standard_error.isnan().all()


@settings(deadline=None)
@given(three_sets())
def test_merge_is_associative_commutative_and_equals_the_whole(sets: list[torch.Tensor]) -> None:
    a, b, c = (Moments.from_draws(x) for x in sets)
    whole = Moments.from_draws(torch.cat(sets))
    assert_same(a.merge(b).merge(c), whole)
    assert_same(a.merge(b.merge(c)), whole)
    assert_same(c.merge(a).merge(b), whole)


def test_merge_with_counts_by_row() -> None:
    x, y = torch.randn(3, 4, 2), torch.randn(5, 4, 2)
    some = Moments.from_draws(x).merge(Moments.from_draws(y)).rows(slice(0, 2))
    rest = Moments.from_draws(x).rows(slice(2, 4))
    mixed = concatenate_moments([some, rest])
    assert mixed.count.tolist() == [[8], [8], [3], [3]]
    z = torch.randn(7, 4, 2)
    merged = mixed.merge(Moments.from_draws(z))
    assert merged.count.tolist() == [[15], [15], [10], [10]]
    assert_same(merged.rows(slice(0, 2)), Moments.from_draws(torch.cat([x, y, z])[:, :2]))
    assert_same(merged.rows(slice(2, 4)), Moments.from_draws(torch.cat([x, z])[:, 2:]))


def test_concatenated_count_stays_one_number_where_it_can() -> None:
    m = Moments.from_draws(torch.randn(3, 4))
    assert concatenate_moments([m, m]).count.ndim == 0


def test_variance_beside_a_large_mean() -> None:
    # Mean 1000, sd 0.01 in float32, whose step there is 6e-5. E[y^2] - E[y]^2 would need 1e-10 of 1e6.
    generator = torch.Generator().manual_seed(0)
    exact = 1000 + 0.01 * torch.randn(1000, 50, generator=generator, dtype=torch.float64)
    single = exact.float()
    chunks = [Moments.from_draws(part) for part in single.split(7)]
    merged = chunks[0]
    for part in chunks[1:]:
        merged = merged.merge(part)
    truth = exact.var(0)
    for variance in (Moments.from_draws(single).variance, merged.variance):
        assert ((variance - truth).abs() / truth).max() < 0.02
    naive = (single.square().mean(0) - single.mean(0).square()) * 1000 / 999
    assert ((naive - truth).abs() / truth).max() > 1


def test_merge_keeps_float64_beside_integer_counts() -> None:
    # 1/3 in float32 would show at 1e-8 of the mean.
    a, b = (Moments.from_draws(torch.full((n, 1), v, dtype=torch.float64)) for n, v in ((1, 0.0), (2, 1.0)))
    assert a.merge(b).mean.item() == pytest.approx(2 / 3, rel=1e-15)
    one, two = torch.tensor(1), torch.tensor(2)
    mean = merged_mean(one, torch.zeros(1, dtype=torch.float64), two, torch.ones(1, dtype=torch.float64))
    assert mean.item() == pytest.approx(2 / 3, rel=1e-15)


def test_without_float64_moments_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caveat._numerics._WITHOUT_FLOAT64", frozenset({"cpu"}))
    m = Moments.from_draws(torch.randn(5, 3, dtype=torch.float64))
    merged = m.merge(m)
    dtypes = {merged.mean.dtype, merged.m2.dtype, merged.variance.dtype, merged.standard_error.dtype}
    assert dtypes == {torch.float32}
    wide = Moments(m.count, m.mean.double(), m.m2.double()).to("cpu")
    assert wide.mean.dtype == torch.float32


def test_accumulator_and_public_dtypes() -> None:
    assert accumulator(torch.device("mps")) == torch.float32
    assert accumulator("cuda") == torch.float64
    assert [public_dtype(d) for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)] == [
        torch.float32,
        torch.float32,
        torch.float32,
        torch.float64,
    ]


@pytest.mark.parametrize("x", [torch.zeros(0, 3), torch.tensor(1.0)])
def test_no_draws_is_an_error(x: torch.Tensor) -> None:
    with pytest.raises(InvalidArgumentError, match=r"(?s)At least one draw.*Got: shape.*Fix:"):
        Moments.from_draws(x)


def test_entropy_with_zeros() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    # log 2; 0; 2 * 1/4 log 4 + 1/2 log 2 = 3/2 log 2.
    torch.testing.assert_close(entropy(p), torch.tensor([1, 0, 1.5], dtype=torch.float64) * math.log(2))
    torch.testing.assert_close(entropy(p.T, dim=0), entropy(p))


@settings(deadline=None)
@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_log_softmax_is_torchs(scores: np.ndarray) -> None:
    x = torch.from_numpy(scores)
    torch.testing.assert_close(log_softmax(x), torch.log_softmax(x.double(), -1), rtol=1e-12, atol=1e-12)


def test_log_softmax_has_a_gradient() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_softmax, (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("draws", [1, 3, 700])
def test_moments_of_large_tensors_are_taken_part_by_part(draws: int, dtype: torch.dtype) -> None:
    x = 1000 + 0.01 * torch.randn(draws, 7, 600_000 // (7 * draws) + 5, dtype=dtype)
    before = x.clone()
    moments = Moments.from_draws(x)
    wide = x.double()
    torch.testing.assert_close(moments.mean, wide.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(moments.m2, (wide - wide.mean(0)).square().sum(0), rtol=1e-9, atol=1e-15)
    assert torch.equal(x, before)
