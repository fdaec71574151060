"""Random states are the whole process's: other threads draw from them while a network is looked at."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat._intercept._random_states import TURN


class Neighbor(nn.Module):
    """A network in each of whose passes another thread draws, as one that makes or trains a network does."""

    def __init__(self, draw: Callable[[], Any]) -> None:
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(4, 16), nn.Linear(16, 2), nn.Dropout(0.5)
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        thread = threading.Thread(target=self.draw)
        thread.start()
        thread.join()
        return self.last(self.drop(self.first(x).relu()))


def test_numbers_that_another_thread_draws_change_no_digit() -> None:
    model, x = Neighbor(lambda: None), torch.randn(5, 4)
    alone = caveat.draws(caveat.mc_dropout(model, output=caveat.Logits()), x, n=7, seed=0)
    model.draw = lambda: torch.rand(3)
    beside = caveat.mc_dropout(model, output=caveat.Logits())
    assert torch.equal(caveat.draws(beside, x, n=7, seed=0), alone)
    assert torch.equal(caveat.draws(beside, x, n=7, seed=0), alone)


def test_a_compiler_that_another_thread_is_loading_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo.eval_frame", ModuleType("half loaded"))
    sampler = caveat.mc_dropout(Neighbor(lambda: None), output=caveat.Logits())
    assert caveat.draws(sampler, torch.randn(5, 4), n=3).shape == (3, 5, 2)


def test_another_thread_never_gets_the_same_numbers_twice() -> None:
    drawn: list[float] = []
    model = Neighbor(lambda: drawn.append(torch.rand(()).item()))
    sampler = caveat.mc_dropout(model, output=caveat.Logits())
    for _ in range(2):
        caveat.predict(sampler, torch.randn(5, 4), n=7, seed=0)
    caveat.predict(caveat.ensemble([model, Neighbor(lambda: None)], output=caveat.Logits()), torch.randn(5, 4))
    assert len(drawn) > 3
    assert len(set(drawn)) == len(drawn)


def from_torch(x: Tensor) -> Tensor:
    return x + torch.empty_like(x).normal_()


def from_numpy(x: Tensor) -> Tensor:
    return x + np.random.normal()  # noqa: NPY002  # as users do


def from_python(x: Tensor) -> Tensor:
    return x + random.random()


class Noisy(nn.Module):
    """A network with noise of its own, from a random state of the process."""

    def __init__(self, noise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.drop, self.noise = nn.Linear(4, 16), nn.Linear(16, 2), nn.Dropout(0.5), noise

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.first(self.noise(x)).relu()))


@pytest.mark.parametrize("noise", [from_torch, from_numpy, from_python])
def test_a_network_that_draws_itself_gives_the_same_digits_and_leaves_the_states(
    noise: Callable[[Tensor], Tensor],
) -> None:
    model, x = Noisy(noise), torch.randn(5, 4)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    found = [caveat.draws(caveat.mc_dropout(model, output=caveat.Logits()), x, n=7, seed=0) for _ in range(2)]
    assert torch.equal(found[0], found[1])
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


def changed_copy(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(0.5)
    return other


def seed_python() -> None:
    random.seed(3)


@pytest.mark.parametrize("seed", [lambda: torch.manual_seed(3), torch.seed, seed_python, lambda: np.random.seed(3)])  # noqa: NPY002
@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: caveat.predict(caveat.mc_dropout(model, output=caveat.Logits()), x, n=3),
        lambda model, x: caveat.predict(caveat.ensemble([model, changed_copy(model)], output=caveat.Logits()), x),
        caveat.audit,
    ],
    ids=["mc_dropout", "ensemble", "audit"],
)
def test_a_network_that_sets_the_states_leaves_them_as_they_were(call: Any, seed: Any) -> None:
    class Seeding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.drop = nn.Linear(4, 16), nn.Linear(16, 2), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            seed()
            return self.last(self.drop(self.first(x).relu()))

    states = (random.getstate, lambda: bytes(np.random.get_state()[1]), lambda: bytes(torch.get_rng_state().numpy()))  # noqa: NPY002
    torch.manual_seed(1)
    model = Seeding().eval()
    before = [read() for read in states]
    call(model, torch.randn(5, 4, generator=torch.Generator().manual_seed(1)))
    changed = [number for number, read in enumerate(states) if read() != before[number]]
    assert not changed


def poisson(h: Tensor) -> Tensor:
    return h + torch.poisson(torch.ones_like(h))


def student(h: Tensor) -> Tensor:
    return h + torch.distributions.StudentT(5.0).sample(h.shape)


class DrawsWithDropout(nn.Module):
    """Draws numbers that cannot be intercepted, where its dropout does."""

    def __init__(self, draw: Callable[[Tensor], Tensor], *, hidden: bool) -> None:
        super().__init__()
        self.first, self.last, self.draw, self.hidden = nn.Linear(4, 16), nn.Linear(16, 2), draw, hidden

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        if self.training or not self.hidden:
            h = self.draw(torch.nn.functional.dropout(h, 0.5))
        return self.last(h)


@pytest.mark.parametrize(("draw", "hidden"), [(poisson, True), (student, False)])
def test_rows_are_not_separated_by_numbers_of_the_random_state(draw: Any, hidden: bool) -> None:
    sampler = caveat.mc_dropout(DrawsWithDropout(draw, hidden=hidden).eval(), output=caveat.Mean())
    with pytest.warns(caveat.errors.RowsNotSeparatedWarning, match="something else alone"):
        caveat.draws(sampler, torch.randn(5, 4), n=4)


class NoisyInEval(nn.Module):
    """A network that draws from the states of the process in eval mode, where masks do not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(4, 16), nn.Linear(16, 2), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.as_tensor(np.random.normal(size=16), dtype=x.dtype)  # noqa: NPY002
        return self.last(self.drop(self.first(x).relu()) + noise)


class Augmented(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Examples that are moved at random each time that they are read."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        if row >= len(self):
            raise IndexError(row)
        return torch.full((4,), float(row)) + torch.randn(4), 0


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Inputs moved by numbers of the global state, as most transforms of images do it."""
    return x + torch.randn_like(x)


def sampler_that_draws_globally(kind: str) -> Any:
    torch.manual_seed(0)
    output = caveat.Mean()
    if kind == "mc_dropout":
        return caveat.mc_dropout(NoisyInEval(), output=output)
    if kind == "ensemble":
        return caveat.ensemble([NoisyInEval() for _ in range(4)], output=output)
    if kind == "test_time_augmentation":
        return caveat.samplers.test_time_augmentation(nn.Linear(4, 2), moved, output=output)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    return caveat.samplers.mc_batch_norm(model, Augmented(), output=output, batch_size=5)


@pytest.mark.filterwarnings("ignore::caveat.errors.NotInterceptedWarning")
@pytest.mark.parametrize("kind", ["mc_dropout", "ensemble", "test_time_augmentation", "mc_batch_norm"])
def test_threads_that_draw_globally_keep_each_ones_digits(kind: str) -> None:
    """A draw's numbers follow from its seed, also while three other threads seed the states that all of them share."""
    sampler, x = sampler_that_draws_globally(kind), torch.randn(5, 4)
    fresh = [[copy.deepcopy(sampler) for _ in range(8)] for _ in range(4)]  # one that is used keeps its statistics
    alone = [caveat.draws(sampler, x, n=4, seed=seed) for seed in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    found: dict[int, list[Tensor]] = {}

    def draw(seed: int) -> None:
        found[seed] = [caveat.draws(one, x, n=4, seed=seed) for one in fresh[seed]]

    try:
        threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    for seed in range(4):
        assert all(torch.equal(values, alone[seed]) for values in found[seed])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("within", [True, False], ids=["the thread itself", "another thread"])
def test_a_fork_goes_on_where_a_thread_had_seeded_the_states(within: bool) -> None:
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with TURN:
            begun.set()
            over.wait()

    thread = threading.Thread(target=hold)
    with TURN if within else contextlib.nullcontext():
        if not within:
            thread.start()
            begun.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if TURN.acquire(blocking=False) else 1)
        _, status = os.waitpid(child, 0)
    over.set()
    if not within:
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
