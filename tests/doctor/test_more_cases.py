"""The doctor on further networks and recipes: what people write, and what only looks like a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.testing import fingerprint

from . import more_networks as networks
from . import recipes
from .networks import build

RECIPES: list[tuple[Callable[..., Any], set[str]]] = [
    (recipes.in_inference_mode, set()),
    (recipes.hooks, set()),
    (recipes.in_small_batches, set()),
    (recipes.vmap_different, set()),
    (recipes.traced, set()),
    (recipes.one_by_one, set()),
    (recipes.list_of_returns, set()),
    (recipes.own_generator, set()),
    (recipes.in_threads, set()),
    (recipes.patched_function, set()),
    (recipes.another_network_with_the_weights, set()),
    (recipes.vmap_same, {"masks_repeated_over_draws"}),
    (recipes.cached_masks, {"masks_repeated_over_draws"}),
    (recipes.one_mask_for_all_rows_of_one_layer, {"masks_repeated_over_rows"}),
    (recipes.hooks_that_stay, {"hooks_left"}),
    (recipes.drop_twice, {"site_fires_twice"}),
    (recipes.every_other_pass, {"site_silent"}),
    (recipes.last_module_only, {"site_silent"}),
    (recipes.another_rate, {"rate_changed", "attributes_changed"}),
    (recipes.halved, {"mean_differs", "spread_differs"}),
    (recipes.averaged_within, {"spread_differs"}),
    (recipes.noisy_weights, {"random_outside_the_network"}),
    (recipes.seed_by_the_pass, {"global_seed_set"}),
    (recipes.gradients_left_off, {"process_state_changed"}),
    (recipes.in_double, {"parameters_changed"}),
]


def switch(model: nn.Module, x: Any) -> Tensor:
    return passes_of(model, x, recipes.switch)


def train(model: nn.Module, x: Any) -> Tensor:
    return passes_of(model, x, nn.Module.train)


def stay(model: nn.Module, x: Any) -> Tensor:
    return passes_of(model, x, nn.Module.eval)


def switch_and_squash(model: nn.Module, x: Any) -> Tensor:
    return switch(model, x).softmax(-1)


def switch_and_bend(model: nn.Module, x: Any) -> Tensor:
    return switch(model, x).sigmoid()


def squash_maps(model: nn.Module, x: Any) -> Tensor:
    return switch(model, x).softmax(2)


def with_caveat(model: nn.Module, x: Any) -> Any:
    return caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(select=main)), x, n=24)


def passes_of(model: nn.Module, x: Any, prepare: Callable[[nn.Module], Any]) -> Tensor:
    prepare(model)
    with torch.no_grad():
        out = torch.stack([main(model(x)) for _ in range(24)])
    model.eval()
    return out


def main(returned: Any) -> Tensor:
    return returned["out"] if isinstance(returned, dict) else returned


NETWORKS: list[tuple[Any, Callable[..., Any], set[str]]] = [
    (networks.CalledWithTraining, recipes.call_with_training, set()),
    (networks.CalledWithTraining, train, {"site_silent"}),
    (networks.DictOfMaps, switch, set()),
    (networks.DictOfMaps, squash_maps, set()),
    (networks.DictOfMaps, with_caveat, set()),
    (networks.DictOfMaps, train, {"auxiliary_heads_on"}),
    (networks.Words, train, set()),
    (networks.Words, with_caveat, set()),
    (networks.Words, switch, {"site_silent"}),
    (networks.SequenceFirst, train, set()),
    (networks.SequenceFirst, switch, {"site_silent"}),
    (networks.by_instance, train, set()),
    (networks.NormByHand, switch, set()),
    (networks.NormByHand, train, {"buffers_changed", "rows_depend_on_each_other"}),
    (networks.TrainingNoise, switch, set()),
    (networks.TrainingNoise, train, {"training_noise_on"}),
    (networks.AlwaysOn, train, set()),
    (networks.AlwaysOn, with_caveat, set()),
    (networks.AlwaysOn, stay, {"site_silent"}),
    (networks.SharedModule, switch, set()),
    (networks.DroppedWeights, train, set()),
    (networks.DroppedWeights, switch, {"site_silent"}),
    (networks.MixesRows, switch, set()),
    (networks.MixesRows, stay, {"site_silent"}),
    (networks.spectral, switch, set()),
    (networks.spectral, train, {"buffers_changed"}),
    (networks.Counts, switch, set()),
    (networks.tiny, switch, set()),
    (networks.rarely, switch, set()),
    (networks.rarely, with_caveat, set()),
    (networks.saturated, switch_and_squash, set()),
    (networks.saturated, switch_and_bend, set()),
    (networks.with_rate_zero, switch, set()),
    (networks.nearly_all, switch, {"rate_too_high"}),
]


def name_of(value: Any) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("recipe", "faults"), RECIPES, ids=name_of)
def test_recipes_on_a_perceptron(recipe: Any, faults: set[str]) -> None:
    model, x = build("perceptron")
    before = fingerprint([model], x)
    found = caveat.doctor(model, x, recipe, n=400, shares=False)
    assert {fault.name for fault in found} == faults, str(found)
    assert not before.differences(fingerprint([model], x))


@pytest.mark.parametrize(("make", "recipe", "faults"), NETWORKS, ids=name_of)
def test_further_networks(make: Any, recipe: Any, faults: set[str]) -> None:
    model, x = networks.build_one(make)
    found = caveat.doctor(model, x, recipe, n=400, shares=False)
    assert {fault.name for fault in found} == faults, str(found)


@pytest.mark.parametrize("seed", range(30, 46))
def test_equal_rows_that_batch_statistics_turn_into_zeros_share_no_masks(seed: int) -> None:
    torch.manual_seed(seed)  # on some processors rounding errors vary from draw to draw, of some of these networks
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    found = caveat.doctor(model, torch.randn(16, 4), train)
    assert {fault.name for fault in found} == {"batch_norm_moves"}
