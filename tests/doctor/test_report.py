"""What a diagnosis says: shares, numbers, JSON, the page; errors by name; the command and its exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.cli._cli import main
from caveat.errors import InvalidArgumentError, NothingRandomError
from caveat.testing import fingerprint

from . import recipes
from .networks import build

MODULE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    layers = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
    return nn.Sequential(*layers), torch.randn(8, 4)

def alone():
    return make()[0]

def batch():
    return torch.randn(5, 4)

def misfit():
    return torch.randn(5, 7)

def plain():
    return nn.Linear(4, 3)

def clean(model, x):
    model[3].train()
    with torch.no_grad():
        out = torch.stack([model(x) for _ in range(20)])
    model.eval()
    return out

def in_train_mode(model, x):
    model.train()
    return torch.stack([model(x) for _ in range(20)])

def train_with_seed(model, x):
    torch.manual_seed(0)
    return in_train_mode(model, x)

def average(model, x):
    return clean(model, x).mean(0)

def broken(model, x):
    raise RuntimeError("<no> luck")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "networks_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "networks_of_mine"


def predict(model: nn.Module, x: Any) -> Tensor:
    return recipes.switch_modules(model, x)


def test_a_network_in_train_mode_is_examined_in_eval_mode() -> None:
    model, x = build("perceptron")
    found = caveat.doctor(model.train(), x, recipes.stay_in_eval, shares=False)
    assert [fault.name for fault in found] == ["site_silent"]
    assert any("given in train mode" in note for note in found.notes)
    assert model.training


def test_each_site_has_its_share_and_what_fires_it() -> None:
    model, x = build("attention")
    found = caveat.doctor(model, x)
    attend, drop = found.sites
    assert (attend.path, attend.kind, attend.rate) == ("attend", "attention", 0.3)
    assert attend.fires == {"train()": 1.0, "switching": 0.0}
    assert drop.fires == {"train()": 1.0, "switching": 1.0}
    assert attend.variance_fraction is not None
    assert drop.variance_fraction is not None
    assert 0 < attend.variance_fraction < drop.variance_fraction < 1
    assert found.faults == ()
    assert found.comparison is None


def test_the_share_of_the_only_site_is_one() -> None:
    model, x = build("two heads")
    assert [site.variance_fraction for site in caveat.doctor(model, x).sites] == [1.0]


def test_ways_say_what_else_they_do() -> None:
    model, x = build("conv")
    train, switching = caveat.doctor(model, x, shares=False).ways
    assert [fault.name for fault in train.faults] == ["batch_norm_moves"]
    assert train.faults[0].where == ("norm",)
    assert switching.faults == ()


def test_a_way_that_raises_says_so() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    found = caveat.doctor(model, torch.randn(1, 4), shares=False)
    assert found.ways[0].error is not None
    assert "Expected more than 1 value" in found.ways[0].error
    assert json.loads(found.to_json())["sites"][0]["fires"]["train()"] is None


def test_the_comparison_is_of_the_recipes_own_number_of_passes() -> None:
    model, x = build("perceptron")
    found = caveat.doctor(model, x, recipes.log_probabilities, shares=False).comparison
    assert found is not None
    assert (found.passes, found.draws, found.read_as) == (recipes.T, 1000, "through log-softmax")
    assert found.mean_distance < 3 * found.mean_distance_expected
    assert abs(found.spread_ratio - 1) < 4 * found.spread_ratio_error
    assert found.standard_error == pytest.approx(recipes.T**-0.5)
    assert min(found.seconds, found.caveat_seconds) > 0


def test_a_diagnosis_is_strict_json_and_a_table_in_notebooks() -> None:
    model, x = build("perceptron")
    found = caveat.doctor(model, x, recipes.stay_in_eval, shares=False)
    said = json.loads(found.to_json())
    assert said == found.as_dict()
    assert said["healthy"] is False
    assert said["faults"][0]["name"] == "site_silent"
    assert said["faults"][0]["where"] == ["2", "5"]
    assert "site_silent" in found._repr_html_()
    assert "Fix: " in str(found)


def test_a_recipe_may_hold_its_own_network() -> None:
    model, x = build("perceptron")
    own, _ = build("perceptron")

    def run(x: Tensor) -> Tensor:
        own.train()
        return recipes.passes(own, x)

    before = fingerprint([own], x)
    assert [fault.name for fault in caveat.doctor(model, x, run, shares=False)] == ["left_in_train_mode"]
    assert not before.differences(fingerprint([own], x))


def test_stochastic_depth_is_no_fault_where_it_is_asked_for() -> None:
    model, x = build("residual")
    assert caveat.doctor(model, x, recipes.switch_whole, live=caveat.with_stochastic_depth, shares=False).faults == ()


def test_a_fault_that_is_meant_to_be_is_a_note() -> None:
    model, x = build("perceptron")
    name = "masks_repeated_over_rows"
    found = caveat.doctor(model, x, recipes.masks_for_all_rows, ignore=[name], shares=False)
    assert found.faults == ()
    assert found.notes[0].startswith(f"{name} is ignored: ")
    with pytest.raises(InvalidArgumentError, match="ignore must be one of 'site_silent'"):
        caveat.doctor(model, x, ignore=["rows"])


def test_a_site_that_live_leaves_out_is_not_asked_for() -> None:
    model, x = build("perceptron")
    found = caveat.doctor(model, x, predict, live=caveat.paths("2"), shares=False)
    assert [(fault.name, fault.where) for fault in found] == [("site_not_asked_for", ("5",))]


def average(model: nn.Module, x: Any) -> Tensor:
    return predict(model, x).mean(0)


def draws_second(model: nn.Module, x: Any) -> Tensor:
    return predict(model, x).transpose(0, 1)


def one_pass(model: nn.Module, x: Any) -> Tensor:
    return predict(model, x)[:1]


def decided(model: nn.Module, x: Any) -> Tensor:
    return predict(model, x).argmax(-1)


def broken(model: nn.Module, x: Any) -> Tensor:
    raise ValueError("no luck")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (average, "average over the draws"),
        (draws_second, r"outputs\.transpose\(0, 1\)"),
        (one_pass, "at least two passes"),
        (decided, "stacked"),
        (broken, "it raised ValueError: no luck"),
        (torch.zeros(3), "pass the function itself"),
        (nn.Linear(4, 3), "pass the function itself"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_no_recipe_is_refused(recipe: Any, said: str) -> None:
    model, x = build("perceptron")
    before = fingerprint([model], x)
    with pytest.raises(InvalidArgumentError, match=said):
        caveat.doctor(model, x, recipe)
    assert not before.differences(fingerprint([model], x))


def test_a_network_without_dropout_and_a_batch_that_does_not_fit_are_refused() -> None:
    model, _ = build("perceptron")
    with pytest.raises(NothingRandomError):
        caveat.doctor(nn.Linear(4, 3), torch.randn(2, 4), predict)
    with pytest.raises(InvalidArgumentError, match="The network must run on the batch"):
        caveat.doctor(model, torch.randn(2, 7), predict)
    with pytest.raises(InvalidArgumentError, match=r"torch\.nn\.Module"):
        caveat.doctor("weights.pt", torch.randn(2, 7))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["make", "--recipe", "clean"], 0, "No fault found in the recipe."),
        (["make"], 0, "train(): batch_norm_moves."),
        (["alone", "batch", "--recipe", "clean"], 0, "No fault found in the recipe."),
        (["make", "--recipe", "train_with_seed", "--ignore", "global_seed_set"], 1, "2 faults found: batch_norm_moves"),
        (["make", "--recipe", "in_train_mode"], 1, "2 faults found: batch_norm_moves, left_in_train_mode."),
    ],
)
def test_the_command_ends_with_one_where_there_are_faults(
    module: str, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *named(module, arguments)]) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alone"], "let it return (model, example_input)"),
        (["make", "misfit"], "The network must run on the batch"),
        (["make", "--recipe", "nowhere"], "has no function 'nowhere'"),
        (["make", "--recipe", "broken"], "RuntimeError: <no> luck"),
        (["make", "--recipe", "average"], "(T, B, ...)"),
        (["plain", "batch"], "must be able to vary"),
        (["make", "--n", "5"], "n must be an integer of at least 100"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    module: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *named(module, arguments)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert said in shown.err


def test_the_page_is_one_file_that_fetches_nothing(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "doctor.html"
    arguments = named(module, ["make", "--recipe", "in_train_mode"])
    assert main(["doctor", *arguments, "--json", "--html", str(page)]) == 1
    assert [fault["name"] for fault in json.loads(capsys.readouterr().out)["faults"]] == [
        "batch_norm_moves",
        "left_in_train_mode",
    ]
    text = page.read_text()
    assert "batch_norm_moves" in text
    assert not re.search(r"(src|href)=|@import|url\(", text)


def named(module: str, arguments: list[str]) -> list[str]:
    plain = {"global_seed_set"}
    return [part if part[0] == "-" or part.isdigit() or part in plain else f"{module}:{part}" for part in arguments]
