"""Situations that a single call does not show: sites met later, hooks, lazy layers, outputs that change their size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import caveat

from . import fingerprint
from .law import departure
from .situation import in_train_mode, normal

pytestmark = pytest.mark.filterwarnings("ignore:`?torch.jit", "ignore:Lazy modules are a new feature")
CLOSE = 1e-5
BACKENDS = (None, "vectorized", "loop")


def sampler_of(model: nn.Module, **settings: Any) -> Any:
    return caveat.mc_dropout(model, output=caveat.Mean(), **settings)


def loop(model: nn.Module, inputs: Any, n: int = 3000) -> Tensor:
    """n passes with dropout on and norms in eval mode; the network is put back in eval mode."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    in_train_mode(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        found = torch.stack([model(*inputs) for _ in range(n)])
    model.eval()
    return found


def dense(*rates: float) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(4, 16)]
    for rate in rates:
        layers += [nn.ReLU(), nn.Dropout(rate), nn.Linear(16, 16)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(16, 2)).eval()


@pytest.fixture(autouse=True)
def own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


# ------------------------------------------------------------------------------------------- sites met later


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rate_that_is_raised_later_gives_a_fresh_samplers_draws(backend: str | None) -> None:
    model, x = dense(0.1, 0.0), normal(12, 4)
    sampler = sampler_of(model, backend=backend)
    caveat.draws(sampler, x, 5)
    model[5].p = 0.4
    whole = caveat.draws(sampler, x, 3000)
    torch.testing.assert_close(whole[:5], caveat.draws(sampler_of(model), x, 5), rtol=0, atol=CLOSE)
    torch.testing.assert_close(whole[:5, 3:4], caveat.draws(sampler, x[3:4], 5), rtol=0, atol=CLOSE)
    assert departure(whole, loop(model, x)) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rate_that_is_lowered_to_none_later_is_quiet(backend: str | None) -> None:
    model, x = dense(0.1, 0.4), normal(6, 4)
    sampler = sampler_of(model, backend=backend)
    caveat.draws(sampler, x, 5)
    model[5].p = 0.0
    torch.testing.assert_close(caveat.draws(sampler, x, 5), caveat.draws(sampler_of(model), x, 5), rtol=0, atol=CLOSE)


def test_a_rate_that_changes_between_chunks_of_other_calls_counts_at_once() -> None:
    """Each rate's draws are those of a sampler that has seen no other."""
    model, x = dense(0.3), normal(5, 4)
    sampler = sampler_of(model, chunk=2)
    for rate in (0.1, 0.5, 0.3):
        model[2].p = rate
        torch.testing.assert_close(
            caveat.draws(sampler, x, 9), caveat.draws(sampler_of(model), x, 9), rtol=0, atol=CLOSE
        )


class Tasks(nn.Module):
    """A number, an argument or an attribute, chooses the head; one head has no dropout, one has a mask by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.task = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2)), 0
        self.heads = nn.ModuleList(nn.Linear(16, 3) for _ in range(4))

    def forward(self, x: Tensor, task: int | None = None) -> Tensor:
        h, task = self.trunk(x), self.task if task is None else task
        if task == 1:
            h = F.dropout(h, 0.4, self.training)
        if task == 2 and self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6
        if task == 3:
            h = F.dropout(h, 0.4 if self.training else 0.0)
        return self.heads[task](h)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("by_attribute", [False, True], ids=["argument", "attribute"])
def test_a_task_met_later_gives_a_fresh_samplers_draws(backend: str | None, by_attribute: bool) -> None:
    torch.manual_seed(0)
    model, x = Tasks().eval(), normal(5, 4)
    sampler = sampler_of(model, backend=backend)
    for task in (0, 1, 2, 3, 1, 0):
        model.task = task if by_attribute else 0
        inputs = x if by_attribute else (x, task)
        row = x[3:4] if by_attribute else (x[3:4], task)
        whole = caveat.draws(sampler, inputs, 6)
        torch.testing.assert_close(whole, caveat.draws(sampler_of(model), inputs, 6), rtol=0, atol=CLOSE)
        torch.testing.assert_close(whole[:, 3:4], caveat.draws(sampler, row, 6), rtol=0, atol=CLOSE)
    model.task = 2
    assert departure(caveat.draws(sampler, x, 3000), loop(model, x)) is None


class Experts(nn.Module):
    """Rows above nought go one way, rows below another: a batch may meet one expert only."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = (
            nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_empty(len(x), 3)
        for expert, at in ((self.low, x[:, 0] < 0), (self.high, x[:, 0] >= 0)):
            if bool(at.any()):
                out[at] = expert(x[at])
        return out


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expert_met_later_gives_a_fresh_samplers_draws(backend: str | None) -> None:
    torch.manual_seed(0)
    model, x = Experts().eval(), normal(6, 4)
    sampler = sampler_of(model, backend=backend)
    low, high = x.clone(), x.clone()
    low[:, 0], high[:, 0] = -low[:, 0].abs(), high[:, 0].abs()
    for batch in (low, high, x, low[:1], torch.cat([high[:2], low[:3]])):
        torch.testing.assert_close(
            caveat.draws(sampler, batch, 6), caveat.draws(sampler_of(model), batch, 6), rtol=0, atol=CLOSE
        )


def test_sizes_that_happen_to_agree_later_do_not_change_what_is_a_row() -> None:
    """At first the second input is not as long as the batch, then it is; it has no rows either time."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 2))

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return self.body(x * scale)

    torch.manual_seed(0)
    model, scale, x = Scaled().eval(), torch.tensor([0.1, 1.0, 3.0, 2.0, -1.0]), normal(8, 5)
    sampler = sampler_of(model)
    whole = caveat.draws(sampler, (x, scale), 6)
    for few in (5, 1, 5):
        torch.testing.assert_close(caveat.draws(sampler, (x[:few], scale), 6), whole[:, :few], rtol=0, atol=CLOSE)
    pred = caveat.predict(sampler, (x[:5], scale), "auto", tolerance=0.05, max_draws=2000)
    assert departure(caveat.draws(sampler, (x[:5], scale), 3000), loop(model, (x[:5], scale))) is None
    error = (pred.mean - loop(model, (x[:5], scale)).mean(0)).abs().max()
    assert float(error) < 0.3


def test_one_network_of_many_situations_gives_the_same_draws_in_any_order() -> None:
    """Calls of other kinds in between (other sizes, other rows, predictions) do not count."""
    model, x = dense(0.3, 0.2), normal(7, 4)
    once = caveat.draws(sampler_of(model), x, 6)
    sampler = sampler_of(model)
    for rows in (1, 7, 3, 2, 1):
        caveat.predict(sampler, x[:rows], 7, seed=5)
        torch.testing.assert_close(caveat.draws(sampler, x, 6), once, rtol=0, atol=CLOSE)


# ------------------------------------------------------------------------------------------- hooks of the user's


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layer", [0, 2, 3], ids=["before the dropout", "the dropout", "after it"])
def test_a_hook_that_keeps_gets_one_ordinary_tensor_a_draw(backend: str | None, layer: int) -> None:
    model, x, kept = dense(0.3), normal(6, 4), []
    model[layer].register_forward_hook(lambda module, args, out: kept.append((args[0], out)))
    sampler = sampler_of(model, backend=backend)
    caveat.draws(sampler, x, 2)
    kept.clear()
    n = 20
    draws = caveat.draws(sampler, x, n)
    assert len(kept) == n
    for given, out in kept:
        assert type(given) is type(out) is Tensor
        assert given.shape[0] == out.shape[0] == len(x)
        assert bool(out.isfinite().all())
        assert not torch._C._functorch.is_functorch_wrapped_tensor(out)
    with torch.no_grad():
        again = torch.stack([model[layer + 1 :](out) for _, out in kept])
    rest_is_plain = layer >= 2
    if rest_is_plain:
        torch.testing.assert_close(again, draws, rtol=0, atol=CLOSE)


def test_what_a_hook_kept_stays_valid_after_other_calls() -> None:
    model, x, kept = dense(0.3), normal(6, 4), []
    model[-1].register_forward_hook(lambda module, args, out: kept.append(out))
    sampler = sampler_of(model)
    draws = caveat.draws(sampler, x, 8).clone()
    held = kept[-8:]
    caveat.predict(sampler, x, 50, seed=9)
    caveat.draws(sampler, normal(3, 4, seed=8), 5)
    torch.testing.assert_close(torch.stack(held), draws, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_hooks_run_once_a_draw_in_predict_and_in_many_chunks(backend: str | None) -> None:
    model, x, calls = dense(0.3), normal(6, 4), []
    model[3].register_forward_pre_hook(lambda module, args: calls.append(args[0].shape))
    sampler = sampler_of(model, backend=backend, chunk=3)
    caveat.predict(sampler, x, 3)
    calls.clear()
    caveat.predict(sampler, x, 31, seed=2)
    assert len(calls) == 31
    assert set(calls) == {(6, 16)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hook_that_changes_what_a_layer_gives_counts(backend: str | None) -> None:
    model, x = dense(0.3), normal(4, 4)
    model[2].register_forward_hook(lambda module, args, out: out.clamp(max=0.5))
    model[3].register_forward_pre_hook(lambda module, args: (args[0] + 0.1,))
    assert departure(caveat.draws(sampler_of(model, backend=backend), x, 3000), loop(model, x)) is None


def test_a_hook_of_all_modules_runs_once_a_draw() -> None:
    model, x, calls = dense(0.3), normal(4, 4), []
    sampler = sampler_of(model)
    caveat.draws(sampler, x, 2)
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, out: calls.append(out) if module is model[3] else None
    )
    try:
        draws = caveat.draws(sampler, x, 12)
    finally:
        handle.remove()
    assert len(calls) == 12
    with torch.no_grad():
        torch.testing.assert_close(torch.stack([model[4:](out) for out in calls]), draws, rtol=0, atol=CLOSE)


def test_a_hook_that_raises_leaves_the_network_as_it_was() -> None:
    model, x = dense(0.3), normal(4, 4)
    sampler = sampler_of(model)
    right = caveat.draws(sampler, x, 5)

    def refuse(module: nn.Module, args: Any, out: Tensor) -> None:
        raise RuntimeError("raised by the user's hook")

    handle = model[3].register_forward_hook(refuse)
    before = fingerprint.of_network(model), fingerprint.of_process()
    with pytest.raises(RuntimeError, match="raised by the user's hook"):
        caveat.draws(sampler, x, 5)
    assert fingerprint.differences(before[0], fingerprint.of_network(model)) == []
    assert fingerprint.differences(before[1], fingerprint.of_process()) == []
    handle.remove()
    torch.testing.assert_close(caveat.draws(sampler, x, 5), right, rtol=0, atol=CLOSE)


# ------------------------------------------------------------------------------------------- lazy layers


class LazyPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.drop, self.b = nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Dropout(0.3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.drop(torch.relu(self.norm(self.a(x)))))


@pytest.mark.parametrize(
    "build",
    [lambda: nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.3), nn.Linear(8, 2)), LazyPart],
    ids=["sequential", "with a norm"],
)
@pytest.mark.parametrize("what", ["predict", "draws", "audit"])
def test_a_lazy_layer_is_refused_clearly_or_drawn_and_the_network_works(build: Any, what: str) -> None:
    torch.manual_seed(0)
    model, x = build().eval(), normal(6, 4)
    try:
        if what == "audit":
            caveat.audit(model, x)
        else:
            getattr(caveat, what)(sampler_of(model), x, 5)
    except caveat.CaveatError as error:
        assert "lazy" in str(error).lower()  # noqa: PT017  either it works or it says so
    assert model(x).shape == (6, 2)
    assert departure(caveat.draws(sampler_of(model), x, 3000), loop(model, x)) is None


# ------------------------------------------------------------------------------------------- outputs of no fixed size


class Boxes(nn.Module):
    """As many boxes as are over a threshold, in one tensor, or in a list with one for each row."""

    def __init__(self, a_list: bool = False) -> None:
        super().__init__()
        self.c, self.d, self.h, self.a_list = nn.Conv2d(3, 8, 3, 2), nn.Dropout(0.3), nn.Conv2d(8, 6, 1), a_list

    def forward(self, x: Tensor) -> Any:
        o = self.h(self.d(torch.relu(self.c(x)))).flatten(2).transpose(1, 2)
        if self.a_list:
            return [row[row[:, 0] > 0.1] for row in o]
        o = o.flatten(0, 1)
        return o[o[:, 0] > 0.1]


class Found(nn.Module):
    """Where the scores are above nought: pairs of indices."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Dropout(0.4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) > 0).nonzero().float()


@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.parametrize("build", [Boxes, lambda: Boxes(True), Found], ids=["boxes", "lists of boxes", "indices"])
@pytest.mark.parametrize("what", ["predict", "draws"])
def test_an_output_whose_size_varies_by_draw_is_refused_in_those_words(
    build: Any, what: str, backend: str | None
) -> None:
    torch.manual_seed(0)
    model, x = build().eval(), normal(3, 3, 8, 8)
    before = fingerprint.of_network(model), fingerprint.of_process()
    with pytest.raises(caveat.CaveatError, match=r"(?i)draw"):
        getattr(caveat, what)(sampler_of(model, backend=backend), x, 12)
    assert fingerprint.differences(before[0], fingerprint.of_network(model)) == []
    assert fingerprint.differences(before[1], fingerprint.of_process()) == []


def test_an_output_padded_to_the_longest_row_is_each_rows_own() -> None:
    """(B, T, C) with T the longest of the batch: a row alone is shorter, and the same as far as it goes."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.drop, self.head = nn.Embedding(9, 6), nn.Dropout(0.4), nn.Linear(6, 2)

        def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
            return self.head(self.drop(self.table(ids[:, : int(lengths.max())])))

    torch.manual_seed(0)
    model, lengths = Tagger().eval(), torch.tensor([5, 2, 3])
    ids = pad_sequence([torch.arange(int(k)) for k in lengths], batch_first=True)
    sampler = sampler_of(model)
    whole = caveat.draws(sampler, (ids, lengths), 6)
    for k, length in enumerate(lengths.tolist()):
        alone = caveat.draws(sampler, (ids[k : k + 1], lengths[k : k + 1]), 6)
        torch.testing.assert_close(alone, whole[:, k : k + 1, :length], rtol=0, atol=CLOSE)
    assert departure(caveat.draws(sampler, (ids, lengths), 3000), loop(model, (ids, lengths))) is None


# ------------------------------------------------------------------------------------------- nothing random


class Steady(nn.Module):
    """No dropout anywhere, though its names are full of it."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.drop_path = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop_path(torch.relu(self.dropout(x)))


class DropPath(nn.Module):
    """Only rows are left out, which is off by default."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.bernoulli(x.new_full((len(x), 1), 0.6)) / 0.6


def quiet(name: str) -> nn.Module:
    torch.manual_seed(0)
    return {
        "without dropout": Steady,
        "a rate of nought": lambda: dense(0.0),
        "a mask of rows alone": lambda: nn.Sequential(nn.Linear(4, 3), DropPath()),
    }[name]().eval()


class Aside(nn.Module):
    """Functional dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(torch.relu(self.a(x)), 0.4, self.training))


@pytest.mark.parametrize("name", ["without dropout", "a rate of nought", "a mask of rows alone"])
@pytest.mark.parametrize("what", ["predict", "draws"])
def test_what_cannot_vary_is_refused_once_it_has_been_run(name: str, what: str) -> None:
    model = quiet(name)
    sampler = sampler_of(model)
    before = fingerprint.of_network(model), fingerprint.of_process()
    with pytest.raises(caveat.NothingRandomError):
        getattr(caveat, what)(sampler, normal(3, 4), 5)
    assert fingerprint.differences(before[0], fingerprint.of_network(model)) == []
    assert fingerprint.differences(before[1], fingerprint.of_process()) == []


@pytest.mark.parametrize("how", ["script", "trace"])
def test_dropout_within_torchscript_is_named(how: str) -> None:
    """Its calls cannot be seen: alone it is refused, beside live dropout the audit says what does not fire."""
    torch.manual_seed(0)
    network = Aside().train()
    part = torch.jit.script(network) if how == "script" else torch.jit.trace(network, normal(2, 4), check_trace=False)
    sampler = sampler_of(part)
    with pytest.raises(caveat.NothingRandomError, match="TorchScript"):
        caveat.draws(sampler, normal(3, 4), 5)
    mixed = nn.Sequential(part, nn.Dropout(0.4), nn.Linear(3, 2))
    assert "TorchScript" in str(caveat.audit(mixed, normal(3, 4)))
