"""Products of which dropped rows and columns are left out: the same draws as computing all and masking it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import caveat
from caveat._intercept import _sliced as sliced

INFINITE, NAN = math.inf, math.nan


def masks_of(draws: int, features: int, rate: float) -> Tensor:
    return (torch.rand(draws, features) >= rate).float() / (1 - rate)


def by_hand(x: Tensor, layer: nn.Linear, masks: Tensor | None, next_masks: Tensor | None, draws: int) -> Tensor:
    """One draw after the other: mask, multiply, mask."""
    results = list[Tensor]()
    for draw in range(draws):
        rows = x[draw] if x.dim() == 3 else x
        result = F.linear(rows if masks is None else rows * masks[draw], layer.weight, layer.bias)
        results.append(result if next_masks is None else result * next_masks[draw])
    return torch.stack(results)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 40), st.integers(1, 40)),
    rates=st.tuples(st.sampled_from([None, 0.0, 0.1, 0.5, 0.95]), st.sampled_from([None, 0.0, 0.1, 0.5, 0.95])),
    shared=st.booleans(),
    bias=st.booleans(),
    block=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_what_is_kept_equals_a_loop_with_the_same_masks(
    sizes: tuple[int, int, int, int],
    rates: tuple[float | None, float | None],
    shared: bool,
    bias: bool,
    block: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    draws, rows, inputs, outputs = sizes
    layer = nn.Linear(inputs, outputs, bias=bias)
    masks, next_masks = (
        None if rate is None else masks_of(draws, features, rate)
        for rate, features in zip(rates, (inputs, outputs), strict=True)
    )
    x = torch.randn(rows, inputs) if shared and masks is not None else torch.randn(draws, rows, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sliced, "_BLOCK_BYTES", block)
        largest = sliced.largest_of(layer.weight, layer.bias)
        ours = sliced.linear_of_kept(x, layer.weight, layer.bias, largest, masks, next_masks)
    assert ours.isfinite().all()  # what is dropped is multiplied by 0 afterwards
    ours = ours if next_masks is None else ours * next_masks[:, None]
    torch.testing.assert_close(ours, by_hand(x, layer, masks, next_masks, draws), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [INFINITE, -INFINITE, NAN, 3e38])
@pytest.mark.parametrize("where", ["x", "weight", "bias"])
@torch.no_grad()
def test_infinite_values_that_are_dropped_stay_in(value: float, where: str) -> None:
    """0 times infinity is NaN in a plain loop."""
    torch.manual_seed(0)
    layer, x, masks, next_masks = nn.Linear(4, 4), torch.randn(3, 4), torch.ones(1, 4), torch.ones(1, 4)
    masks[0, 1] = next_masks[0, 1] = 0.0
    {"x": x[1], "weight": layer.weight[1], "bias": layer.bias}[where][1] = value
    largest = sliced.largest_of(layer.weight, layer.bias)
    ours = sliced.linear_of_kept(x, layer.weight, layer.bias, largest, masks, next_masks)
    theirs = by_hand(x, layer, masks, next_masks, 1)
    torch.testing.assert_close(ours * next_masks[:, None], theirs, equal_nan=True)


@torch.no_grad()
def test_sums_that_overflow_where_nothing_reads_them_stay_in() -> None:
    layer, x = nn.Linear(2, 2, bias=False), torch.full((1, 2), 1e20)
    layer.weight.copy_(torch.tensor([[1e20, 1e20], [1.0, 1.0]]))
    masks, next_masks = torch.ones(1, 2), torch.tensor([[0.0, 1.0]])
    ours = sliced.linear_of_kept(x, layer.weight, None, sliced.largest_of(layer.weight, None), masks, next_masks)
    assert (ours[0] * next_masks).isnan().tolist() == [[True, False]]


def test_the_library_may_be_imported_again() -> None:
    code = (
        "import sys, caveat; own = [n for n in sys.modules if n.split('.')[0] == 'caveat']; "
        "[sys.modules.pop(n) for n in own]; import caveat, torch; from torch import nn; "
        "model = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 1)); "
        "pred = caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), torch.randn(512, 512), n=6); "
        "print(bool(pred.mean.isfinite().all()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


@given(
    rates=st.tuples(*[st.floats(0, 0.95)] * 2), width=st.integers(1, 8192), rows=st.integers(1, 4096)
)
def test_the_rule_on_sizes(rates: tuple[float, float], width: int, rows: int) -> None:
    def sides(rows: int, *rates: float) -> tuple[bool, bool]:
        return sliced.sides_to_slice(rows, width * width, *rates)

    ins, outs = sides(rows, *rates)
    assert not ins or rates[0] > 0
    assert not outs or rates[1] > 0
    if any((ins, outs)):
        assert any(sides(rows + 1, *rates))
        assert rows * width * width > sliced._LEAST_SAVED
    assert sides(rows, 0.0, 0.0) == (False, False)
    assert sides(1, *rates) == (False, False)  # copying a number takes longer than one product with it


def test_the_layers_of_vgg_of_64_images_are_sliced_and_those_of_8_are_not() -> None:
    weight = 4096 * 4096
    assert sliced.sides_to_slice(64, weight, 0.5, 0.5) == (True, True)
    assert sliced.sides_to_slice(8, weight, 0.5, 0.5) == (False, False)
    assert sliced.sides_to_slice(64, weight, 0.5, 0.02) == (True, False)
    assert sliced.sides_to_slice(64, weight, 0.02, 0.5) == (False, True)


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bool, bool]]]:
    """Slicing pays for small layers too; gives what each product left out, of its inputs and of its outputs."""
    calls, run = list[tuple[bool, bool]](), sliced.linear_of_kept

    def noted(x: Tensor, weight: Tensor, bias: Tensor, largest: Tensor, masks: Tensor, next_masks: Tensor) -> Tensor:
        calls.append((masks is not None, next_masks is not None))
        return run(x, weight, bias, largest, masks, next_masks)

    monkeypatch.setattr(sliced, "_LEAST_SAVED", 0)
    monkeypatch.setattr(sliced, "_COPY_COLUMN", 0)
    monkeypatch.setattr(sliced, "_COPY_ROW", 0)
    monkeypatch.setattr(sliced, "_BLOCK_BYTES", 256)
    monkeypatch.setattr(sliced, "linear_of_kept", noted)
    return calls


def network(*between: nn.Module, rate: float = 0.5) -> nn.Module:
    """A layer between two dropouts, with something between the layer and the second one."""
    torch.manual_seed(0)
    layers = [nn.Dropout(rate), nn.Linear(9, 12), *between, nn.Dropout(rate), nn.Linear(12, 3)]
    return nn.Sequential(nn.Linear(5, 9), *layers).eval()


def draw(model: nn.Module, x: Tensor, n: int = 12, chunk: int = 5) -> tuple[Tensor, Tensor]:
    """Draws in chunks, the third of which plays a recording, and of a loop, which computes all."""
    samplers = [
        caveat.mc_dropout(model, output=caveat.Mean(), backend=backend, chunk=chunk)
        for backend in ("vectorized", "loop")
    ]
    together, loop = (caveat.draws(sampler, x, n=n, seed=3) for sampler in samplers)
    plans = [*samplers[0]._plans._found.values()]
    assert [plan.why_not_vectorized for plan in plans] == [None]  # else both were a loop
    return together, loop


FUNCTIONS: dict[str, Callable[[], list[nn.Module]]] = {
    "nothing": list,
    "ReLU": lambda: [nn.ReLU()],
    "ReLU in place": lambda: [nn.ReLU(inplace=True)],
    "GELU": lambda: [nn.GELU(approximate="tanh")],
    "two": lambda: [nn.Tanh(), nn.LeakyReLU(0.2)],
    "sigmoid": lambda: [nn.Sigmoid()],
}


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_between_dropouts(name: str, rows: int, always: list[tuple[bool, bool]]) -> None:
    together, loop = draw(network(*FUNCTIONS[name]()), torch.randn(rows, 5))
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-6)
    assert (True, True) in always
    assert (True, False) in always  # the last layer, which no dropout follows


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 20), min_size=2, max_size=4),
    rate=st.sampled_from([0.1, 0.5, 0.8]),
    rows=st.integers(1, 5),
    chunk=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_draws_are_those_of_a_loop_whatever_the_sizes(
    widths: list[int], rate: float, rows: int, chunk: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layers = [nn.Sequential(nn.Linear(a, b), nn.GELU(), nn.Dropout(rate)) for a, b in pairwise([4, *widths])]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], 2)).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sliced, "_LEAST_SAVED", 0)
        patch.setattr(sliced, "_COPY_COLUMN", 0)
        patch.setattr(sliced, "_COPY_ROW", 0)
        x = torch.randn(rows, 4)
        sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend="vectorized", chunk=chunk)
        together = caveat.draws(sampler, x, n=9)
        alone = caveat.draws(sampler, x[-1:], n=9)
    loop = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), backend="loop"), x, n=9)
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, loop[:, -1:], rtol=1e-5, atol=1e-5)


def test_functions_that_are_infinite_at_zero_see_all_values(always: list[tuple[bool, bool]]) -> None:
    class Logarithm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.sigmoid() + 1e-30).log()

    class Reciprocal(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1 / x

    for module in (Logarithm(), Reciprocal()):
        together, loop = draw(network(module), torch.randn(4, 5))
        torch.testing.assert_close(together, loop, rtol=1e-4, atol=1e-5)
    assert (True, True) not in always


def test_a_batch_of_which_one_draw_fills_the_cache(
    always: list[tuple[bool, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere such a batch is a loop, in which nothing waits for the next dropout."""
    model, x = network(nn.ReLU()), torch.randn(7, 5)
    monkeypatch.setattr("caveat._engine._bound.chunk_bytes", lambda device, allowed: 1)
    monkeypatch.setattr("caveat._engine._bound.rows_bytes", lambda device, allowed: 3 * 12 * 4)
    sampler = caveat.mc_dropout(model, output=caveat.Mean())
    draws = caveat.draws(sampler, x, n=6)
    assert always.count((True, True)) > 6
    loop = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), backend="loop"), x, n=6)
    torch.testing.assert_close(draws, loop, rtol=1e-5, atol=1e-6)


class Fork(nn.Module):
    """The layer's output is read before and after the dropout, in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.drop, self.second = nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 6)
        self.way = way

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = F.relu(self.first(self.drop(x)))
        if self.way == "sum":
            return h + self.second(self.drop(h))
        if self.way == "sum before":
            return h + self.second(self.drop(self.second(self.drop(h))))
        if self.way == "in place on the result":
            late = F.gelu(h)
            h.add_(1.0)
            return self.second(self.drop(late)) + h
        if self.way == "in place on the input":
            y = self.drop(x * 1.0 + h)
            z = self.second(y)
            y.mul_(3.0)
            return self.second(self.drop(F.relu(z))) + y
        if self.way == "dropout in place":
            return self.second(F.dropout(h, 0.5, self.drop.training, inplace=True)) + h
        if self.way == "twice":
            return self.second(self.drop(h)) + self.second(self.drop(h))
        return self.second(self.drop(h)).relu_().mul(2.0) + self.second(h.tanh())


WAYS = ("sum", "sum before", "in place on the result", "in place on the input", "dropout in place", "twice", "other")


@pytest.mark.parametrize("way", WAYS)
def test_outputs_that_are_read_elsewhere_too(way: str, always: list[tuple[bool, bool]]) -> None:
    together, loop = draw(Fork(way).eval(), torch.randn(4, 6))
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-6)


def test_an_output_that_is_needed_whole_is_computed_once(always: list[tuple[bool, bool]]) -> None:
    model = Fork("sum").eval()
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), chunk=4)
    caveat.draws(sampler, torch.randn(4, 6), n=4)
    always.clear()
    caveat.draws(sampler, torch.randn(4, 6), n=4)
    first = list(always)
    always.clear()
    caveat.draws(sampler, torch.randn(4, 6), n=8)
    assert (True, True) in first  # the first chunk finds out
    assert len(always) < 2 * len(first)


class Late(nn.Module):
    """What was dropped is written on before it is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.drop, self.layer = nn.Dropout(0.5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x) + 1.0
        dropped = self.drop(x)
        x.mul_(5.0)
        return self.layer(dropped)


def test_a_tensor_that_is_written_on_after_its_dropout() -> None:
    together, loop = draw(Late().eval(), torch.randn(4, 6))
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-6)


def test_rows_with_masks_of_their_own_are_not_sliced(always: list[tuple[bool, bool]]) -> None:
    model, x = network(nn.ReLU()), torch.randn(4, 5)
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend="vectorized", masks="per_row")
    caveat.draws(sampler, x, n=2)  # this makes the plan, of one row
    always.clear()
    loop = caveat.mc_dropout(model, output=caveat.Mean(), backend="loop", masks="per_row")
    torch.testing.assert_close(caveat.draws(sampler, x, n=9), caveat.draws(loop, x, n=9), rtol=1e-5, atol=1e-6)
    assert not always


def test_gradients_are_those_of_a_loop(always: list[tuple[bool, bool]]) -> None:
    model = network(nn.ReLU())
    found = list[Tensor]()
    for backend in ("vectorized", "loop"):
        x = torch.linspace(-1, 1, 20).reshape(4, 5).requires_grad_()
        sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend=backend)
        always.clear()
        caveat.draws(sampler, x, n=5, gradient=True).square().sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    torch.testing.assert_close(*found)


def test_a_kept_program_sees_weights_that_become_infinite(always: list[tuple[bool, bool]]) -> None:
    model, x = network(nn.ReLU()), torch.randn(4, 5)
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend="vectorized")
    for _ in range(4):
        caveat.predict(sampler, x, n=8)
    layer = model[2]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[0, 0] = INFINITE
    ours = caveat.draws(sampler, x, n=8)
    loop = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), backend="loop"), x, n=8)
    torch.testing.assert_close(ours, loop, equal_nan=True, rtol=1e-5, atol=1e-6)
    assert ours.isnan().any()
