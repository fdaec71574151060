"""The same members however they are trained: as one stack, one after another, by ``fit``, or by a map."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caveat.errors import CaveatError, InvalidArgumentError
from caveat.train import Run, fit, fit_ensemble, fit_many
from caveat.train._seeding import member_seed

from .networks import branching, convolutional, distance, mlp, noisy, recurrent, regression, with_batch_norm

LOSS = nn.MSELoss()
SETTINGS: dict[str, Any] = {"epochs": 8, "batch_size": 32, "patience": 3, "learning_rate": 0.01}


def singly(build: Callable[[], nn.Module], member: int, **settings: Any) -> nn.Module:
    """The member that a user gets with ``fit`` and the member's seed."""
    seed = member_seed(7, member)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build()
    return fit(network, LOSS, regression(), seed=seed, **{**SETTINGS, **settings}).model


@pytest.mark.parametrize("build", [mlp, with_batch_norm, convolutional, noisy], ids=lambda build: build.__name__)
@pytest.mark.parametrize(
    "settings",
    [{}, {"bootstrap": True}, {"adversarial": 0.02}, {"validation": None}],
    ids=lambda settings: "".join(settings) or "plain",
)
def test_a_stack_gives_the_members_of_single_runs(build: Callable[[], nn.Module], settings: dict[str, Any]) -> None:
    chosen = {**SETTINGS, **settings, "backend": "vectorized"}
    networks = fit_ensemble(build, LOSS, regression(), members=3, seed=7, **chosen)
    assert networks.backend == "vectorized"
    assert max(distance(network, singly(build, m, **settings)) for m, network in enumerate(networks)) < 1e-9
    assert distance(networks[0], networks[1]) > 1e-3


@pytest.mark.parametrize("build", [branching, recurrent], ids=lambda build: build.__name__)
def test_what_does_not_stack_is_trained_one_after_another_with_the_same_result(build: Callable[[], nn.Module]) -> None:
    networks = fit_ensemble(build, LOSS, regression(), members=2, seed=7, **SETTINGS)
    assert networks.backend == "loop"
    assert max(distance(network, singly(build, m)) for m, network in enumerate(networks)) == 0


class Counting(nn.Module):
    """A branch that is switched on after ten training passes, counted in an attribute, an object or a tensor."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.first, self.last, self.late = (nn.Linear(*sizes).double() for sizes in ((5, 8), (8, 1), (8, 1)))
        self.where, self.passes, self.kept, self.tally = where, 0, SimpleNamespace(passes=0), torch.zeros(())

    def count(self) -> int:
        if self.training:
            self.passes += self.where == "attribute"
            self.kept.passes += self.where == "object"
            self.tally += self.where == "tensor"
        return max(self.passes, self.kept.passes, int(self.tally))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h) + self.late(h**2) if self.count() > 10 else self.last(h)


@pytest.mark.parametrize("where", ["attribute", "object", "tensor"])
def test_each_member_counts_its_own_passes(where: str) -> None:
    settings = {**SETTINGS, "patience": None}
    build = partial(Counting, where)
    networks = fit_ensemble(build, LOSS, regression(), members=2, seed=7, **settings)
    assert networks.backend == "loop"
    assert max(distance(network, singly(build, m, **settings)) for m, network in enumerate(networks)) == 0
    with pytest.raises(InvalidArgumentError, match="a training pass changes"):
        fit_ensemble(build, LOSS, regression(), members=2, backend="vectorized", **settings)


@pytest.mark.parametrize("where", ["attribute", "object", "tensor"])
def test_the_look_ahead_is_no_step(where: str) -> None:
    network = Counting(where)
    fit(network, LOSS, regression(120), epochs=2, batch_size=54, patience=None)
    assert network.count() == 4


def test_layers_that_the_first_pass_makes_are_trained() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first: Any = nn.Linear(5, 4).double()
            self.last: Any = None

        def forward(self, x: Tensor) -> Tensor:
            if self.last is None:
                self.last = nn.Linear(4, 1).double()
                self.made = self.last.weight.detach().clone()
            return self.last(self.first(x))

    network = Late()
    fit(network, LOSS, regression(), epochs=2)
    assert not torch.equal(network.last.weight, network.made)


def test_members_stop_each_on_its_own_with_their_best_weights() -> None:
    settings = {**SETTINGS, "epochs": 60, "patience": 2, "learning_rate": 0.05}
    ensemble = fit_ensemble(mlp, LOSS, regression(), members=5, seed=7, backend="vectorized", **settings)
    assert len({found.epochs for found in ensemble.fits}) > 1
    for member, found in enumerate(ensemble.fits):
        assert found.history.validation[found.best_epoch - 1] == min(found.history.validation)
        assert found.stopped_early == (found.epochs - found.best_epoch == 2)
        assert distance(found.model, singly(mlp, member, **settings)) < 1e-7


def test_a_map_over_processes_gives_the_same_members() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
        mapped = fit_ensemble(mlp, LOSS, regression(), members=2, seed=7, map=executor.map, **SETTINGS)
    assert max(distance(network, singly(mlp, m)) for m, network in enumerate(mapped)) < 1e-12
    assert [len(found.history.validation) for found in mapped.fits] == [found.epochs for found in mapped.fits]


@pytest.mark.filterwarnings("error")
def test_a_map_may_return_arrays_that_are_read_only() -> None:
    def mapped(function: Any, tasks: Any) -> Any:
        for found, arrays in map(function, tasks):
            for array in arrays:
                array.flags.writeable = False  # as those in memory that processes share
            yield found, arrays

    ensemble = fit_ensemble(mlp, LOSS, regression(), members=1, seed=7, map=mapped, **SETTINGS)
    assert distance(ensemble[0], singly(mlp, 0)) < 1e-12


def test_a_grid_of_rates_and_unequal_splits_gives_the_networks_of_single_runs() -> None:
    x, y = regression()
    runs = [
        Run(
            partial(mlp, rate), (x[:rows], y[:rows]), seed=rows, epochs=epochs, batch_size=32, learning_rate=speed,
            weight_decay=speed,
        )
        for rows in (80, 81, 97)
        for rate, epochs, speed in ((0.0, 3, 0.01), (0.05, 5, 0.02), (0.4, 4, 0.03))
    ]  # fmt: skip
    fits = fit_many(runs, LOSS, backend="vectorized")
    assert [found.epochs for found in fits] == [run.epochs for run in runs]
    alone = [fit_many([run], LOSS)[0] for run in runs]
    assert max(distance(a.model, b.model) for a, b in zip(fits, alone, strict=True)) < 1e-9
    assert [found.model[2].p for found in fits] == [0.0, 0.05, 0.4] * 3


def test_runs_of_several_architectures_come_back_in_their_order() -> None:
    runs = [Run(build, regression(), seed=seed, epochs=2) for seed, build in enumerate([mlp, with_batch_norm, mlp])]
    fits = fit_many(runs, LOSS)
    assert [type(found.model[1]) for found in fits] == [nn.ReLU, nn.BatchNorm1d, nn.ReLU]
    assert [found.seed for found in fits] == [0, 1, 2]


def test_adamw_is_torchs() -> None:
    """Full batches, no dropout, no validation: torch's own optimizer in a plain loop ends in the same weights."""
    x, y = regression()
    ours, theirs = (mlp(0.0) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    fit(ours, LOSS, (x, y), validation=None, epochs=50, batch_size=len(x), learning_rate=0.01, weight_decay=0.1)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        LOSS(theirs(x), y).backward()
        optimizer.step()
    assert distance(ours, theirs) < 1e-9


def test_a_penalty_and_a_buffer_of_each_member() -> None:
    def build(seed: int) -> nn.Module:
        network = mlp()
        network.register_buffer("strength", torch.tensor(0.1 if seed % 2 else 10.0, dtype=torch.float64))
        return network

    def penalty(network: Any) -> torch.Tensor:
        return network.strength * network[0].weight.square().sum()

    seeds = [2, 3]
    runs = [Run(build, regression(), seed=seed, epochs=10, learning_rate=0.01) for seed in seeds]
    strong, weak = fit_many(runs, LOSS, penalty=penalty, backend="vectorized")
    assert strong.model[0].weight.norm() < 0.7 * weak.model[0].weight.norm()
    alone = fit_many(runs[:1], LOSS, penalty=penalty)[0]
    assert distance(strong.model, alone.model) < 1e-9


@pytest.mark.parametrize("settings", [{}, {"reduction": "sum"}, {"ignore_index": 1}])
def test_cross_entropy_in_a_stack_is_torchs_own(settings: dict[str, Any]) -> None:
    """vmap has no rule for torch's own: it would warn, which is an error here, and take member by member."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (40,), generator=generator)

    def build() -> nn.Module:
        return nn.Linear(3, 3, dtype=torch.float64)

    def loss(scores: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores, target, **settings)

    one, other = (
        fit_ensemble(build, loss, (x, y), members=2, epochs=3, batch_size=10, backend=choice, progress=False)
        for choice in ("vectorized", "loop")
    )
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=1e-9, atol=1e-9)


def test_a_bias_before_batch_normalization_is_named() -> None:
    """Its gradient is rounding, of which AdamW makes steps: members in a stack would not be those of single runs."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 1))

    data = torch.randn(64, 5), torch.randn(64, 1)
    with pytest.raises(CaveatError, match=r"gradient of 0\.bias .* nothing but rounding: .*bias=False"):
        fit_ensemble(build, nn.functional.mse_loss, data, members=3, epochs=2, backend="vectorized", progress=False)


def test_a_network_for_one_size_of_batch_only_is_trained() -> None:
    """The first look takes fewer rows than a batch, and has to put up with networks that do not."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.reshape(32, 5))

    found = fit(Fixed(), nn.MSELoss(), (torch.randn(64, 5), torch.randn(64, 1)), epochs=2, batch_size=32,
                validation=None, progress=False)  # fmt: skip
    assert len(found.history.training) == 2
