"""Memory: running out of it halves what is held at once, of draws and then of rows, and changes nothing else."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat._engine import _memory as memory
from caveat.errors import OutOfMemoryError


class Small(nn.Module):
    """A machine that holds ``room`` elements of an activation at once, and writes down how many it held."""

    held: ClassVar[list[int]] = []

    def __init__(self, room: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.drop, self.last = nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)
        self.room, self.error = room, error
        Small.held.clear()

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.first(x))
        held = physical(h)
        if held > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 1.00 GiB")
        Small.held.append(held)
        return self.last(h)


def physical(tensor: Tensor) -> int:
    """How many elements there are in memory, under vmap too."""
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.numel()


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


ROWS, N = 6, 20


def drawn(room: int, backend: str | None, **settings: Any) -> tuple[Small, Tensor]:
    model = Small(room, settings.pop("error", torch.OutOfMemoryError))
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend=backend, **settings)
    return model, caveat.draws(sampler, numbers(ROWS, 3), N)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
@pytest.mark.parametrize("room", [8 * ROWS * 4, 8 * ROWS, 8 * 2])
@pytest.mark.parametrize("backend", ["vectorized", "loop", None])
def test_halving_gives_the_same_draws(backend: str | None, room: int, error: type[Exception]) -> None:
    _, whole = drawn(10**9, backend)
    model, values = drawn(room, backend, error=error)  # a probe takes two rows, and so 16 elements
    torch.testing.assert_close(values, whole)
    assert max(model.held) <= room


def test_nothing_left_to_halve() -> None:
    sampler = caveat.mc_dropout(Small(16), output=caveat.Mean(), backend="loop")
    caveat.draws(sampler, numbers(ROWS, 3), 2)
    sampler.model.room = 7
    with pytest.raises(
        OutOfMemoryError, match=r"(?s)Got: CUDA out of memory.*Usual cause.*Fix: pass smaller inputs"
    ) as error:
        caveat.draws(sampler, numbers(ROWS, 3), 2)
    assert isinstance(error.value, MemoryError)
    assert error.value.__cause__ is not None


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    sampler = caveat.mc_dropout(Small(16, ValueError), output=caveat.Mean())
    caveat.draws(sampler, numbers(1, 3), 2)
    sampler.model.room = 1
    with pytest.raises(ValueError, match="CUDA out of memory"):
        caveat.draws(sampler, numbers(ROWS, 3), 2)


def test_what_running_out_of_memory_looks_like() -> None:
    assert memory.is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not memory.is_out_of_memory(RuntimeError("shape mismatch"))
    cpu = torch.device("cpu")
    assert memory.allowed_bytes(cpu, 1 << 10) == 1 << 8
    assert memory.chunk_bytes(cpu, 1 << 8) == 1 << 8
    assert 0 < memory.chunk_bytes(cpu, memory.allowed_bytes(cpu, None)) <= memory.CACHE_BYTES


def test_a_chunk_is_larger_for_two_threads_and_no_larger_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    by_threads = list[int]()
    for threads in (1, 2, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        by_threads.append(memory.chunk_bytes(torch.device("cpu"), 1 << 30))
    one, two, many = by_threads
    assert two == 2 * one
    assert many == memory.CACHE_BYTES


@pytest.mark.parametrize("budget", [1, 200, 5000, 1 << 30])
@pytest.mark.parametrize("masks", ["shared", "per_row"])
def test_a_budget_changes_nothing_but_the_chunks(budget: int, masks: str) -> None:
    _, whole = drawn(10**9, "loop", masks=masks)
    for backend in ("loop", None):
        _, values = drawn(10**9, backend, memory=budget, masks=masks)
        torch.testing.assert_close(values, whole)


def test_rows_in_any_order_when_the_batch_is_split() -> None:
    sampler = caveat.mc_dropout(Small(10**9), output=caveat.Mean(), backend="loop", memory=1)
    whole = caveat.draws(sampler, numbers(ROWS, 3), 3)
    with sampler.bind(numbers(ROWS, 3), 0, rows=torch.tensor([0, 3, 4])) as stream, torch.no_grad():
        values = torch.cat([piece.clone() for piece in stream(range(3))])
    torch.testing.assert_close(values, whole[:, [0, 3, 4]])


def test_rows_in_descending_order_when_the_batch_is_split() -> None:
    sampler = caveat.mc_dropout(Small(10**9), output=caveat.Mean(), backend="loop", memory=1)
    whole = caveat.draws(sampler, numbers(ROWS, 3), 3)
    with sampler.bind(numbers(ROWS, 3), 0, rows=torch.tensor([4, 0, 3])) as stream, torch.no_grad():
        values = torch.cat([piece.clone() for piece in stream(range(3))])
    torch.testing.assert_close(values, whole[:, [4, 0, 3]])


def test_python_memory_does_not_grow_with_n() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    sampler, x = caveat.mc_dropout(model, output=caveat.Mean(), chunk=10), numbers(ROWS, 3)
    peaks = []
    for n in (1000, 1000, 6000):
        gc.collect()
        tracemalloc.start()
        caveat.predict(sampler, x, n)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 2 * peaks[1] + 20_000
