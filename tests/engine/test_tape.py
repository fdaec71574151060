"""A tape gives the draws of the network's own Python, and writes only on memory that nothing needs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _python_dispatch

import caveat
from caveat._engine._executors import record, vectorized
from caveat._engine._program import Program, Slot
from caveat._intercept._masks import MaskSource


class Reusing(nn.Module):
    """Every tensor that an operation could write on is needed again, in some way."""

    def __init__(self, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.after = nn.Linear(6, 40), nn.Linear(40, 40), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.second(F.dropout(self.first(x), 0.4, self.training)))


def view_kept(h: Tensor) -> Tensor:
    half = h[:, :20]
    return torch.relu(h).sum(-1) + half.sum(-1)


def written_later(h: Tensor) -> Tensor:
    rest = torch.relu(h)
    rest[:, 0] = h[:, 1]
    return rest


def onto_constant(h: Tensor) -> Tensor:
    out = torch.zeros(len(h), 40)
    out[:, 3] = h[:, 3]
    return out + h


AFTER: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "residual": lambda h: torch.relu(h) + h,
    "square": lambda h: h * h,
    "transposed with itself": lambda h: h[:, :4] @ h[:, :4].T @ h,
    "times a view of itself": lambda h: h * h.flip(-1),
    "chain": lambda h: torch.tanh(torch.relu(h * 2.0) + 1.0).sigmoid(),
    "view kept": view_kept,
    "written later": written_later,
    "onto a constant": onto_constant,
    "cat": lambda h: torch.cat([h, torch.relu(h)], -1),
    "split": lambda h: sum(part.relu() for part in h.split(10, -1)),  # type: ignore[arg-type, return-value]
    "softmax": lambda h: torch.softmax(h, -1) + h,
    "broadcast": lambda h: h[:, :1] + h,
    "numbered places": lambda h: h[:, torch.tensor([3, 1])] + h[torch.arange(len(h)), 2:4].relu(),
    "twice": lambda h: torch.relu(h) * torch.sigmoid(h),
    "constant output": lambda h: h,
}


def draws_in_chunks(model: nn.Module, x: Tensor, chunk: int, **settings: Any) -> Tensor:
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), chunk=chunk, **settings)
    return caveat.draws(sampler, x, n=24, seed=3)


@pytest.mark.filterwarnings("ignore::caveat.errors.RowsNotSeparatedWarning")  # "transposed with itself" mixes rows
@pytest.mark.parametrize("rows", [1, 3, 500])  # 500: large enough for the tape's own memory
@pytest.mark.parametrize("name", AFTER)
def test_a_tape_gives_the_draws_of_the_network(name: str, rows: int) -> None:
    torch.manual_seed(1)
    model, x = Reusing(AFTER[name]), torch.randn(rows, 6)
    untaped = draws_in_chunks(model, x, chunk=24)
    for chunk in (1, 4, 5):
        torch.testing.assert_close(draws_in_chunks(model, x, chunk=chunk), untaped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masks", ["shared", "per_row"])
def test_a_tape_of_single_draws_gives_the_draws_of_a_loop(masks: str) -> None:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3, batch_first=True)
    x = torch.randn(3, 5, 16)
    loop = caveat.mc_dropout(layer, output=caveat.Mean(), backend="loop", masks=masks)  # type: ignore[arg-type]
    taped = caveat.mc_dropout(layer, output=caveat.Mean(), chunk=1, masks=masks)  # type: ignore[arg-type]
    torch.testing.assert_close(caveat.draws(taped, x, n=8), caveat.draws(loop, x, n=8), rtol=1e-5, atol=1e-6)


def tape_of(model: nn.Module, x: Tensor) -> Any:
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), chunk=4)
    with sampler.bind(x, 0) as stream, torch.no_grad():
        for _ in stream(range(12)):
            pass
        return stream._tasks[0].tape  # type: ignore[attr-defined]


def test_the_third_chunk_is_played_and_writes_on_its_own_memory() -> None:
    tape = tape_of(Reusing(lambda h: torch.relu(h).sum(-1)), torch.randn(500, 6))
    names = [str(step.func) for step in tape.program.steps]
    assert "aten.relu_.default" in names
    assert "aten.relu.default" not in names
    assert len(tape.program.memory) > 0


def test_python_runs_for_the_trial_and_two_chunks_only() -> None:
    calls: list[int] = []

    def counted(h: Tensor) -> Tensor:
        calls.append(1)
        return h

    sampler = caveat.mc_dropout(Reusing(counted), output=caveat.Mean(), chunk=2)
    x = torch.randn(3, 6)
    caveat.predict(sampler, x, n=2)
    calls.clear()
    caveat.predict(sampler, x, n=100)
    assert len(calls) == 2


class WithAuxiliaryHead(nn.Module):
    """In training a head with dropout is computed too, of which the network returns nothing: GoogLeNet's way."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Linear(6, 40), nn.Linear(40, 3)
        self.auxiliary = nn.Sequential(nn.Dropout(0.5), nn.Linear(40, 17))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x).relu()
        if self.training:
            self.auxiliary(h)
        return self.last(F.dropout(h, 0.5, self.training))


def test_a_head_that_nothing_reads_is_not_played() -> None:
    class Heads(_python_dispatch.TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            returned = func(*args, **(kwargs or {}))
            self.count += str(func).startswith("aten.addmm") and returned.shape[-1] == 17
            return returned

    sampler = caveat.mc_dropout(WithAuxiliaryHead(), output=caveat.Mean(), chunk=10)
    x = torch.randn(2, 6)
    assert {site.path for site in caveat.audit(sampler.model, x) if site.live} == {"", "auxiliary.0"}
    caveat.draws(sampler, x, n=1)
    counts = list[int]()
    for n in (20, 200):
        with Heads() as heads:
            caveat.draws(sampler, x, n=n)
        counts.append(heads.count)
    assert 0 < counts[0] == counts[1]


def test_the_output_of_a_tape_is_not_overwritten_within_a_summary() -> None:
    model, x = Reusing(lambda h: h), torch.randn(500, 6)
    few = caveat.mc_dropout(model, output=caveat.Mean(), chunk=2)
    many = caveat.mc_dropout(model, output=caveat.Mean(), chunk=40)
    a, b = caveat.predict(few, x, n=40, keep=True), caveat.predict(many, x, n=40, keep=True)
    torch.testing.assert_close(a.draws, b.draws, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(a.variance, b.variance)


def test_a_pass_that_leaves_marks_on_its_modules_is_not_taped() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.count = nn.Linear(6, 2), 0

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return self.linear(F.dropout(x, 0.5, self.training))

    assert tape_of(Counting(), torch.randn(3, 6)) is None


@pytest.mark.parametrize(
    ("index", "taped"), [(torch.tensor([3, 1]), True), (torch.arange(40) < 7, False)], ids=["numbers", "booleans"]
)
def test_places_chosen_by_numbers_are_taped(index: Tensor, taped: bool) -> None:
    tape = tape_of(Reusing(lambda h: h[:, index].relu()), torch.randn(3, 6))
    assert (tape is not None) == taped


def test_a_hook_sees_every_draw_as_an_ordinary_tensor() -> None:
    model, x, seen = Reusing(torch.relu), torch.randn(3, 6), list[Tensor]()
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), chunk=2)
    before = caveat.draws(sampler, x, 20)  # planned without a hook
    model.register_forward_hook(lambda module, args, output: seen.append(output))
    caveat.predict(sampler, x, n=2)
    seen.clear()
    values = caveat.draws(sampler, x, 20)
    torch.testing.assert_close(torch.stack(seen), values)
    torch.testing.assert_close(values, before)


def test_gradients_are_those_of_an_untaped_pass() -> None:
    model, x = Reusing(torch.relu), torch.randn(3, 6, requires_grad=True)
    for chunk in (2, 24):
        sampler = caveat.mc_dropout(model, output=caveat.Mean(), chunk=chunk)
        with sampler.bind(x, 0, gradient=True) as stream:
            total = torch.stack([piece.sum() for piece in stream(range(24))]).sum()  # type: ignore[union-attr]
        (gradient,) = torch.autograd.grad(total, x)
        if chunk == 2:
            first = gradient
    torch.testing.assert_close(first, gradient)


def test_what_is_written_on_a_constant_cannot_be_played() -> None:
    source = MaskSource(0)
    sampler = caveat.mc_dropout(Reusing(torch.relu), output=caveat.Mean(), chunk=2)
    with sampler.bind(torch.randn(3, 6), 0) as stream, torch.no_grad():
        task = stream._tasks[0]  # type: ignore[attr-defined]

        def run(task: Any, source: MaskSource, draws: range) -> Tensor:
            values = vectorized(task, source, draws)
            store = torch.zeros(3)
            store.add_(values.sum())  # type: ignore[union-attr]
            return store

        _, tape = record(task, source, range(2), run)
    assert tape is None


def test_tapes_of_parts_of_the_rows_share_memory_but_not_their_outputs() -> None:
    torch.manual_seed(1)
    model, x = Reusing(torch.relu), torch.randn(4000, 6)
    whole = draws_in_chunks(model, x, chunk=24)
    split = caveat.mc_dropout(model, output=caveat.Mean(), chunk=1, backend=None, memory=4 * 1000 * 160)
    torch.testing.assert_close(caveat.draws(split, x, n=24, seed=3), whole, rtol=1e-5, atol=1e-5)
    with split.bind(x, 3) as stream, torch.no_grad():
        for _ in stream(range(4)):
            pass
        tasks = stream._tasks  # type: ignore[attr-defined]
    assert len(tasks) > 1
    assert all(task.tape is not None and task.room is tasks[0].room for task in tasks)


def test_a_program_is_let_go_of_without_the_collector() -> None:
    slot = Slot(1, 1, True, (3,), (1,), torch.float32, torch.device("cpu"), True)
    program = Program([slot], {}, [], [], [slot]).make_ready()
    run = weakref.ref(program.run)
    gc.collect()
    gc.disable()
    try:
        del program
        assert run() is None
    finally:
        gc.enable()


def test_an_interrupt_while_a_recording_ends_leaves_no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch notes that a mode has ended before it takes the mode off its stack: struck between the two."""
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 3))
    sampler = caveat.mc_dropout(model, output=caveat.Logits(), chunk=3)
    noted = {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")}
    pop, struck = _python_dispatch._pop_mode, list[None]()

    def strike(key: Any) -> Any:
        if not struck:
            struck.append(None)
            raise KeyboardInterrupt
        return pop(key)

    monkeypatch.setattr(_python_dispatch, "_pop_mode", strike)
    with pytest.raises(KeyboardInterrupt):
        caveat.predict(sampler, torch.randn(5, 4), 30)
    assert struck
    assert torch._C._len_torch_dispatch_stack() == 0
    assert {name: value for name, value in vars(_python_dispatch).items() if name.startswith("_is_in_")} == noted


@pytest.mark.parametrize("handling", [False, True])
def test_an_interrupt_that_another_error_hides_is_raised(handling: bool) -> None:
    """Not the one that the caller is handling: an error is itself then."""

    class Hiding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            try:
                if not handling:
                    raise KeyboardInterrupt
            finally:
                raise RuntimeError("pop from an empty stack")

    sampler = caveat.mc_dropout(Hiding(), output=caveat.Logits())
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(RuntimeError if handling else KeyboardInterrupt):
            caveat.predict(sampler, torch.zeros(2, 3))
