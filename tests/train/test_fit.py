"""One network: what ``fit`` leaves as it was, what it draws, and what it says of bad input."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from caveat._intercept._random_states import TURN
from caveat._progress import ProgressBar
from caveat.errors import InvalidArgumentError, NotFiniteError
from caveat.layers import MeanAndLogVarianceHead
from caveat.losses import beta_nll, gaussian_nll
from caveat.train import Run, fit, fit_ensemble, fit_many
from caveat.train._noise import Noise
from caveat.train._run import batch_sizes, training_rows

from .networks import branching, distance, mlp, recurrent, regression, with_batch_norm

LOSS = nn.MSELoss()


@pytest.mark.parametrize("build", [mlp, with_batch_norm, recurrent, branching], ids=lambda build: build.__name__)
def test_the_result_follows_from_the_seed_alone_and_the_global_state_stays(build: Any) -> None:
    networks = [build(), build(), build()]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    states: list[Any] = []
    for seed, network in zip((0, 0, 1), networks, strict=True):
        torch.randn(3)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        states.append(fit(network, LOSS, regression(), epochs=3, seed=seed).history)
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
        assert torch.equal(before[0], after[0])
        assert before[1] == after[1]
        assert (before[2] == after[2]).all()
    assert distance(networks[0], networks[1]) == 0
    assert states[0] == states[1] != states[2]
    assert distance(networks[0], networks[2]) > 0


def test_early_stopping_restores_the_best_weights() -> None:
    x, y = regression()
    held_out = (x[90:], y[90:])
    found = fit(mlp(), LOSS, (x[:90], y[:90]), validation=held_out, epochs=300, patience=5, learning_rate=0.05)
    assert found.stopped_early
    assert found.epochs == found.best_epoch + 5
    assert float(LOSS(found.model(x[90:]), y[90:]).detach()) == pytest.approx(found.best_loss, rel=1e-12)
    assert not found.model.training


@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_another_loss_judges_the_held_out_rows(backend: Any) -> None:
    """Training goes on as it does without it, and the epoch whose likelihood is best is taken in place of the last."""
    x, y = regression()
    held_out = (x[90:], y[90:])

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 32), nn.Tanh(), MeanAndLogVarianceHead(32)).double()

    settings: dict[str, Any] = {"members": 2, "epochs": 80, "learning_rate": 0.02, "backend": backend}
    settings |= {"loss": beta_nll, "data": (x[:90], y[:90]), "validation": held_out}
    plain = fit_ensemble(build, **settings)
    judged = fit_ensemble(build, validation_loss=gaussian_nll, **settings)
    for before, after in zip(plain.fits, judged.fits, strict=True):
        together = min(before.epochs, after.epochs)
        assert before.history.training[:together] == pytest.approx(after.history.training[:together], rel=1e-9)
        value = gaussian_nll(after.model(x[90:]), y[90:])
        assert float(value.detach()) == pytest.approx(after.best_loss, rel=1e-9)
        assert after.best_loss == min(after.history.validation)
    assert [fit.best_epoch for fit in plain.fits] != [fit.best_epoch for fit in judged.fits]


def test_a_validation_loss_that_does_not_fit_is_named_before_training() -> None:
    steps: list[int] = []

    def counted(returned: Tensor, target: Tensor) -> Tensor:
        steps.append(torch.is_grad_enabled())
        return F.mse_loss(returned, target)

    with pytest.raises(InvalidArgumentError, match="one number"):
        fit(mlp(), counted, regression(), validation_loss=nn.MSELoss(reduction="none"))
    assert not any(steps)


def test_the_network_stays_the_users() -> None:
    """The same parameter objects, memory of their own, no gradients left; hooks and names untouched."""
    network = with_batch_norm()
    parameters, keys = list(network.parameters()), list(network.state_dict())
    found = fit(network, LOSS, regression(), epochs=2)
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))
    assert list(network.state_dict()) == keys
    assert all(p.grad is None and p.storage_offset() == 0 for p in network.parameters())
    assert len({p.untyped_storage().data_ptr() for p in network.parameters()}) == len(parameters)
    assert int(network[1].num_batches_tracked) == 2 * found.best_epoch  # 108 rows in batches of 64


def test_tied_weights_stay_tied() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 1)).double()
        network[2].weight = network[0].weight
        return network

    networks = fit_ensemble(build, LOSS, regression(), members=2, epochs=3, backend="vectorized")
    assert all(network[0].weight is network[2].weight for network in networks)
    alone = fit_ensemble(build, LOSS, regression(), members=2, epochs=3, backend="loop")
    assert max(distance(a, b) for a, b in zip(networks, alone, strict=True)) < 1e-10


def test_data_in_every_form_gives_the_same_network() -> None:
    x, y = regression()
    rows = TensorDataset(x, y)
    forms = [(x, y), (x.numpy(), y.numpy()), (x.float().double(), y), rows, DataLoader(rows, 7)]
    networks = [mlp() for _ in forms]
    for network in networks:
        network.load_state_dict(networks[0].state_dict())
    for network, data in zip(networks, forms, strict=True):
        fit(network, LOSS, data, epochs=2)
    assert [distance(networks[0], network) < 1e-6 for network in networks] == [True] * 5


def test_inputs_of_several_tensors() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 1).double()

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.layer(a) + b

    x, y = regression()
    for inputs in ((x, y), {"a": x, "b": y}):
        stacked = fit_ensemble(Two, LOSS, (inputs, y), members=2, epochs=2, backend="vectorized")
        alone = fit_ensemble(Two, LOSS, (inputs, y), members=2, epochs=2, backend="loop")
        assert max(distance(a, b) for a, b in zip(stacked, alone, strict=True)) < 1e-12


def test_adversarial_inputs_are_moved_where_the_loss_grows() -> None:
    """Of a linear network with weight w and residual r the direction is sign(r w), by 0.1 of each feature's range."""
    seen: list[Tensor] = []

    class Seen(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            if self.training and torch.is_grad_enabled():
                seen.append(input.detach().clone())
            return super().forward(input)

    x, y = regression(40)
    network = Seen(5, 1).double()
    weight, bias = network.weight.detach().clone(), network.bias.detach().clone()
    fit(network, LOSS, (x, y), validation=None, epochs=1, batch_size=40, adversarial=0.1)
    clean, moved = seen
    order = [int((x - row).abs().sum(1).argmin()) for row in clean]
    residual = clean @ weight.T + bias - y[order]
    reach = 0.1 * (x.amax(0) - x.amin(0))
    assert torch.allclose(moved - clean, reach * (residual * weight).sign())


def test_bootstrap_draws_rows_with_replacement() -> None:
    run = Run(mlp, regression(), bootstrap=True, seed=5)
    training, held_out = training_rows(run, 1000)
    assert len(training) == 900
    assert 0.6 < len(training.unique()) / 900 < 0.66  # 1 - 1/e = 0.632
    assert not set(training.tolist()) & set(held_out.tolist())


@given(st.integers(1, 500), st.integers(1, 100))
def test_batches_take_every_row_once_and_leave_none_alone(rows: int, batch_size: int) -> None:
    sizes = batch_sizes(rows, batch_size)
    assert sum(sizes) == rows
    assert max(sizes) <= batch_size + 1
    assert 1 not in sizes or batch_size == 1 or rows == 1


@given(st.floats(0.0, 0.95), st.integers(0, 2**40))
def test_masks_drop_at_their_rate_and_differ_between_steps_and_members(rate: float, seed: int) -> None:
    noise = Noise([seed, seed + 1], torch.device("cpu"), ahead=3)
    masks: list[Tensor] = []
    for step in (0, 1):
        noise.begin(step)
        masks += list(noise.masks(rate, 20001, scaled=False).clone())
    for mask in masks:
        assert float(mask.mean()) == pytest.approx(1 - rate, abs=6 * (rate * (1 - rate) / 20001) ** 0.5 + 1e-4)
    if rate > 0.05:
        # Independent masks agree in p^2 + (1 - p)^2 of the elements.
        for a, b in ((0, 1), (0, 2), (1, 3), (0, 3)):
            expected = rate**2 + (1 - rate) ** 2
            assert float((masks[a] == masks[b]).double().mean()) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_rate_of_one_drops_everything(scaled: bool) -> None:
    noise = Noise([1, 2], torch.device("cpu"))
    noise.begin(0)
    assert not bool(noise.masks(1.0, 1 << 18, scaled=scaled).any())


def test_masks_do_not_depend_on_how_many_are_made_ahead() -> None:
    few, many = (Noise([1, 2], torch.device("cpu"), ahead=ahead) for ahead in (1, 50))
    for step in (0, 1, 2, 60, 7):
        few.begin(step)
        many.begin(step)
        assert torch.equal(few.masks(0.3, 11, scaled=True), many.masks(0.3, 11, scaled=True))


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_targets_that_would_be_broadcast() -> None:
    x, y = regression()
    with pytest.raises(InvalidArgumentError, match="broadcast"):
        fit(mlp(), LOSS, (x, y[:, 0]))
    with pytest.raises(InvalidArgumentError, match="broadcast"):
        fit(mlp(), lambda returned, target: ((returned - target) ** 2).mean(), (x, y[:, 0]))


def test_targets_of_another_length_or_kind() -> None:
    x, y = regression()
    with pytest.raises(InvalidArgumentError, match="same number of rows"):
        fit(mlp(), LOSS, (x, y[:-1]))
    with pytest.raises(InvalidArgumentError, match="class numbers"):
        fit(mlp(), nn.CrossEntropyLoss(), (x, torch.zeros(120, 7)))
    with pytest.raises(InvalidArgumentError, match="must take a batch"):
        fit(mlp(), LOSS, (x[:, :4], y))
    with pytest.raises(InvalidArgumentError, match="pairs"):
        fit(mlp(), LOSS, x)


def test_missing_values_are_named_by_their_row() -> None:
    x, y = regression()
    x[17, 2] = torch.nan
    with pytest.raises(NotFiniteError, match="row 17"):
        fit(mlp(), LOSS, (x, y))
    x, y = regression()
    y[23] = torch.nan
    with pytest.raises(NotFiniteError, match="row 23 of the targets"):
        fit(mlp(), LOSS, (x, y))


def test_a_loss_that_leaves_missing_targets_out_may_have_them() -> None:
    x, y = regression()
    y[23] = torch.nan

    def masked(returned: Tensor, target: Tensor) -> Tensor:
        known = target.isfinite()
        return torch.where(known, returned - target.nan_to_num(), 0.0).square().sum() / known.sum().clamp(min=1)

    assert fit(mlp(), masked, (x, y), epochs=2).epochs == 2


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_split_without_rows(share: float) -> None:
    with pytest.raises(InvalidArgumentError, match="validation part must have rows"):
        fit(mlp(), LOSS, regression(), validation=share)
    with pytest.raises(InvalidArgumentError, match="at least one"):
        fit(mlp(), LOSS, regression(), validation=(torch.zeros(0, 5), torch.zeros(0, 1)))


@pytest.mark.parametrize("loss", [nn.MSELoss(reduction="none"), lambda returned, target: 1.0])
def test_a_loss_of_more_than_a_number(loss: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="one number"):
        fit(mlp(), loss, regression())


def test_a_loss_that_diverges_names_epoch_and_step() -> None:
    calls = 0

    def diverges(returned: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        return F.mse_loss(returned, target) * (torch.nan if calls == 6 else 1.0)

    with pytest.raises(NotFiniteError, match="nan at epoch 2, step 2 of 4"):
        fit(mlp(), diverges, regression(), validation=None, batch_size=30, epochs=3)
    with pytest.raises(NotFiniteError, match=r"Fix: learning_rate=0\.1, and"):  # and not 1e29
        fit(mlp(), F.mse_loss, regression(), learning_rate=1e30)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0}, {"batch_size": 2.5}, {"patience": 0}, {"learning_rate": 0}, {"learning_rate": float("nan")},
        {"weight_decay": -1}, {"seed": None}, {"validation": 1.5}, {"adversarial": -0.1}, {"validation": 20},
    ],
)  # fmt: skip
def test_settings_out_of_range(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(InvalidArgumentError, match=name):
        fit(mlp(), LOSS, regression(), **bad)


def test_networks_and_factories_mixed_up() -> None:
    with pytest.raises(InvalidArgumentError, match="fit_ensemble"):
        fit(mlp, LOSS, regression())  # pyright: ignore
    with pytest.raises(InvalidArgumentError, match="factory"):
        fit_ensemble(mlp(), LOSS, regression(), members=2)
    with pytest.raises(InvalidArgumentError, match="members"):
        fit_ensemble(mlp, LOSS, regression(), members=0)
    with pytest.raises(InvalidArgumentError, match="at least one"):
        fit_many([], LOSS)
    with pytest.raises(InvalidArgumentError, match="require a gradient"):
        fit(mlp().requires_grad_(False), LOSS, regression())
    with pytest.raises(InvalidArgumentError, match="one stack"):
        fit_ensemble(branching, LOSS, regression(), members=2, backend="vectorized")


@pytest.mark.parametrize("map", [None, map], ids=["vectorized", "map"])
def test_a_factory_that_gives_what_it_gave_before(map: Any) -> None:
    network, encoder = mlp(), nn.Linear(5, 4)
    before = network.state_dict()["0.weight"].clone()
    with pytest.raises(InvalidArgumentError, match="one network for members 0 and 1"):
        fit_ensemble(lambda: network, LOSS, regression(), members=3, map=map)
    assert torch.equal(network.state_dict()["0.weight"], before)
    with pytest.raises(InvalidArgumentError, match=r"members 0 and 1 share 0\.weight"):
        fit_ensemble(lambda: nn.Sequential(encoder, nn.Linear(4, 1)), LOSS, regression(), members=2, map=map)


class Experts(nn.Module):
    """Rows go to the expert of their highest score; one that has no row does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(5, 6)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.3), nn.Linear(4, 1)) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        chosen, result = self.score(x).argmax(-1), x.new_zeros(len(x), 1)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero().squeeze(1)
            if len(rows):
                result = result.index_add(0, rows, expert(x[rows]))
        return result


def test_members_that_run_other_parts_are_trained_one_by_one() -> None:
    settings: dict[str, Any] = {"members": 4, "epochs": 20, "batch_size": 3, "validation": None}
    assert fit_ensemble(Experts, LOSS, regression(), **settings).backend == "loop"
    with pytest.raises(InvalidArgumentError, match="different numbers of places"):
        fit_ensemble(Experts, LOSS, regression(), backend="vectorized", **settings)


def test_members_may_share_what_is_not_trained() -> None:
    encoder = nn.Linear(5, 4).requires_grad_(False)
    before = encoder.weight.clone()
    members = fit_ensemble(lambda: nn.Sequential(encoder, nn.Linear(4, 1)), LOSS, regression(), members=2, epochs=2)
    assert torch.equal(encoder.weight, before)
    assert not torch.equal(members[0][1].weight, members[1][1].weight)


def test_a_network_that_failed_is_left_whole() -> None:
    network = mlp()

    def fails(returned: Tensor, target: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise KeyboardInterrupt
        return F.mse_loss(returned, target)

    with pytest.raises(KeyboardInterrupt):
        fit(network, fails, regression())
    assert all(p.grad is None and p.storage_offset() == 0 for p in network.parameters())


class Screen:
    def __init__(self, *, terminal: bool) -> None:
        self.text, self.terminal = "", terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_progress_is_for_terminals_only(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fit(mlp(), LOSS, regression(), epochs=2)
    assert capfd.readouterr() == ("", "")
    screen, log = Screen(terminal=True), Screen(terminal=False)
    for stream in (screen, log):
        ProgressBar("epochs", stream=stream).show(5, 10, "loss 1", last=True)  # pyright: ignore
    assert "5/10 epochs, at most 0 s left  loss 1\n" in screen.text
    assert log.text == ""


def test_no_thread_seeds_the_states_that_a_network_draws_from() -> None:
    free: list[bool] = []

    def look() -> None:
        free.append(TURN.acquire(blocking=False))
        if free[-1]:
            TURN.release()

    def look_from_another_thread() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            look_from_another_thread()
            self.layer = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            look_from_another_thread()
            return self.layer(x + np.random.normal())  # noqa: NPY002  # as users do

    x = torch.randn(40, 3)
    fit_ensemble(Noisy, LOSS, (x, x.sum(1, keepdim=True)), members=1, epochs=2)
    assert len(free) > 4
    assert not any(free)
