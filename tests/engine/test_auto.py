"""n="auto": each row takes the draws that it needs, and they are the first draws of a longer run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError, RowsNotSeparatedWarning


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Uneven(nn.Module):
    """Rows vary from draw to draw in proportion to their first entry."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * x[..., :1]


def uneven_batch() -> Tensor:
    x = numbers(6, 3)
    x[:, 0] = torch.tensor([0.05, 2.0, 0.3, 1.0, 0.0, 0.6])
    return x


@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_every_row_is_under_the_tolerance_with_no_more_draws_than_it_needs(backend: str) -> None:
    sampler, x, tolerance = caveat.mc_dropout(Uneven(), output=caveat.Mean(), backend=backend), uneven_batch(), 0.02
    pred = caveat.predict(sampler, x, n="auto", tolerance=tolerance)
    counts = pred.count.flatten().tolist()
    assert float(pred.standard_error().max()) <= tolerance
    assert len(set(counts)) > 2
    assert min(counts) == 32
    assert counts[4] == counts[0] == 32
    for row, count in enumerate(counts):
        fixed = caveat.predict(sampler, x[row : row + 1], count)
        torch.testing.assert_close(pred.mean[row], fixed.mean[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(pred.variance[row], fixed.variance[0], rtol=1e-3, atol=1e-6)
        if count > 32:  # half as many were not enough
            fewer = caveat.predict(sampler, x[row : row + 1], count // 2)
            assert float(fewer.standard_error().max()) > tolerance


def test_the_floor_and_the_ceiling() -> None:
    sampler, x = caveat.mc_dropout(Uneven(), output=caveat.Mean()), uneven_batch()
    easy = caveat.predict(sampler, x, n="auto", tolerance=1e6, min_draws=64)
    assert easy.count.unique().tolist() == [64]
    hard = caveat.predict(sampler, x, n="auto", tolerance=1e-9, min_draws=8, max_draws=200)
    assert int(hard.count.max()) == 200


def test_rows_are_the_same_in_any_batch() -> None:
    sampler, x = caveat.mc_dropout(Uneven(), output=caveat.Mean()), uneven_batch()
    whole = caveat.predict(sampler, x, n="auto", tolerance=0.03)
    some = caveat.predict(sampler, x[[3, 1]], n="auto", tolerance=0.03)
    assert torch.equal(some.count.flatten(), whole.count.flatten()[[3, 1]])
    torch.testing.assert_close(some.mean, whole.mean[[3, 1]])


@pytest.mark.parametrize("strata", [None, 16])
def test_the_error_of_a_measure(strata: int | None) -> None:
    sampler = caveat.mc_dropout(Uneven(), output=caveat.Logits(), strata=strata)
    x, entropy = uneven_batch(), caveat.predictive_entropy
    pred = caveat.predict(sampler, x, n="auto", tolerance=0.01, measure=entropy, max_draws=2048)
    assert bool((pred.count % (strata or 1) == 0).all())
    runs = [caveat.predict(sampler, x, 2048, seed=seed) for seed in (1, 2)]
    settled = torch.stack([entropy(run) for run in runs]).mean(0)
    assert float((entropy(pred) - settled).abs().max()) < 0.05


def test_strata_need_fewer_draws_for_the_same_tolerance() -> None:
    x = uneven_batch()
    counts = []
    for strata in (None, 32):
        sampler = caveat.mc_dropout(Uneven(), output=caveat.Mean(), strata=strata)
        counts.append(int(caveat.predict(sampler, x, n="auto", tolerance=0.02).count.sum()))
    assert counts[1] < counts[0]


def test_several_heads_stop_when_all_have_converged() -> None:
    class Two(Uneven):
        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return {"calm": y * 1e-6, "wild": y}

    output = {"calm": caveat.Mean(), "wild": caveat.Mean()}
    pred = caveat.predict(caveat.mc_dropout(Two(), output=output), uneven_batch(), n="auto", tolerance=0.02)
    single = caveat.predict(
        caveat.mc_dropout(Uneven(), output=caveat.Mean()), uneven_batch(), n="auto", tolerance=0.02
    )
    assert torch.equal(pred["calm"].count.flatten(), single.count.flatten())


def test_mean_and_variance_have_their_rows_on_another_axis() -> None:
    class Pair(Uneven):
        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return y, y.square() + 1

    sampler = caveat.mc_dropout(Pair(), output=caveat.MeanAndVariance())
    pred = caveat.predict(sampler, uneven_batch(), n="auto", tolerance=0.02)
    single = caveat.predict(
        caveat.mc_dropout(Uneven(), output=caveat.Mean()), uneven_batch(), n="auto", tolerance=0.02
    )
    assert torch.equal(pred.count.flatten(), single.count.flatten())
    torch.testing.assert_close(pred.mean, single.mean)


@pytest.mark.parametrize("length", [4, 5])
def test_rows_of_sequence_first_networks_leave_along_their_own_axis(length: int) -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn = nn.GRU(3, 16, num_layers=2, dropout=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0] * x[..., :1]

    x = numbers(length, 4, 3)
    x[:, :, 0] = torch.linspace(0.05, 1, length)[:, None] * torch.tensor([0.01, 3.0, 0.2, 1.0])
    sampler = caveat.mc_dropout(Sequence(), output=caveat.Mean())
    pred = caveat.predict(sampler, x, n="auto", tolerance=0.01, max_draws=512)
    least = int(pred.count.min())
    reference = caveat.predict(sampler, x, 2048)
    assert least >= 32
    assert float((pred.mean - reference.mean).abs().max()) < 0.1


def test_rows_that_cannot_be_separated_go_on_together() -> None:
    class Mixing(Uneven):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0.1 * super().forward(x).mean()

    sampler = caveat.mc_dropout(Mixing(), output=caveat.Mean())
    with pytest.warns(RowsNotSeparatedWarning, match="in_dims"):
        pred = caveat.predict(sampler, uneven_batch(), n="auto", tolerance=0.05)
    assert pred.count.dim() == 0
    assert float(pred.standard_error().max()) <= 0.05


@pytest.mark.parametrize(
    "settings",
    [
        {"tolerance": 0.0},
        {"tolerance": -1.0},
        {"tolerance": float("nan")},
        {"min_draws": 1},
        {"min_draws": 100, "max_draws": 50},
        {"keep": True},
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    sampler = caveat.mc_dropout(Uneven(), output=caveat.Mean())
    with pytest.raises(InvalidArgumentError, match=r"(?s)Got:.*Fix:"):
        caveat.predict(sampler, uneven_batch(), n="auto", **settings)
