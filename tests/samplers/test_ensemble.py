"""Deep ensembles: member i is draw i, however it is evaluated; changed members are noticed; bad input is named."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import caveat
from caveat.errors import InvalidArgumentError
from caveat.samplers import deterministic, ensemble


def mlp(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, outputs))


def members(count: int = 5, outputs: int = 3) -> list[nn.Sequential]:
    torch.manual_seed(0)
    return [mlp(outputs) for _ in range(count)]


def looped(networks: list[Any], x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([network.eval()(x) for network in networks])


class Scaled(nn.Module):
    """Its result depends on an attribute that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale, self._shift = nn.Linear(4, 2), 1.0, [0.0]

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) * self.scale + self._shift[0]


@pytest.fixture
def backend(way: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend of a way. The rule alone can say "unrolled", so there the rule is made to say it of every size."""
    if way == "unrolled":
        monkeypatch.setattr("caveat.samplers._members._prepare.choose_way", lambda *_: "unrolled")
        return None
    return way


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", [None, "vectorized", "unrolled", "loop"])
@pytest.mark.parametrize("rows", [1, 6, 300])
def test_draw_i_is_member_i(backend: Any, rows: int) -> None:
    networks, x = members(), X.repeat(50, 1)[:rows]
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)
    torch.testing.assert_close(caveat.draws(sampler, x), looped(networks, x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(caveat.draws(sampler, x, 2), looped(networks[:2], x), rtol=1e-5, atol=1e-6)


def test_an_ensemble_that_was_used_can_be_pickled_and_copied() -> None:
    x = torch.linspace(-1, 1, 8).reshape(2, 4)
    sampler = caveat.ensemble([nn.Linear(4, 3) for _ in range(3)], output=caveat.Logits())
    pred = caveat.predict(sampler, x)
    for again in (pickle.loads(pickle.dumps(sampler)), copy.deepcopy(sampler)):
        assert torch.equal(caveat.predict(again, x).mean, pred.mean)


def test_all_members_are_the_default_and_more_is_an_error() -> None:
    sampler = ensemble(members(), output=caveat.Logits())
    assert int(caveat.predict(sampler, X).count) == 5
    with pytest.raises(caveat.CaveatError, match="n=6 of 5"):
        caveat.predict(sampler, X, n=6)
    with pytest.raises(caveat.CaveatError, match="auto"):
        caveat.predict(sampler, X, n="auto")


@pytest.mark.parametrize("way", ["vectorized", "unrolled", "loop"])
def test_changed_members_are_noticed(backend: Any) -> None:
    networks = members()
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)

    def check() -> None:
        torch.testing.assert_close(caveat.draws(sampler, X), looped(networks, X), rtol=1e-5, atol=1e-6)

    check()
    with torch.no_grad():
        networks[2][0].weight.mul_(2.0)
    check()
    networks[1][3].bias = nn.Parameter(torch.ones(3))
    check()
    networks[0].load_state_dict({name: 2 * value for name, value in networks[4].state_dict().items()})
    check()
    networks[3][0].weight.data = torch.ones(16, 4)
    check()
    networks[3][1] = nn.Tanh()  # now of another architecture
    if backend == "vectorized":
        with pytest.raises(caveat.CaveatError, match="one architecture"):
            caveat.draws(sampler, X)
    else:
        check()


def test_changed_settings_and_hooks_are_noticed() -> None:
    torch.manual_seed(0)
    networks = [Scaled() for _ in range(4)]
    sampler = ensemble(networks, output=caveat.Mean())
    for change in (lambda: setattr(networks[1], "scale", 3.0), lambda: networks[2]._shift.__setitem__(0, 1.0)):
        caveat.draws(sampler, X)
        change()
        torch.testing.assert_close(caveat.draws(sampler, X), looped(networks, X), rtol=1e-5, atol=1e-6)
    seen: list[int] = []
    handle = networks[0].register_forward_hook(lambda *_: seen.append(1))
    caveat.draws(sampler, X)
    assert seen
    handle.remove()


class Grown(nn.Module):
    """A module whose children, buffers and settings may come later, and lie deep."""

    of_class = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.settings = {"of": {"scale": [1.0]}}
        self.blocks = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Tanh()})

    def factor(self) -> float:
        return self.of_class

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.mask if "mask" in self._buffers else self.weight
        for block in self.blocks.values():
            x = block(x)
        x = x @ weight * self.settings["of"]["scale"][0] * self.factor()
        return self.adapter(x) if "adapter" in self._modules else x


class Flipped(Grown):
    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


def reorder(network: Any) -> None:
    network.blocks["first"] = network.blocks.pop("first")


GROWTH: dict[str, Callable[[Any], Any]] = {
    "a setting in a dict in a dict": lambda network: network.settings["of"]["scale"].__setitem__(0, 3.0),
    "an attribute of the class": lambda network: setattr(type(network), "of_class", 2.0),
    "a method of the class": lambda network: setattr(type(network), "factor", lambda self: 5.0),
    "a first buffer": lambda network: network.register_buffer("mask", torch.rand(4, 4)),
    "a further child": lambda network: network.add_module("adapter", nn.Linear(4, 4)),
    "a first child": lambda network: network.blocks["second"].add_module("inner", nn.Linear(4, 4)),
    "another order": reorder,
    "another dict of modules": lambda network: vars(network).update(_modules={"blocks": nn.ModuleDict()}),
    "another dict of parameters": lambda network: vars(network).update(_parameters={"weight": torch.ones(4, 4)}),
    "another class": lambda network: setattr(network, "__class__", Flipped),
}


@pytest.mark.parametrize("change", GROWTH)
@pytest.mark.parametrize("way", ["vectorized", "unrolled"])
def test_what_decides_a_member_is_watched_however_deep_it_lies(
    backend: Any, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inner(nn.Tanh):
        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) if self._modules else super().forward(x)

    monkeypatch.setattr(Grown, "of_class", 1.0)
    monkeypatch.setattr(Grown, "factor", Grown.factor)
    torch.manual_seed(0)
    networks = [Grown() for _ in range(3)]
    for network in networks:
        network.blocks["second"] = Inner()
    sampler = ensemble(networks, output=caveat.Mean(), backend=backend)
    before = caveat.draws(sampler, X)
    for network in networks:
        GROWTH[change](network)
    after = caveat.draws(sampler, X)
    torch.testing.assert_close(after, looped(networks, X), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after, before)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_members_of_torchscript_in_train_mode_are_refused() -> None:
    """Nothing reaches their dropout."""
    layers = nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)
    networks: list[Any] = [torch.jit.script(nn.Sequential(*layers).train()) for _ in range(2)]
    sampler = caveat.ensemble(networks, output=caveat.Mean())
    with pytest.raises(InvalidArgumentError, match="must be in eval mode"):
        caveat.draws(sampler, torch.zeros(2, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_members_of_torchscript() -> None:
    networks: list[Any] = [torch.jit.script(network.eval()) for network in members()]
    sampler = caveat.ensemble(networks, output=caveat.Logits())
    for _ in range(3):
        torch.testing.assert_close(caveat.draws(sampler, X), looped(networks, X), rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            next(networks[1].parameters()).mul_(2.0)


@pytest.mark.parametrize("way", [None, "vectorized", "unrolled", "loop"])
def test_members_move_with_their_dtype(backend: Any) -> None:
    networks = members()
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)
    caveat.draws(sampler, X)
    for network in networks:
        network.double()
    assert caveat.draws(sampler, X.double()).dtype == torch.float64


def test_gradients_reach_members_and_inputs() -> None:
    networks, x = members(), X.clone().requires_grad_()
    caveat.draws(ensemble(networks, output=caveat.Logits()), x, gradient=True).square().sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is not None for network in networks for parameter in network.parameters())


def test_a_member_with_other_classes_is_named() -> None:
    sampler = ensemble([mlp(), mlp(), mlp(4)], output=caveat.Logits())
    with pytest.raises(caveat.CaveatError, match=r"(?s)Member 0 gives .*\(6, 3\).*member 2 gives .*\(6, 4\)"):
        caveat.predict(sampler, X)


TWICE = mlp()


@pytest.mark.parametrize(
    ("networks", "said"),
    [
        ([], "an empty list"),
        (mlp(), "an nn.Sequential"),
        (nn.Linear(4, 3), "one Linear"),
        (3, "int"),
        ([mlp(), {"weight": 1}], "dict as member 1"),
        ([mlp(), mlp], "function as member 1"),
        ([TWICE, mlp(), TWICE], "member 0 and as member 2"),
        ([mlp(), mlp().to("meta")], "member 1 on meta"),
    ],
)
def test_bad_members_are_named(networks: Any, said: str) -> None:
    with pytest.raises(caveat.CaveatError, match=said):
        ensemble(networks, output=caveat.Logits())


def test_bad_settings_are_named() -> None:
    with pytest.raises(caveat.CaveatError, match="backend"):
        ensemble(members(), output=caveat.Logits(), backend="replay")  # type: ignore[arg-type]
    with pytest.raises(caveat.CaveatError, match="output"):
        ensemble(members(), output="logits")  # type: ignore[arg-type]
    sampler = ensemble(members(), output=caveat.Logits())
    with pytest.raises(caveat.CaveatError, match="at least one row"):
        caveat.predict(sampler, X[:0])
    with pytest.raises(caveat.CaveatError, match="NaN"):
        caveat.predict(sampler, X * float("nan"))


def test_batches_of_a_loader_leave_labels_out() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    sampler = ensemble(members(), output=caveat.Logits())
    loader = DataLoader(TensorDataset(X, torch.zeros(6)), batch_size=4)
    parts = [pred.mean for pred in caveat.predict_batches(sampler, loader)]
    torch.testing.assert_close(torch.cat(parts), caveat.predict(sampler, X).mean)


def test_a_network_that_reads_values_is_not_recorded() -> None:
    """What NumPy makes of the input is unseen by torch: a recording would have built it in."""

    class ThroughNumpy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x) + float(x.detach().numpy().sum())

    networks = [ThroughNumpy() for _ in range(4)]
    sampler = ensemble(networks, output=caveat.Mean())
    for x in (X[:1], X[1:2]):
        torch.testing.assert_close(caveat.draws(sampler, x), looped(networks, x), rtol=1e-5, atol=1e-6)


READS: dict[str, Callable[[Tensor], float]] = {
    "numpy": lambda x: float(x.numpy().max()),
    "array": lambda x: float(np.asarray(x).max()),
    "dlpack": lambda x: float(np.from_dlpack(x).max()),
    "list": lambda x: max(x.flatten().tolist()),
    "text": lambda x: float(str(x.max()).strip("tensor()")),
    "item": lambda x: x.max().item(),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("of", ["the input", "a parameter"])
def test_a_network_that_decides_on_values_is_not_recorded(name: str, of: str) -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.level = nn.Linear(4, 2), nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            read = x if of == "the input" else self.level.detach()
            return self.first(x) * (-1 if READS[name](read) > 10 else 1)

    networks = [Deciding() for _ in range(4)]
    sampler = ensemble(networks, output=caveat.Mean())
    for x in (X, X + 20):
        torch.testing.assert_close(caveat.draws(sampler, x), looped(networks, x), rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            networks[1].level.fill_(20.0)


def test_a_network_alone_has_no_epistemic_uncertainty() -> None:
    network = mlp()
    pred = caveat.predict(deterministic(network, output=caveat.Logits()), X)
    torch.testing.assert_close(pred.mean, looped([network], X)[0].softmax(-1))
    assert float(caveat.mutual_information(pred).abs().max()) == 0
    assert float(pred.variance.abs().max()) == 0


@pytest.mark.parametrize("way", ["vectorized", "unrolled", "loop"])
def test_a_replaced_parameter_of_one_number_is_noticed(backend: Any) -> None:
    """Equality of tensors says yes for two numbers that are equal; the new one is another object all the same."""
    networks = members(outputs=1)
    sampler = ensemble(networks, output=caveat.Mean(), backend=backend)
    caveat.draws(sampler, X)
    networks[1][3].bias = nn.Parameter(networks[1][3].bias.detach().clone())
    caveat.draws(sampler, X)
    with torch.no_grad():
        networks[1][3].bias.add_(1.0)
    torch.testing.assert_close(caveat.draws(sampler, X), looped(networks, X), rtol=1e-5, atol=1e-6)


class Given(nn.Module):
    """Returns its input as it is, or a parameter."""

    def __init__(self, parameter: bool, number: float) -> None:
        super().__init__()
        self.value, self._parameter = nn.Parameter(torch.full((6, 4), number)), parameter

    def forward(self, x: Tensor) -> Tensor:
        return self.value if self._parameter else x


@pytest.mark.parametrize("parameter", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("n", [1, None])
def test_draws_are_memory_of_their_own(parameter: bool, count: int, n: int | None) -> None:
    networks, x = [Given(parameter, float(number)) for number in range(count)], X.clone()
    sampler = ensemble(networks, output=caveat.Mean())
    for _ in range(2):
        caveat.draws(sampler, x, n).fill_(7.0)
    assert torch.equal(x, X)
    assert all(bool((network.value == number).all()) for number, network in enumerate(networks))


@pytest.mark.parametrize("backend", [None, "loop"])
def test_members_of_the_same_weights_give_a_warning(backend: Any) -> None:
    """Else one checkpoint that was loaded twice would count twice, and copies of one network would vary in nothing."""
    networks = members()
    networks[3].load_state_dict(networks[1].state_dict())
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)
    with pytest.warns(UserWarning, match="Members 1 and 3 of this ensemble have the same weights"):
        assert caveat.predict(sampler, X).count == len(networks)


def test_members_that_share_all_but_the_last_layer_are_no_copies() -> None:
    networks = members()
    for network in networks[1:]:
        network[0] = networks[0][0]
    zeros = [nn.Sequential(nn.Linear(4, 3, bias=False)) for _ in range(3)]
    assert caveat.predict(ensemble(networks, output=caveat.Logits()), X).count == len(networks)
    assert caveat.predict(ensemble(zeros, output=caveat.Logits()), torch.zeros(2, 4)).count == 3  # equal values alone


@pytest.mark.parametrize("way", ["vectorized", "unrolled"])
@pytest.mark.parametrize("rows", [1, 6])
def test_a_program_leaves_inputs_and_earlier_draws_alone(rows: int, backend: Any) -> None:
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.ReLU(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3), nn.ReLU()) for _ in range(4)]
    sampler, x = ensemble(networks, output=caveat.Logits(), backend=backend), X[:rows].clone()
    first = caveat.draws(sampler, x)
    kept = first.clone()
    caveat.draws(sampler, x + 1).fill_(9.0)
    assert torch.equal(x, X[:rows])
    assert torch.equal(first, kept)
    torch.testing.assert_close(first, looped(networks, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 6])
def test_first_layers_are_one_product_and_follow_the_members(rows: int) -> None:
    networks = members()
    sampler = ensemble(networks, output=caveat.Logits(), backend="vectorized")
    caveat.draws(sampler, X[:rows])
    (prepared,) = sampler._members[0].prepared.values()
    names = [str(step.func) for step in prepared.programs[0].steps]
    assert names[0] == "aten.addmm.default"
    assert "aten.relu_.default" in names
    assert names.count("aten.baddbmm.default") == 1
    with torch.no_grad():
        networks[3][0].weight.mul_(-2.0)
        networks[1][0].bias.add_(0.5)
    torch.testing.assert_close(caveat.draws(sampler, X[:rows]), looped(networks, X[:rows]), rtol=1e-5, atol=1e-6)


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


@pytest.mark.parametrize("way", [None, "vectorized", "unrolled", "loop"])
def test_convolutions_with_batch_normalization(backend: Any) -> None:
    torch.manual_seed(0)
    networks, x = [convolutional() for _ in range(3)], torch.randn(5, 1, 8, 8)
    for network in networks:
        network.train()(torch.randn(20, 1, 8, 8))  # running statistics of their own
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)
    for rows in (5, 2, 5):
        torch.testing.assert_close(caveat.draws(sampler, x[:rows]), looped(networks, x[:rows]), rtol=1e-5, atol=1e-6)


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))


def pooled() -> nn.Module:
    """Pooling makes indices too, which nothing needs."""
    return nn.Sequential(nn.Linear(4, 128), nn.Unflatten(1, (1, 128)), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(64, 1))


@pytest.mark.parametrize("way", ["unrolled"])
@pytest.mark.parametrize("build", [dense, pooled])
def test_an_unrolled_program_lets_go_of_what_is_no_longer_needed(build: Any, backend: Any) -> None:
    """What is held of 64 numbers a row does not grow with the members: it is that of one, and the last thing unused."""
    torch.manual_seed(0)
    x, most = X[:1].expand(2_000, 4).contiguous(), list[int]()
    for count in (2, 8):
        sampler = ensemble([build() for _ in range(count)], output=caveat.Mean(), backend=backend)
        caveat.draws(sampler, x)
        (prepared,) = sampler._members[0].prepared.values()
        with Held(64 * len(x)) as held:
            prepared.programs[0].run(x)
        most.append(held.most)
    assert 1 <= most[0] == most[1] <= 4


class Held(TorchDispatchMode):
    """Counts the tensors of one size that live at once."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.living, self.most = numbers, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        for value in returned if isinstance(returned, tuple) else (returned,):
            if value.numel() == self.numbers:
                self.living += 1
                self.most = max(self.most, self.living)
                weakref.finalize(value, self.gone)
        return returned

    def gone(self) -> None:
        self.living -= 1


@pytest.mark.parametrize("way", ["vectorized", "unrolled"])
def test_a_program_that_runs_out_of_memory_gives_way_to_the_members(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = members()
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)
    caveat.draws(sampler, X)

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    (prepared,) = sampler._members[0].prepared.values()
    monkeypatch.setattr(prepared.programs[0], "run", full)
    for n in (None, 2):
        torch.testing.assert_close(caveat.draws(sampler, X, n), looped(networks, X)[:n], rtol=1e-5, atol=1e-6)


class Counting(nn.Module):
    """Notes how many rows each call gets, also of its copies."""

    calls: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 256)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        return self.first(x)


@pytest.mark.parametrize("way", [None, "loop"])
def test_the_first_call_tries_on_few_rows_and_splits_the_rest(backend: Any) -> None:
    """Trying on the whole batch would cost a first call several times what the members themselves take."""
    x, networks = torch.randn(20_000, 4), [Counting() for _ in range(3)]
    Counting.calls.clear()
    sampler = ensemble(networks, output=caveat.Mean(), backend=backend)
    values = caveat.draws(sampler, x)
    large = [rows for rows in Counting.calls if rows > 64]
    assert 0 < sum(large) <= 3 * len(x)
    assert max(large) * 256 * 4 <= 4 << 20
    torch.testing.assert_close(values, looped(networks, x), rtol=1e-5, atol=1e-6)


class Wide(nn.Module):
    """Tells rows relative to the last one, or scales them by the largest number of the batch."""

    def __init__(self, to_last: bool) -> None:
        super().__init__()
        self.first, self.last, self.to_last = nn.Linear(4, 512), nn.Linear(512, 2), to_last

    def forward(self, x: Tensor) -> Tensor:
        values = self.last(torch.relu(self.first(x if self.to_last else x / x.abs().max())))
        return values - values[-1:] if self.to_last else values


@pytest.mark.parametrize("to_last", [True, False])
def test_rows_that_meet_are_never_cut_into_pieces(to_last: bool) -> None:
    networks = [Wide(to_last).eval() for _ in range(2)]
    x = torch.randn(4000, 1, 4)
    x[-1] *= 50
    values = caveat.draws(ensemble(networks, output=caveat.Mean()), x)
    torch.testing.assert_close(values, looped(networks, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", [None, "loop"])
def test_pieces_of_rows_give_the_draws_of_the_whole(backend: Any) -> None:
    torch.manual_seed(0)
    networks, x = [nn.Sequential(nn.Linear(4, 512), nn.ReLU(), nn.Linear(512, 3)) for _ in range(3)], X.repeat(900, 1)
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)
    expected = looped(networks, x)
    for _ in range(2):
        torch.testing.assert_close(caveat.draws(sampler, x), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(caveat.draws(sampler, x, 2), expected[:2], rtol=1e-5, atol=1e-6)
    (prepared,) = sampler._members[0].prepared.values()
    assert len(prepared.pieces(((x,), {}))) == 3


class Recurrent(nn.Module):
    """Reads a sequence (B, T, 4)."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.reader = kind(4, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.reader(x)[0][:, -1])


@pytest.mark.parametrize(
    ("kind", "way"), [(nn.LSTM, "unrolled"), (nn.LSTM, None), (nn.GRU, None), (nn.RNN, None)]
)
def test_recurrent_members_give_what_they_give_alone(kind: type[nn.RNNBase], backend: Any) -> None:
    torch.manual_seed(0)
    networks = [Recurrent(kind).eval() for _ in range(4)]
    x = torch.randn(2, 5, 4)
    sampler = ensemble(networks, output=caveat.Logits(), backend=backend)

    def check() -> None:
        torch.testing.assert_close(caveat.draws(sampler, x), looped(networks, x), rtol=1e-5, atol=1e-6)

    check()
    with torch.no_grad():
        networks[1].reader.weight_hh_l1.mul_(2.0)
    check()
    networks[2].reader.weight_ih_l0 = nn.Parameter(torch.ones_like(networks[2].reader.weight_ih_l0))
    check()
    networks[0].load_state_dict({name: 2 * value for name, value in networks[3].state_dict().items()})
    check()


def test_what_members_write_on_their_input_stays_theirs() -> None:
    """At the first call too, which runs them in several ways to see which may be used."""

    class Shifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x.sub_(0.5)
            return self.layer(x)

    models = [Shifting().eval() for _ in range(3)]
    x = torch.ones(4, 3)
    truth = torch.stack([model.layer(x - 0.5) for model in models])
    for rows in (4, 1):
        torch.testing.assert_close(caveat.draws(ensemble(models, output=caveat.Mean()), x[:rows]), truth[:, :rows])
        assert torch.equal(x, torch.ones(4, 3))


def test_threads_that_come_first_together_record_programs_that_follow_the_members() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(6):
            first_calls_together()
    finally:
        sys.setswitchinterval(before)


def first_calls_together() -> None:
    networks = [mlp().eval() for _ in range(3)]
    sampler = ensemble(networks, output=caveat.Mean())
    batches = [torch.randn(rows, 4) for rows in (5, 3, 4, 700, 2, 1, 9, 8)]
    errors: list[BaseException] = []

    def draw(x: Tensor) -> None:
        try:
            torch.testing.assert_close(caveat.draws(sampler, x), looped(networks, x), rtol=1e-5, atol=1e-6)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=draw, args=(x,)) for x in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with torch.no_grad():
        for network in networks:
            network[0].weight.mul_(-2)
    for x in batches:
        draw(x)
    assert not errors
