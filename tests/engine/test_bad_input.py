"""Bad input: a named error that says the rule, what was got, the usual cause and the fix."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError, NotFiniteError, NotProbabilitiesError, OutputMismatchError


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


X = torch.ones(4, 3)


def sampler(output: Any = None, model: nn.Module | None = None, **settings: Any) -> caveat.samplers.MCDropout:
    return caveat.mc_dropout(model or mlp(), output=output or caveat.Mean(), **settings)


def explains(error: pytest.ExceptionInfo[Any], *parts: str) -> None:
    text = str(error.value)
    for part in ("\n  Got: ", "\n  Usual cause: ", "\n  Fix: ", *parts):
        assert part in text, text


@pytest.mark.parametrize("n", [0, -3, 2.5, "many", True, [3]])
@pytest.mark.parametrize("verb", ["predict", "draws", "predict_batches"])
def test_n(verb: str, n: Any) -> None:
    call: Any = getattr(caveat, verb)
    with pytest.raises(InvalidArgumentError) as error:
        call(sampler(), [X] if verb == "predict_batches" else X, n)
    explains(error, f"n={n!r}", "n=100")


@pytest.mark.parametrize("seed", [1.5, None, "0"])
def test_seed(seed: Any) -> None:
    for verb in (caveat.predict, caveat.draws):
        with pytest.raises(InvalidArgumentError) as error:
            verb(sampler(), X, 3, seed=seed)
        explains(error, "seed=")


@pytest.mark.parametrize("x", [numpy.ones((4, 3)), [[1.0, 2.0, 3.0]], 3, None, {}, (), {"x": [1.0]}])
def test_what_is_no_input(x: Any) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        caveat.predict(sampler(), x, 3)
    explains(error, "torch.as_tensor")


@pytest.mark.parametrize("x", [torch.ones(0, 3), (torch.ones(0, 3),), {"input": torch.ones(0, 3)}])
def test_an_empty_batch(x: Any) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        caveat.predict(sampler(), x, 3)
    explains(error, "(0, 3)")


@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.parametrize("output", [caveat.Mean(), caveat.Logits()])
def test_nan_weights(output: Any, backend: str | None) -> None:
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    with pytest.raises(NotFiniteError) as error:
        caveat.predict(sampler(output, model, backend=backend), X, 5)
    explains(error, "4 of 4 rows")


def test_nan_in_one_row() -> None:
    x = X.clone()
    x[2] = torch.nan
    with pytest.raises(NotFiniteError) as error:
        caveat.predict(sampler(), x, 5)
    explains(error, "1 of 4 rows, first in row 2")


def test_logits_declared_as_probabilities() -> None:
    with pytest.raises(NotProbabilitiesError) as error:
        caveat.predict(sampler(caveat.Probabilities()), X, 5)
    explains(error, "Logits()")


@pytest.mark.parametrize(
    ("output", "returned"),
    [
        (caveat.Logits(), lambda h: h.sum(1)),
        (caveat.Logits(), lambda h: h[:, :1]),
        (caveat.Logits(), lambda h: h.argmax(1)),
        (caveat.Mean(), lambda h: (h, h)),
        (caveat.Mean(select="logits"), lambda h: {"scores": h}),
        (caveat.MeanAndVariance(), lambda h: h[:, :1]),
        ({"kind": caveat.Logits()}, lambda h: {"size": h}),
    ],
    ids=["rank", "one class", "class indices", "a tuple", "another key", "odd", "another head"],
)
@pytest.mark.parametrize("backend", [None, "loop"])
def test_a_return_that_does_not_fit(output: Any, returned: Any, backend: str | None) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, x: Tensor) -> Any:
            return returned(self.body(x))

    with pytest.raises(OutputMismatchError) as error:
        caveat.predict(sampler(output, Network(), backend=backend), X, 3)
    explains(error)


def test_an_error_of_the_network_itself_comes_out_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        caveat.predict(sampler(), torch.ones(4, 5), 3)


def test_more_draws_than_the_sampler_has() -> None:
    class Three:
        output, size, strata = caveat.Mean(), 3, None

    with pytest.raises(InvalidArgumentError) as error:
        caveat.predict(Three(), X, 4)  # type: ignore[arg-type]
    explains(error, "n=4 of 3")
