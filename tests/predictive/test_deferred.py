"""Summaries of few numbers are made field by field when asked for: the same summaries, and errors that come at once."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caveat._numerics import FEW_NUMBERS
from caveat.errors import NotFiniteError, OutputMismatchError
from caveat.predictive import (
    BinaryLogit,
    Gaussian,
    Logits,
    Mean,
    MeanAndLogVariance,
    MeanAndVariance,
    Predictive,
)

KINDS: list[tuple[Any, tuple[int, ...]]] = [
    (Logits(), (4, 3)),
    (Logits(class_dim=1), (2, 3, 4)),
    (BinaryLogit(), (4,)),
    (BinaryLogit(), (4, 3)),
    (Mean(noise_variance=0.5), (4, 2)),
    (MeanAndVariance(), (4, 1, 2)),
    (MeanAndLogVariance(), (4, 3, 2)),
]
kinds = pytest.mark.parametrize(("output", "shape"), KINDS, ids=lambda v: repr(v))


def some_draws(shape: tuple[int, ...], n: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def of(pred: Predictive) -> Any:
    """The dataclass whose fields are made later."""
    return pred if not hasattr(pred, "binary") else pred.binary  # type: ignore[attr-defined]


def held(pred: Predictive) -> dict[str, Tensor]:
    """All fields but kept draws, moments taken apart."""
    whole = of(pred)
    own = {f.name: getattr(whole, f.name) for f in fields(whole) if not f.name.startswith("kept")}
    moments = own.pop("moments")
    return own | {"count": moments.count, "mean": moments.mean, "m2": moments.m2}


def assert_same(a: Predictive, b: Predictive) -> None:
    assert type(a) is type(b)
    for name, value in held(a).items():
        other = held(b)[name]
        assert torch.equal(value, other) if isinstance(value, Tensor) else value == other, name


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_fields_are_those_of_a_summary_made_at_once(
    output: Any, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    draws = some_draws(shape, dtype=dtype)
    assert_same(output.summarize(draws), output.summarize(draws, keep=True))


@kinds
def test_draws_that_are_written_on_afterwards_change_nothing(output: Any, shape: tuple[int, ...]) -> None:
    draws = some_draws(shape, dtype=torch.float64)  # float64 needs no copy to be added up in
    pred, expected = output.summarize(draws), output.summarize(draws.clone(), keep=True)
    draws.fill_(0.25)
    assert_same(pred, expected)


@kinds
def test_copies_pickles_and_replaced_ones_are_whole(output: Any, shape: tuple[int, ...]) -> None:
    expected = of(output.summarize(some_draws(shape), keep=True))
    for remade in (copy.copy, copy.deepcopy, lambda pred: pickle.loads(pickle.dumps(pred)), replace):
        again = remade(of(output.summarize(some_draws(shape))))
        assert_same(again, expected)
        assert set(vars(again)) == {f.name for f in fields(again)}


@kinds
def test_a_field_is_made_once(output: Any, shape: tuple[int, ...]) -> None:
    pred = of(output.summarize(some_draws(shape)))
    assert pred.moments is pred.moments


@kinds
def test_several_threads_may_ask_at_once(output: Any, shape: tuple[int, ...]) -> None:
    expected = output.summarize(some_draws(shape), keep=True)
    for _ in range(20):
        pred = output.summarize(some_draws(shape))
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda _: assert_same(pred, expected), range(4)):  # noqa: B023
                pass


def test_what_is_no_field_is_no_attribute() -> None:
    pred = Logits().summarize(some_draws((4, 3)))
    assert not hasattr(pred, "nothing_of_the_kind")
    with pytest.raises(AttributeError, match=r"'Categorical' object has no attribute 'entropy'"):
        pred.entropy  # type: ignore[attr-defined]  # noqa: B018
    whole = Mean().summarize(some_draws((4, 1)), keep=True)
    assert not hasattr(whole, "nothing_of_the_kind")


@kinds
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_said_at_once(output: Any, shape: tuple[int, ...], bad: float) -> None:
    draws = some_draws(shape)
    draws[3, 1] = bad
    if isinstance(output, BinaryLogit) and bad == torch.inf:  # a probability of one
        assert output.summarize(draws).mean[1].min() > 0.5
    else:
        with pytest.raises(NotFiniteError, match="1 of"):
            output.summarize(draws)


def test_variances_that_overflow_or_are_negative_are_said_at_once() -> None:
    with pytest.raises(NotFiniteError, match="Noise variances"):
        MeanAndLogVariance().summarize(torch.full((5, 2, 1, 2), 800.0))
    with pytest.raises(OutputMismatchError, match="negative"):
        MeanAndVariance().summarize(torch.full((5, 2, 1, 2), -1.0))


def test_large_log_variances_that_do_not_overflow_are_taken() -> None:
    pred = MeanAndLogVariance().summarize(torch.full((5, 2, 1, 2), 100.0, dtype=torch.float64))
    assert isinstance(pred, Gaussian)
    torch.testing.assert_close(pred.noise.log(), torch.full((2, 1), 100.0, dtype=torch.float64))


def test_a_class_that_is_ruled_out_is_taken() -> None:
    pred = Logits().summarize(torch.tensor([[[0.0, -torch.inf]], [[0.0, 0.0]]]))
    assert pred.mean.tolist() == [[0.75, 0.25]]


def test_gradients_reach_the_draws() -> None:
    draws = some_draws((4, 3)).requires_grad_()
    Logits().summarize(draws).mean[:, 0].sum().backward()
    assert draws.grad is not None
    assert bool(draws.grad.abs().sum() > 0)


class Counted(TorchDispatchMode):
    """Counts the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


@kinds
def test_few_operations_are_done_before_something_is_asked_for(output: Any, shape: tuple[int, ...]) -> None:
    draws = some_draws(shape)
    with Counted() as late:
        pred = output.summarize(draws)
    with Counted() as asked:
        held(pred)
    assert late.operations <= 8  # is it finite, a copy of its own, two looks at variances
    assert asked.operations >= 4


@kinds
def test_what_is_asked_for_in_inference_mode_can_be_used_outside(output: Any, shape: tuple[int, ...]) -> None:
    pred = output.summarize(some_draws(shape))
    with torch.inference_mode():
        held(pred)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    (of(pred).moments.mean * weight).sum().backward()
    assert weight.grad is not None


def test_many_numbers_are_summarized_at_once() -> None:
    pred = Mean().summarize(torch.rand(2, FEW_NUMBERS))
    assert "moments" in vars(pred)
