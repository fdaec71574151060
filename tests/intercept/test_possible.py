"""A model that cannot vary is refused when the sampler is built, or at the first pass, with what to do about it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError, NothingRandomError

X = torch.zeros(2, 3)


def says_all(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    for part in ("Got:", "Usual cause:", "Fix:"):
        assert part in text
    return text


def drawn(model: nn.Module, x: Tensor = X, **settings: Any) -> None:
    caveat.predict(caveat.mc_dropout(model, output=caveat.Mean(**settings.pop("output", {})), **settings), x, 3)


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (nn.Linear(3, 2), "no dropout was called"),
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.0)), "1: rate 0"),
        (nn.Sequential(nn.LSTM(3, 2, num_layers=2)), "no dropout was called"),
        (nn.TransformerEncoderLayer(3, 1, 4, dropout=0.0), "rate 0"),
    ],
    ids=["linear", "rate 0", "lstm", "transformer"],
)
def test_a_network_that_cannot_vary_is_refused_when_it_has_run(model: nn.Module, got: str) -> None:
    output = {"select": 0} if isinstance(model, nn.Sequential) and isinstance(model[0], nn.LSTM) else {}
    with pytest.raises(NothingRandomError) as error:
        drawn(model, torch.zeros(2, 4, 3), output=output)
    assert got in says_all(error)
    assert "caveat.audit" in str(error.value)
    assert isinstance(error.value, ValueError)


def test_lstm_with_a_rate_but_one_layer() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        model = nn.LSTM(3, 2, num_layers=1, dropout=0.5)
    with pytest.raises(NothingRandomError, match="torch drops between layers only"):
        drawn(model, torch.zeros(2, 4, 3), output={"select": 0})
    assert "of one layer is ignored" in str(caveat.audit(model, torch.zeros(2, 4, 3)))


def test_a_network_in_torchscript_says_that_it_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out
        model = torch.jit.trace(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train(), X, check_trace=False)
    with pytest.raises(NothingRandomError, match="TorchScript"):
        drawn(model)


def test_every_site_left_out() -> None:
    with pytest.raises(NothingRandomError, match="not asked for by live="):
        drawn(nn.Sequential(nn.Dropout(0.5)), live=caveat.paths("head.*"))


@pytest.mark.parametrize("model", [nn.Sequential(nn.Dropout(1.0)), nn.Sequential(nn.LSTM(3, 2, 2, dropout=1.0))])
def test_a_rate_of_one(model: nn.Module) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        drawn(model)
    assert "rate 1" in says_all(error)


def test_lazy_layers_are_refused_and_stay_as_they_are() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.2), nn.Linear(8, 2))
    with pytest.raises(InvalidArgumentError, match=r"0 \(LazyLinear\), not initialized"):
        drawn(model)
    with pytest.raises(InvalidArgumentError, match=r"model\(x\)"):
        caveat.predict(caveat.ensemble([model], output=caveat.Mean()), X)
    model(X)
    drawn(model)


class Functional(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training)


def test_a_functional_rate_shows_at_the_first_pass() -> None:
    for rate, kind in ((1.0, InvalidArgumentError), (0.0, NothingRandomError)):
        sampler = caveat.mc_dropout(Functional(rate), output=caveat.Mean())
        with pytest.raises(kind) as error:
            caveat.predict(sampler, X, 3)
        says_all(error)


def test_a_rate_of_one_that_is_left_out_is_no_matter() -> None:
    model = nn.Sequential(nn.Dropout(1.0), nn.Linear(3, 8), nn.Dropout(0.5))
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), live=caveat.paths("2"))
    assert caveat.draws(sampler, X, 3).shape == (3, 2, 8)


class Unused(nn.Module):
    """Owns dropout, and never calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Unread(Unused):
    """Calls dropout, and reads something else."""

    def forward(self, x: Tensor) -> Any:
        return {"dropped": self.drop(x), "plain": x + 1}


def test_dropout_that_is_never_called() -> None:
    with pytest.raises(NothingRandomError, match="no dropout was called"):
        caveat.predict(caveat.mc_dropout(Unused(), output=caveat.Mean()), X, 3)


def test_dropout_that_does_not_reach_the_output() -> None:
    sampler = caveat.mc_dropout(Unread(), output=caveat.Mean(select="plain"))
    with pytest.raises(NothingRandomError, match="does not reach the output"):
        caveat.predict(sampler, X, 3)
    other = caveat.mc_dropout(sampler.model, output=caveat.Mean(select="dropped"))
    assert float(caveat.predict(other, torch.ones(2, 3), 50).variance.min()) > 0


def test_dropout_that_does_not_reach_the_output_of_a_network_that_is_looped_over() -> None:
    sampler = caveat.mc_dropout(Unread(), output=caveat.Mean(select="plain"), backend="loop")
    with pytest.raises(NothingRandomError, match="does not reach the output"):
        caveat.predict(sampler, X, 3)


@pytest.mark.parametrize("backend", [None, "loop"])
def test_a_row_of_zeros_may_stay_as_it_is(backend: Any) -> None:
    sampler = caveat.mc_dropout(
        nn.Sequential(nn.Dropout(0.5), nn.Linear(20, 3)), output=caveat.Mean(), backend=backend
    )
    for rows in (torch.zeros(1, 20), torch.cat([torch.ones(2, 20), torch.zeros(1, 20)])):
        spread = caveat.draws(sampler, rows, 20).std(0)
        assert float(spread[-1].max()) == 0
        assert bool((spread[:-1] > 0).all())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"masks": "shard"}, "masks must be"),
        ({"strata": 1}, "strata must be an integer of at least 2"),
        ({"chunk": 0}, "chunk must be an integer of at least 1"),
        ({"memory": 0}, "memory must be an integer of at least 1"),
        ({"backend": "vectorised"}, "backend must be"),
        ({"output": "classification"}, "output must be an output"),
    ],
)
def test_settings_that_no_call_could_use(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said) as error:
        caveat.mc_dropout(nn.Dropout(0.5), **{"output": caveat.Mean(), **settings})
    assert all(part in str(error.value) for part in ("Got:", "Fix:"))  # a wrong word has no usual cause


def test_what_is_not_a_module() -> None:
    with pytest.raises(InvalidArgumentError, match=r"A model is a torch\.nn\.Module") as error:
        caveat.mc_dropout(lambda x: x, output=caveat.Mean())  # type: ignore[arg-type]
    says_all(error)
