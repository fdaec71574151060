"""Draws of SWAG, MC batch normalization and augmentation follow from their numbers, or the sampler is refused."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import caveat
from caveat import samplers

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
ROWS = 3 * torch.randn(64, 4, generator=torch.Generator().manual_seed(2)) + 1


def network(normalize: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8) if normalize else nn.Tanh(), nn.Linear(8, 2))


def moved(model: nn.Module, updates: int = 4) -> samplers.SwagMoments:
    moments = samplers.SwagMoments(model, rank=3)
    for _ in range(updates):
        nn.init.normal_(model[0].weight)  # type: ignore[index]
        moments.update()
    return moments


def swag(normalize: bool) -> Any:
    model = network(normalize)
    return samplers.swag(model, moved(model), output=caveat.Mean(), data=ROWS if normalize else None)


def mc_batch_norm() -> Any:
    return samplers.mc_batch_norm(network(), ROWS, output=caveat.Mean(), batch_size=16)


# -- SWAG and snapshots ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [False, True])
def test_swag_keeps_its_draws_while_training_goes_on(normalize: bool) -> None:
    model = network(normalize)
    moments = moved(model)
    sampler = samplers.swag(model, moments, output=caveat.Mean(), data=ROWS if normalize else None)
    before = caveat.draws(sampler, X, 3)
    nn.init.constant_(model[0].weight, 9.0)
    moments.update()
    assert torch.equal(caveat.draws(sampler, X, 3), before)
    assert moments.count == 5


@pytest.mark.parametrize("nested", [False, True])
def test_state_dicts_that_follow_their_network_are_refused(nested: bool) -> None:
    """All of them are the last: the spread would be zero."""
    model, states = network(False), []
    for _ in range(3):
        nn.init.normal_(model[0].weight)
        states.append({"state_dict": model.state_dict()} if nested else model.state_dict())
    with pytest.raises(caveat.CaveatError, match="share their tensors"):
        samplers.snapshots(states, model=model, output=caveat.Mean())
    with pytest.raises(caveat.CaveatError, match="the same weights"):
        samplers.swag(model, states, output=caveat.Mean())


def test_snapshots_may_share_what_is_frozen() -> None:
    model = network(False)
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = [{**frozen, "0.weight": torch.full((8, 4), float(number))} for number in range(3)]
    assert samplers.snapshots(states, model=model, output=caveat.Mean()).size == 3


def test_swag_of_complex_weights_is_refused() -> None:
    model = nn.Linear(2, 2)
    model.register_parameter("wave", nn.Parameter(torch.zeros(2, dtype=torch.complex64)))
    with pytest.raises(caveat.CaveatError, match="complex weights: wave"):
        samplers.SwagMoments(model)


def test_swag_refuses_statistics_of_instance_normalization() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 3, 1), nn.InstanceNorm1d(3, track_running_stats=True))
    with pytest.raises(caveat.CaveatError, match="track_running_stats"):
        samplers.swag(model, moved(model), output=caveat.Mean())


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_networks_with_computed_weights_are_copied() -> None:
    """The older weight_norm keeps the weight that its last pass computed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 2)))
    model(X)
    states = [{k: v + step for k, v in copy.deepcopy(model.state_dict()).items()} for step in range(3)]
    assert caveat.draws(samplers.snapshots(states, model=model, output=caveat.Mean()), X).shape == (3, 6, 2)
    sampler = samplers.swag(model, states, output=caveat.Mean())
    weights = sampler.weights(0, 1)
    direction = weights["0.weight_v"]
    weight = direction * weights["0.weight_g"] / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(caveat.draws(sampler, X, 2)[1], X @ weight.mT + weights["0.bias"])


@pytest.mark.parametrize("make", [mc_batch_norm, lambda: swag(True), lambda: swag(False)])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_a_copied_sampler_draws_the_same(make: Callable[[], Any], copied: Callable[[Any], Any]) -> None:
    sampler = make()
    before = caveat.draws(sampler, X, 3)  # what is held by then must not be taken along by address
    assert torch.equal(caveat.draws(copied(sampler), X, 3), before)


# -- rows of the training data -----------------------------------------------------------------------------------------


class Augmenting(Dataset[Any]):
    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        noise = torch.randn(4) + torch.from_numpy(np.random.randn(4)).float() + random.random()  # noqa: NPY002
        return ROWS[row] + noise, row


@pytest.mark.parametrize("kind", ["mc_batch_norm", "swag"])
def test_data_that_augments_itself_gives_the_same_draws(kind: str) -> None:
    def drawn(seed: int) -> Tensor:
        model, moments = network(), moved(network())
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        state = torch.get_rng_state(), random.getstate()
        sampler: Any = samplers.swag(model, moments, output=caveat.Mean(), data=Augmenting())
        if kind == "mc_batch_norm":
            sampler = samplers.mc_batch_norm(model, Augmenting(), output=caveat.Mean(), batch_size=16)
        found = caveat.draws(sampler, X, 3)
        assert torch.equal(torch.get_rng_state(), state[0])
        assert random.getstate() == state[1]
        return found

    assert torch.equal(drawn(3), drawn(5))


def test_rows_of_data_that_are_written_on_are_noticed() -> None:
    data = ROWS.clone()
    sampler = samplers.mc_batch_norm(network(), data, output=caveat.Mean(), batch_size=16)
    caveat.draws(sampler, X, 3)
    data.mul_(2).add_(1)
    fresh = samplers.mc_batch_norm(network(), data, output=caveat.Mean(), batch_size=16)
    assert torch.equal(caveat.draws(sampler, X, 3), caveat.draws(fresh, X, 3))


class Direct(nn.Module):
    """``torch.batch_norm``, as F.batch_norm calls it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        norm, x = self.norm, self.first(x)
        mean, variance = norm.running_mean, norm.running_var
        return self.last(torch.batch_norm(x, norm.weight, norm.bias, mean, variance, norm.training, 0.1, 1e-5, True))


def test_batch_normalization_of_torch_itself_is_seen() -> None:
    sampler = samplers.mc_batch_norm(Direct(), ROWS, output=caveat.Mean(), batch_size=16)
    torch.testing.assert_close(caveat.draws(sampler, X, 5), caveat.draws(mc_batch_norm_like(Direct()), X, 5))


def mc_batch_norm_like(direct: Direct) -> Any:
    plain = nn.Sequential(direct.first, direct.norm, direct.last)
    return samplers.mc_batch_norm(plain, ROWS, output=caveat.Mean(), batch_size=16)


# -- test-time augmentation --------------------------------------------------------------------------------------------


def augmented(augment: Any) -> Any:
    return samplers.test_time_augmentation(network(False), augment, output=caveat.Mean())


def test_augmentations_with_random_numbers_of_their_own_are_refused() -> None:
    """Draw i would be another at the next call."""
    arrays, tensors, calls = np.random.default_rng(0), torch.Generator().manual_seed(0), []

    def counting(x: Tensor, generator: torch.Generator) -> Tensor:
        calls.append(1)
        return x + len(calls)

    for augment in (
        counting,
        lambda x, g: x + torch.from_numpy(arrays.standard_normal(4)).float(),
        lambda x, g: x + torch.randn(4, generator=tensors),
    ):
        with pytest.raises(caveat.CaveatError, match="two results for one draw"):
            caveat.predict(augmented(augment), X, 3)


def test_augmentations_that_mix_rows_are_refused() -> None:
    """Row by row, a row mixed with itself is itself, and one less the batch's mean is zero."""

    def mixup(x: Tensor, generator: torch.Generator) -> Tensor:
        return 0.5 * x + 0.5 * x[torch.randperm(len(x), generator=generator)]

    def centered(x: Tensor, generator: torch.Generator) -> Tensor:
        return (x - x.mean(0)) * torch.rand((), generator=generator)

    for augment in (mixup, centered):
        with pytest.raises(caveat.CaveatError, match="each row by itself"):
            caveat.predict(augmented(augment), X, 3)


def test_augmentations_that_never_differ_are_refused() -> None:
    for augment in (lambda x, g: x, lambda x, g: x.flip(-1)):
        with pytest.raises(caveat.NothingRandomError, match="draws no random number"):
            caveat.predict(augmented(augment), X, 3)


def test_augmentations_that_seldom_change_anything_are_taken() -> None:
    def rare(x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.where(torch.rand(len(x), 1, generator=generator) < 0.002, -x, x)

    sampler, x = augmented(rare), X.clone()
    x[0, 0] = float("nan")
    assert caveat.draws(sampler, x[1:], 3).isfinite().all()
    with pytest.raises(caveat.errors.NotFiniteError):
        caveat.predict(sampler, x, 3)
