"""The doctor names every fault that a recipe has, on ten networks, and none that it has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import caveat
from caveat.testing import fingerprint

from . import recipes
from .networks import build

CASES: list[tuple[str, Callable[..., Any], set[str]]] = [
    ("perceptron", recipes.switch_modules, set()),
    ("perceptron", recipes.switch_whole, set()),
    ("perceptron", recipes.copy_with_train, set()),
    ("perceptron", recipes.patched_copy, set()),
    ("perceptron", recipes.wrapped, set()),
    ("perceptron", recipes.repeat_the_batch, set()),
    ("perceptron", recipes.probabilities, set()),
    ("perceptron", recipes.log_probabilities, set()),
    ("perceptron", recipes.listed_arrays, set()),
    ("perceptron", recipes.caveat_itself, set()),
    ("perceptron", recipes.seed_in_fork, set()),
    ("perceptron", recipes.masks_by_hand, set()),
    ("perceptron", recipes.masks_of_numpy, set()),
    ("perceptron", recipes.stay_in_eval, {"site_silent"}),
    ("perceptron", recipes.last_layers_only, {"site_silent"}),
    ("perceptron", recipes.switch_and_forget_eval, {"left_in_train_mode"}),
    ("perceptron", recipes.switch_whole_and_forget, {"left_in_train_mode"}),
    ("perceptron", recipes.patched_in_place, {"attributes_changed"}),
    ("perceptron", recipes.patched_at_one_half, {"rate_changed"}),
    ("perceptron", recipes.one_pass_repeated, {"masks_repeated_over_draws"}),
    ("perceptron", recipes.in_pairs, {"masks_repeated_over_draws"}),
    ("perceptron", recipes.body_once_with_dropout, {"masks_repeated_over_draws"}),
    ("perceptron", recipes.seed_each_pass, {"masks_repeated_over_draws", "global_seed_set"}),
    ("perceptron", recipes.seed_once, {"global_seed_set"}),
    ("perceptron", recipes.masks_for_all_rows, {"masks_repeated_over_rows"}),
    ("perceptron", recipes.masks_without_scaling, {"mean_differs", "spread_differs"}),
    ("perceptron", recipes.repeat_and_mix_up, {"rows_depend_on_each_other"}),
    ("perceptron", recipes.noisy_inputs, {"random_outside_the_network"}),
    ("perceptron", recipes.few, {"too_few_passes"}),
    ("perceptron", recipes.writes_on_the_batch, {"inputs_changed"}),
    ("perceptron", recipes.steps, {"parameters_changed"}),
    ("selu", recipes.switch_modules, set()),
    ("selu", recipes.switch_dropout_class_only, {"site_silent"}),
    ("functional", recipes.switch_whole, set()),
    ("functional", recipes.switch_modules, {"site_silent"}),
    ("functional", recipes.caveat_itself, set()),
    ("hand mask", recipes.switch_whole, set()),
    ("hand mask", recipes.switch_modules, {"site_silent"}),
    ("recurrent", recipes.switch_all_that_drops, set()),
    ("recurrent", recipes.switch_modules, {"site_silent"}),
    ("recurrent", recipes.caveat_itself, set()),
    ("encoder", recipes.switch_all_that_drops, set()),
    ("encoder", recipes.switch_modules, {"site_silent"}),
    ("encoder", recipes.switch_whole, set()),
    ("attention", recipes.switch_all_that_drops, set()),
    ("attention", recipes.switch_modules, {"site_silent"}),
    ("conv", recipes.switch_modules, set()),
    ("conv", recipes.train_but_norms, set()),
    ("conv", recipes.repeat_the_batch, set()),
    ("conv", recipes.switch_whole, {"batch_norm_moves"}),
    ("conv", recipes.copy_with_train, {"batch_norm_moves"}),
    ("conv", recipes.switch_dropout_class_only, {"site_silent"}),
    ("residual", recipes.switch_modules, set()),
    ("residual", recipes.switch_whole, {"stochastic_depth_on"}),
    ("residual", recipes.caveat_itself, set()),
    ("two heads", recipes.switch_modules, set()),
    ("two heads", recipes.switch_whole, {"auxiliary_heads_on"}),
    ("two heads", recipes.copy_with_train, {"auxiliary_heads_on"}),
]


def names(found: Any) -> set[str]:
    return {fault.name for fault in found.faults}


@pytest.mark.parametrize(("network", "recipe", "faults"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_names_the_faults_that_are_there_and_no_other(network: str, recipe: Any, faults: set[str]) -> None:
    model, x = build(network)
    before = fingerprint([model], x)
    found = caveat.doctor(model, x, recipe, n=400, shares=False)
    assert names(found) == faults, str(found)
    assert not before.differences(fingerprint([model], x))
