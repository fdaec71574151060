"""Writes in place: never on memory that is the user's, and with plain torch's meaning, aliases and all."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat

from .by_hand import RATE, build, plain_draws

FEATURES = 6
N = 7
Body = Callable[[nn.Module, Tensor], Tensor]


class Cache:
    """An object of the network's own."""

    last: Any = None


class Network(nn.Module):
    """A linear layer before and after; what happens between and around is the ``body``'s."""

    def __init__(self, drop: nn.Module, body: Body) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, FEATURES), nn.Linear(FEATURES, 2)
        self.drop, self.body = drop, body
        self.register_buffer("table", torch.linspace(-1, 1, FEATURES))
        self.cache, self.settings = Cache(), SimpleNamespace(kept=[])
        self.tally, self.tallies = torch.zeros(()), [torch.zeros(2)]

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def writes_on_input(m: Any, x: Tensor) -> Tensor:
    x.mul_(2.0)
    x += 1
    return m.last(m.drop(m.first(x)))


def reads_input_after_writing_on_it(m: Any, x: Tensor) -> Tensor:
    F.relu_(x)
    return m.last(m.drop(m.first(x))) + x.sum(1, keepdim=True)


def writes_on_buffer(m: Any, x: Tensor) -> Tensor:
    m.table.mul_(0.5)
    m.table[0] = 3.0
    return m.last(m.drop(m.first(x)) * m.table)


def writes_on_buffer_after_the_site(m: Any, x: Tensor) -> Tensor:
    h = m.drop(m.first(x))
    m.table.mul_(2.0)
    m.table.add_(1.0)
    return m.last(h * m.table)


def rebinds_a_buffer(m: Any, x: Tensor) -> Tensor:
    m.table += 1.0
    return m.last(m.drop(m.first(x)) * m.table)


def rebinds_an_attribute(m: Any, x: Tensor) -> Tensor:
    m.calls = getattr(m, "calls", 0) + 1
    return m.last(m.drop(m.first(x))) * m.calls


def keeps_its_last_features_in_an_object(m: Any, x: Tensor) -> Tensor:
    h = m.drop(m.first(x))
    if m.cache.last is not None:
        h = h + m.cache.last
    m.cache.last = h
    return m.last(h)


def keeps_its_last_features_in_a_namespace(m: Any, x: Tensor) -> Tensor:
    h = m.drop(m.first(x))
    m.settings.kept.append(h)
    m.settings.calls = getattr(m.settings, "calls", 0) + 1
    return m.last(sum(m.settings.kept)) * m.settings.calls


def counts_on_tensors_that_are_no_buffers(m: Any, x: Tensor) -> Tensor:
    m.tally += 1
    m.tallies[0].add_(1)
    m.tallies[0][1].mul_(3)
    return m.last(m.drop(m.first(x))) * m.tally + m.tallies[0].sum()


def writes_on_parameter(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.first.weight.clamp_(-0.1, 0.1)
    return m.last(m.drop(m.first(x)))


def shortens_an_embedding(m: Any, x: Tensor) -> Tensor:
    rows = F.embedding(torch.arange(FEATURES), m.first.weight, max_norm=0.3)
    return m.last(m.drop(m.first(x))) + rows.sum()


def dropped_then_rectified_in_place(m: Any, x: Tensor) -> Tensor:
    return m.last(F.relu(m.drop(m.first(x)), inplace=True))


def residual_in_place(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    h += m.drop(h)
    return m.last(h)


def keeps_the_old_name(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    m.drop(h)
    return m.last(h)


def prefix_written_after_the_site(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    d = m.drop(h.tanh())
    h.mul_(3.0)
    return m.last(h + d)


def view_of_prefix_written_after_the_site(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    v = h[:, :2]
    d = m.drop(h.tanh())
    v.mul_(3.0)
    return m.last(h + d)


def view_written_before_the_site(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    h.view(-1, 2, FEATURES // 2)[:, 1].zero_()
    return m.last(m.drop(h))


def view_of_dropped_written(m: Any, x: Tensor) -> Tensor:
    h = m.drop(m.first(x))
    a, b = h.chunk(2, 1)
    a.mul_(b)
    return m.last(h)


def per_draw_values_written_on_a_common_tensor(m: Any, x: Tensor) -> Tensor:
    canvas = torch.zeros(len(x), FEATURES)
    canvas[:, 1:] = m.drop(m.first(x))[:, 1:]
    canvas += 0.5
    return m.last(canvas)


def per_draw_values_written_on_a_view_of_a_common_tensor(m: Any, x: Tensor) -> Tensor:
    canvas = torch.zeros(len(x), FEATURES)
    left = canvas[:, :3]
    left.add_(m.drop(m.first(x))[:, :3])
    return m.last(canvas)


def out_argument(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    torch.mul(h, 2.0, out=h)
    d = m.drop(h)
    torch.add(d, 1.0, out=d)
    return m.last(d)


def masked_fill_and_index(m: Any, x: Tensor) -> Tensor:
    h = m.drop(m.first(x))
    h[h < 0] = 0.25
    h.masked_fill_(h > 1, 1.0)
    return m.last(h)


def view_of_input_written(m: Any, x: Tensor) -> Tensor:
    v = x[:, :2]
    v.mul_(3.0)
    return m.last(m.drop(m.first(x)))


def view_of_buffer_written(m: Any, x: Tensor) -> Tensor:
    m.table[2:4].zero_()
    return m.last(m.drop(m.first(x)) * m.table)


def data_of_buffer_written(m: Any, x: Tensor) -> Tensor:
    m.table.data.mul_(0.5)
    return m.last(m.drop(m.first(x)) * m.table)


PLAIN: list[Body] = [
    writes_on_input,
    reads_input_after_writing_on_it,
    writes_on_buffer,
    writes_on_buffer_after_the_site,
    writes_on_parameter,
    shortens_an_embedding,
    dropped_then_rectified_in_place,
    residual_in_place,
    prefix_written_after_the_site,
    view_of_prefix_written_after_the_site,
    view_written_before_the_site,
    view_of_dropped_written,
    per_draw_values_written_on_a_common_tensor,
    per_draw_values_written_on_a_view_of_a_common_tensor,
    out_argument,
    masked_fill_and_index,
]
ON_VIEWS: list[Body] = [view_of_input_written, view_of_buffer_written, data_of_buffer_written]


def batch() -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(2))


def check(body: Body, backend: str | None, inplace: bool) -> None:
    x = batch()
    expected = plain_draws(lambda drop: Network(drop, body), x, N, FEATURES, inplace=inplace)
    model = build(lambda drop: Network(drop, body), nn.Dropout(RATE, inplace=inplace))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend=backend)
    for chunk in (N, 2):  # with and without a recorded beginning
        with sampler.bind(x, 0) as stream, torch.no_grad():
            pieces = [p.clone() for at in range(0, N, chunk) for p in stream(range(at, min(at + chunk, N)))]
        torch.testing.assert_close(torch.cat(pieces), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, batch()), "the input was written on"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} was written on"


@pytest.mark.parametrize("inplace", [False, True], ids=["", "in place"])
@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.parametrize("body", PLAIN, ids=lambda body: body.__name__)
def test_means_what_plain_torch_means(body: Body, backend: str | None, inplace: bool) -> None:
    check(body, backend, inplace)


@pytest.mark.parametrize("backend", [None, "loop"])
def test_dropout_in_place_is_seen_under_the_old_name(backend: str | None) -> None:
    check(keeps_the_old_name, backend, inplace=True)


KEEPS: list[Body] = [
    keeps_its_last_features_in_an_object,
    keeps_its_last_features_in_a_namespace,
    counts_on_tensors_that_are_no_buffers,
]


@pytest.mark.parametrize("body", [rebinds_a_buffer, rebinds_an_attribute, *KEEPS], ids=lambda body: body.__name__)
def test_what_a_pass_leaves_on_a_module_is_gone_in_the_next_draw(body: Body) -> None:
    check(body, "loop", inplace=False)


@pytest.mark.parametrize("body", KEEPS, ids=lambda body: body.__name__)
def test_what_a_pass_leaves_in_an_object_is_gone_after_a_call(body: Body) -> None:
    check(body, None, inplace=False)
    model = build(lambda drop: Network(drop, body), nn.Dropout(RATE))
    for _ in range(2):
        caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), batch(), N)
        assert vars(model.cache) == {}
        assert vars(model.settings) == {"kept": []}
        assert float(model.tally) == float(model.tallies[0].sum()) == 0


@pytest.mark.parametrize("body", ON_VIEWS, ids=lambda body: body.__name__)
def test_a_write_on_a_view_reaches_the_whole(body: Body) -> None:
    check(body, "loop", inplace=False)


@pytest.mark.parametrize("body", ON_VIEWS, ids=lambda body: body.__name__)
def test_a_write_on_a_view_leaves_the_users_memory_alone(body: Body) -> None:
    x = batch()
    model = build(lambda drop: Network(drop, body), nn.Dropout(RATE))
    table = model.table.clone()
    caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, N)
    assert torch.equal(x, batch())
    assert torch.equal(model.table, table)


def unchanged(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draws a number, as an augmentation does that seldom changes anything; one that draws none is refused."""
    torch.rand((), generator=generator)
    return x


def changed_copy(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(0.5)
    return other


@pytest.mark.parametrize("body", [writes_on_parameter, shortens_an_embedding], ids=lambda body: body.__name__)
@pytest.mark.parametrize(
    "verb",
    [
        lambda model: caveat.ensemble([model, changed_copy(model)], output=caveat.Mean()),
        lambda model: caveat.deterministic(model, output=caveat.Mean()),
        lambda model: caveat.samplers.test_time_augmentation(model, unchanged, output=caveat.Mean()),
    ],
    ids=["ensemble", "deterministic", "augmentation"],
)
def test_no_call_writes_on_a_parameter(verb: Any, body: Body) -> None:
    model = build(lambda drop: Network(drop, body), nn.Dropout(RATE))
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        sampler = verb(model)
        found = caveat.predict(sampler, batch()).mean
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        alone = [copy.deepcopy(each)(batch()) for each in getattr(sampler, "models", [model])]
        torch.testing.assert_close(found, torch.stack(alone).mean(0).to(found.dtype), rtol=1e-4, atol=1e-5)


class WritesOnInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        dropped = self.drop(x)
        x.mul_(2.0)
        return self.last(self.first(dropped)) + self.last(self.first(x))


def assert_masks_explain(found: Tensor, base: Tensor, slopes: Tensor) -> None:
    """Is every draw (B, O) ``base`` and of each feature that is kept its part of ``slopes``, (B, features, O)?"""
    kept = torch.linalg.lstsq(slopes.mT.flatten(0, 1), (found - base).flatten(1).T).solution
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-3)
    assert {0.0, 1.0} == set(kept.round().abs().flatten().tolist())


@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_operators_of_an_exported_network_write_on_copies(backend: Any) -> None:
    torch.manual_seed(0)
    model, x = WritesOnInput().eval(), torch.randn(5, 4)
    exported = torch.export.export(model, (x.clone(),), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    with torch.no_grad():
        base = model.last(model.first(torch.zeros(4))) + model.last(model.first(2 * x))
        slopes = x[:, :, None] * (model.last.weight @ model.first.weight).T / 0.7
    given = x.clone()
    found = caveat.draws(caveat.mc_dropout(exported, output=caveat.Mean(), backend=backend, chunk=4), given, n=12)
    assert torch.equal(given, x)
    assert_masks_explain(found, base, slopes)


@torch.library.custom_op("caveat_tests::rotate", mutates_args=("left", "right"))
def rotate(scale: float, left: Tensor, right: Tensor) -> None:
    """Writes on two arguments, neither of which is the first, under a name that does not say so."""
    kept = left.clone()
    left.copy_(-right * scale)
    right.copy_(kept * scale)


class Rotating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x), self.first(x + 1)
        dropped = self.drop(left)
        rotate(2.0, left, right)
        return self.last(dropped + left - right)


@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_operators_of_libraries_write_on_copies(backend: Any) -> None:
    torch.manual_seed(0)
    model, x = Rotating().eval(), torch.randn(5, 4)
    with torch.no_grad():
        left, right = model.first(x), model.first(x + 1)
        base = model.last(-2 * right - 2 * left)
        slopes = left[:, :, None] * model.last.weight.T / 0.7
    found = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), backend=backend, chunk=4), x, n=12)
    assert_masks_explain(found, base, slopes)
