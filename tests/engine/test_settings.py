"""Precisions, modes of the model, compiled models, and threads: the same draws, and no one disturbed."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 8), nn.Dropout(0.2),
        nn.Linear(8, 2),
    ).eval()  # fmt: skip


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


X, N = numbers(5, 3), 40


@pytest.mark.parametrize("backend", ["vectorized", "loop"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
def test_a_model_in_another_precision_draws_the_same_functions(
    dtype: torch.dtype, bound: float, backend: str
) -> None:
    narrow = caveat.draws(caveat.mc_dropout(network(), output=caveat.Mean()), X, N)
    sampler = caveat.mc_dropout(network().to(dtype), output=caveat.Mean(), backend=backend)
    values = caveat.draws(sampler, X.to(dtype), N)
    assert values.dtype == dtype
    assert float((values.float() - narrow).abs().max()) < bound * float(narrow.abs().max())
    pred = caveat.predict(sampler, X.to(dtype), N)
    assert pred.mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_autocast(backend: str) -> None:
    sampler = caveat.mc_dropout(network(), output=caveat.Logits(), backend=backend)
    plain = caveat.draws(sampler, X, N)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = caveat.draws(sampler, X, N)
        assert torch.is_autocast_enabled("cpu")
    assert values.dtype == torch.bfloat16
    assert float((values.float() - plain).abs().max()) < 0.1 * float(plain.abs().max())
    assert torch.equal(caveat.draws(sampler, X, N), plain)


def test_train_mode_and_eval_mode_draw_the_same() -> None:
    training, evaluating = network().train(), network()
    a, b = (caveat.draws(caveat.mc_dropout(m, output=caveat.Mean()), X, N) for m in (training, evaluating))
    assert torch.equal(a, b)
    assert all(module.training for module in training.modules())
    assert not any(module.training for module in evaluating.modules())
    assert int(training[1].num_batches_tracked) == 0


def test_a_compiled_model_is_drawn_from_as_the_network_inside_it() -> None:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(model, backend="eager")
    values = caveat.draws(caveat.mc_dropout(compiled, output=caveat.Mean()), X, N)
    assert torch.equal(values, caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), X, N))
    assert set(compiled.state_dict()) == {f"_orig_mod.{key}" for key in model.state_dict()}


def test_a_sampler_follows_the_model_that_it_was_made_of() -> None:
    """Nothing of the weights, of the rates or of the precision is remembered from an earlier call."""
    model = network()
    sampler = caveat.mc_dropout(model, output=caveat.Mean())
    caveat.draws(sampler, X, N)
    with torch.no_grad():
        model[6].bias.add_(1.0)
    model[3].p = 0.9
    fresh = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), X, N)
    assert torch.equal(caveat.draws(sampler, X, N), fresh)
    model.double()
    assert caveat.draws(sampler, X.double(), N).dtype == torch.float64


def together(*tasks: Callable[[], None]) -> None:
    """Run the tasks at the same time; the first error in any comes out."""
    errors = list[BaseException]()
    gate = threading.Barrier(len(tasks))

    def run(task: Callable[[], None]) -> None:
        gate.wait()
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Configured(nn.Module):
    """Its code asks containers what to do, and hides a dropout behind the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(3, 16), nn.Dropout(0.3), nn.Linear(16, 2)
        self.settings: dict[str, Any] = {"hidden": [0.0]}
        self.options = SimpleNamespace(more=())
        self.register_buffer("center", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.first(x).relu())
        rates = [*self.settings["hidden"], *self.options.more, 0.5 if self.center is None else 0.0]
        for rate in rates:
            if rate and self.training:
                h = torch.nn.functional.dropout(h, rate)
        return self.last(h)


RECONFIGURED: dict[str, Callable[[Configured], Any]] = {
    "a list in a dict": lambda model: model.settings["hidden"].__setitem__(0, 0.6),
    "a namespace": lambda model: setattr(model.options, "more", (0.6,)),
    "a buffer that is none": lambda model: setattr(model, "center", None),
}


@pytest.mark.parametrize("change", RECONFIGURED)
def test_settings_in_containers_are_followed(change: str) -> None:
    torch.manual_seed(0)
    model = Configured().eval()
    sampler = caveat.mc_dropout(model, output=caveat.Mean())
    before = caveat.draws(sampler, X, N)
    RECONFIGURED[change](model)
    after = caveat.draws(sampler, X, N)
    fresh = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), X, N)
    torch.testing.assert_close(after, fresh)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_two_threads_drawing_and_a_third_training_see_nothing_of_each_other(backend: str) -> None:
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2)).train()
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend=backend)
    expected = {seed: caveat.draws(sampler, X, N, seed=seed) for seed in (1, 2)}
    flags = list[bool]()
    shares = list[float]()

    def draw(seed: int) -> None:
        for _ in range(15):
            assert torch.equal(caveat.draws(sampler, X, N, seed=seed), expected[seed])

    def train() -> None:
        with torch.no_grad():
            for _ in range(60):
                flags.append(all(module.training for module in model.modules()))
                shares.append(float((model[2](torch.ones(1000)) == 0).double().mean()))

    together(lambda: draw(1), lambda: draw(2), train)
    assert all(flags)
    assert all(0.3 < share < 0.7 for share in shares)  # plain dropout, from torch's own source
    assert "training" not in vars(nn.Module)


def test_a_thread_may_change_the_mode_of_the_model_meanwhile() -> None:
    model = network()
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend="loop", chunk=1)
    with sampler.bind(X, 0) as stream, torch.no_grad():
        pieces = stream(range(4))
        first = next(pieces).clone()
        toggling = threading.Thread(target=model.train)
        toggling.start()
        toggling.join()
        rest = [piece.clone() for piece in pieces]
    expected = caveat.draws(caveat.mc_dropout(network(), output=caveat.Mean()), X, 4)
    torch.testing.assert_close(torch.cat([first, *rest]), expected)


class Restores:
    """Draws in the middle of which someone else does something."""

    def __init__(self, act: Callable[[nn.Module], Any]) -> None:
        self.model, self.act = network(), act

    def run(self) -> Any:
        sampler = caveat.mc_dropout(self.model, output=caveat.Mean(), backend="loop", chunk=1)
        caveat.draws(sampler, X, 2)  # the plan is made
        with sampler.bind(X, 0) as stream, torch.no_grad():
            next(stream(range(2)))
            return self.act(self.model)


def test_a_mode_that_someone_else_sets_meanwhile_stays_set() -> None:
    case = Restores(lambda model: model.train())
    case.run()
    assert case.model.training


def test_random_numbers_that_someone_else_draws_meanwhile_are_not_drawn_again() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = Restores(lambda model: torch.rand(3)).run()
        assert not torch.equal(drawn, torch.rand(3))


def test_a_network_that_asks_python_for_random_numbers_leaves_them_alone() -> None:
    sampler, before = caveat.mc_dropout(Rolls(), output=caveat.Mean()), random.getstate()
    caveat.draws(sampler, X, 5)
    assert random.getstate() == before


def test_a_network_that_asks_python_for_random_numbers_depends_on_the_seed_alone() -> None:
    sampler = caveat.mc_dropout(Rolls(), output=caveat.Mean())
    first = caveat.draws(sampler, X, 5)
    before = random.getstate()
    random.seed(99)
    again = caveat.draws(sampler, X, 5)
    random.setstate(before)
    assert torch.equal(first, again)


class Rolls(nn.Module):
    """Scales its output by a number from Python's own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * (1 + random.random())
