"""What comes before the first live site runs once per batch and draws nothing along; dead tensors are let go."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import caveat
from caveat._intercept._prefix import Diverged, Prefix


class Matmuls(TorchDispatchMode):
    """Counts matrix products by the width of their second factor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
            width = (args[2] if func is torch.ops.aten.addmm.default else args[1]).shape[1]
            self.found[width] = self.found.get(width, 0) + 1
        return func(*args, **(kwargs or {}))


BEFORE, AFTER = 17, 5


def network() -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Linear(3, BEFORE), nn.ReLU(), nn.Linear(BEFORE, BEFORE), nn.Tanh(), nn.Dropout(0.5)]
    return nn.Sequential(nn.Sequential(*body), nn.Linear(BEFORE, AFTER))


def products(n: int, **settings: Any) -> dict[int, int]:
    """How many products of each width a call of ``n`` draws makes, once the plan is known."""
    sampler, x = caveat.mc_dropout(network(), output=caveat.Logits(), **settings), torch.ones(4, 3)
    caveat.predict(sampler, x, 2)
    with Matmuls() as count:
        caveat.predict(sampler, x, n)
    return count.found


@pytest.mark.parametrize("backend", ["loop", "vectorized"])
@pytest.mark.parametrize("chunk", [None, 1, 7])
@pytest.mark.parametrize("n", [10, 200])
def test_the_beginning_is_computed_once(n: int, chunk: int | None, backend: str) -> None:
    assert products(n, chunk=chunk, backend=backend)[BEFORE] == 2


def test_the_rest_of_a_loop_is_computed_for_each_draw() -> None:
    assert products(10, backend="loop")[AFTER] == 10


def test_the_beginning_ends_at_the_first_live_site() -> None:
    model = nn.Sequential(
        nn.Linear(3, BEFORE), nn.Dropout(0.5), nn.Linear(BEFORE, BEFORE), nn.Dropout(0.5), nn.Linear(BEFORE, AFTER)
    )
    last = caveat.mc_dropout(model, output=caveat.Logits(), live=caveat.paths("3"), backend="loop")
    x = torch.ones(4, 3)
    caveat.predict(last, x, 2)
    with Matmuls() as count:
        caveat.predict(last, x, 20)
    assert count.found == {BEFORE: 2, AFTER: 20}


def test_a_batch_in_parts_has_a_beginning_for_each_part() -> None:
    assert products(10, backend="loop", memory=1)[BEFORE] == 2 * 4


class Big(nn.Module):
    """Makes a large tensor, of which a small one is all that is used afterwards."""

    def __init__(self, seen: list[weakref.ref[Tensor]]) -> None:
        super().__init__()
        self.see, self.drop, self.last = seen.append, nn.Dropout(0.5), nn.Linear(3, 2)  # no list of the module's own

    def forward(self, x: Tensor) -> Tensor:
        large = x.repeat(1, 50)
        self.see(weakref.ref(large))
        small = large[:, :3] + 0
        del large
        return self.last(self.drop(small))


def test_what_the_network_lets_go_of_is_let_go_of() -> None:
    seen: list[weakref.ref[Tensor]] = []
    model = Big(seen)
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend="loop", chunk=1)
    with sampler.bind(torch.ones(2, 3), 0) as stream, torch.no_grad():
        seen.clear()
        pieces = stream(range(5))
        next(pieces)
        next(pieces)
        gc.collect()
        assert seen[0]() is None


def test_a_value_read_from_the_beginning_is_remembered() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.drop = nn.Linear(3, 4), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            if h.sum() > 1e9 or float(h.max()) > 1e9 or h.shape[0] > 100:
                raise ValueError("not reached")
            return self.drop(h) * h.mean().item()

    sampler = caveat.mc_dropout(Branches(), output=caveat.Mean(), backend="loop", chunk=1)
    other = caveat.mc_dropout(sampler.model, output=caveat.Mean(), backend="loop", chunk=8)
    x = torch.ones(2, 3)
    assert torch.equal(caveat.draws(sampler, x, 6), caveat.draws(other, x, 6))


def test_a_network_that_does_not_repeat_itself_is_computed_in_full() -> None:
    class Alternates(nn.Module):
        """Takes another way every other time."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.drop, self.last, self.calls = nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            h = self.first(x) if self.calls % 2 else self.first(x.clone()) * 1
            return self.last(self.drop(h))

    model, x = Alternates(), torch.ones(2, 3)
    values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), backend="loop"), x, 8)
    assert len(values.unique()) > 2
    assert model.calls == 0


class Stashes(nn.Module):
    """The encoder leaves its features on itself, and the network reads them there."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.drop, self.last = Encoder(), nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.encoder(x)
        return self.last(self.drop(self.encoder.features))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.features = self.linear(x)
        return x


def test_what_a_module_leaves_on_itself_belongs_to_the_rows_that_run() -> None:
    torch.manual_seed(0)
    model, x = Stashes(), torch.randn(6, 3)
    whole = caveat.mc_dropout(model, output=caveat.Mean(), backend="loop")
    parts = caveat.mc_dropout(model, output=caveat.Mean(), backend="loop", memory=1, chunk=1)
    torch.testing.assert_close(caveat.draws(whole, x, 4), caveat.draws(parts, x, 4))


def test_a_record_refuses_another_call() -> None:
    record = Prefix()
    record.add(torch.sin, torch.ones(2))
    record.settle({})
    assert record.settled
    with pytest.raises(Diverged):
        record.replay(0, torch.cos)
    assert torch.equal(record.replay(0, torch.sin), torch.empty(2)) or record.replay(0, torch.sin).shape == (2,)
