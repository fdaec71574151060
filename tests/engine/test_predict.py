"""predict, draws and predict_batches: right numbers with a right statement of their error."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import caveat
from caveat.errors import InvalidDataError


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp(rate: float = 0.3, width: int = 32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Dropout(rate), nn.Linear(width, 2))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_linear_networks_closed_form_within_its_own_standard_error(rate: float) -> None:
    """y = w·(m∘x)/(1 − p) with m Bernoulli(1 − p): mean w·x, variance p/(1 − p) Σ (w x)²."""
    torch.manual_seed(1)
    layer = nn.Linear(40, 1, bias=False).double()
    sampler = caveat.mc_dropout(nn.Sequential(nn.Dropout(rate), layer), output=caveat.Mean())
    x = numbers(1, 40).double()
    with torch.no_grad():
        mean = float(layer(x))
        variance = float((layer.weight * x).square().sum()) * rate / (1 - rate)
    seeds, n = 200, 60
    predictions = [caveat.predict(sampler, x, n, seed=seed) for seed in range(seeds)]
    z = torch.stack([(p.mean - mean) / p.standard_error() for p in predictions]).flatten()
    # |z| < 1.96 in 95 % of runs; with 60 draws the t-distribution makes it 94.5 %. Four standard deviations: 6.4 %.
    assert abs(float((z.abs() < 1.96).double().mean()) - 0.945) < 0.065
    assert abs(float(z.mean())) < 4 / math.sqrt(seeds)
    measured = torch.stack([p.variance for p in predictions]).mean()
    assert abs(float(measured) / variance - 1) < 0.06


def test_predict_is_the_summary_of_the_draws_of_the_same_seed() -> None:
    sampler, x = caveat.mc_dropout(mlp(), output=caveat.Mean()), numbers(5, 3)
    pred, values = caveat.predict(sampler, x, 60, seed=4, keep=True), caveat.draws(sampler, x, 60, seed=4)
    assert int(pred.count) == 60
    torch.testing.assert_close(pred.mean, values.mean(0))
    torch.testing.assert_close(pred.variance, values.var(0))
    assert torch.equal(pred.draws, values)


def test_n_has_a_default() -> None:
    sampler = caveat.mc_dropout(mlp(), output=caveat.Mean())
    assert int(caveat.predict(sampler, numbers(2, 3)).count) == 100
    assert caveat.draws(sampler, numbers(2, 3)).shape == (100, 2, 2)


@pytest.mark.parametrize("kind", ["tensors", "pairs", "tuples", "dicts"])
def test_batches_of_a_loader_are_the_whole_cut_up(kind: str) -> None:
    sampler, x = caveat.mc_dropout(mlp(), output=caveat.Logits()), numbers(7, 3)
    loaders: dict[str, Any] = {
        "tensors": x.split(3),
        "pairs": DataLoader(TensorDataset(x, torch.arange(7)), batch_size=3),
        "tuples": [(part,) for part in x.split(3)],
        "dicts": [{"input": part} for part in x.split(3)],
    }
    parts = list(caveat.predict_batches(sampler, loaders[kind], n=20, seed=2))
    whole = caveat.predict(sampler, x, 20, seed=2)
    assert [part.mean.shape[0] for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat([part.mean for part in parts]), whole.mean)
    torch.testing.assert_close(torch.cat([part.variance for part in parts]), whole.variance)


def test_what_to_take_from_a_batch_can_be_said() -> None:
    sampler, x = caveat.mc_dropout(mlp(), output=caveat.Mean()), numbers(4, 3)
    batches = [{"x": x, "y": torch.zeros(4), "name": "first"}]
    (pred,) = caveat.predict_batches(sampler, batches, n=5, inputs=lambda batch: batch["x"])
    assert torch.equal(pred.mean, caveat.predict(sampler, x, 5).mean)


def test_labels_do_not_fill_an_optional_argument() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.body(x) if mask is None else self.body(x) * mask[:, None]

    sampler = caveat.mc_dropout(Optional(), output=caveat.Mean())
    loader = DataLoader(TensorDataset(numbers(4, 3), torch.zeros(4)), batch_size=4)
    (pred,) = caveat.predict_batches(sampler, loader, n=5)
    assert bool(pred.mean.any())


def test_a_loader_that_raises_half_way() -> None:
    class Half:
        def __iter__(self) -> Any:
            yield numbers(2, 3)
            raise OSError("cannot read row 7")

    batches = caveat.predict_batches(caveat.mc_dropout(mlp(), output=caveat.Mean()), Half(), n=5)
    assert next(batches).row_count == 2
    with pytest.raises(InvalidDataError, match=r"batch 1: cannot read row 7(?s:.*)Fix:") as error:
        next(batches)
    assert isinstance(error.value.__cause__, OSError)


def test_batches_are_drawn_as_they_are_asked_for() -> None:
    def forever() -> Any:
        while True:
            yield numbers(2, 3)

    batches = caveat.predict_batches(caveat.mc_dropout(mlp(), output=caveat.Mean()), forever(), n=3)
    assert [next(batches).row_count for _ in range(3)] == [2, 2, 2]


def error_of_mean(strata: int | None, seeds: int = 30, n: int = 64) -> float:
    sampler, x = caveat.mc_dropout(mlp(0.3, 50).double(), output=caveat.Mean(), strata=strata), numbers(8, 3)
    x = x.double()
    means = [caveat.predict(sampler, x, n, seed=seed).mean for seed in range(seeds)]
    return float(torch.stack(means).var(0).mean())


def test_strata_shrink_the_error_of_the_mean_of_a_small_network() -> None:
    """One hidden layer after the site is linear: the mean's variance falls at least fivefold."""
    assert error_of_mean(64) < error_of_mean(None) / 5


def test_draws_of_a_stream_that_ends_early_are_refused() -> None:
    class Short:
        """A sampler that gives fewer draws than it is asked for."""

        output, size, strata = caveat.Mean(), None, None

        def bind(self, x: Any, seed: int, **settings: Any) -> Any:
            import contextlib

            def stream(draws: range) -> Any:
                yield torch.ones(len(draws) - 1, 2)

            return contextlib.nullcontext(stream)

    with pytest.raises(Exception, match=r"draws"):
        caveat.draws(Short(), numbers(2, 3), 4)
