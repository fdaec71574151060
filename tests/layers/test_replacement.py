"""Other modules in the place of a network's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import caveat
import caveat._intercept._dropout_sites  # registers the handlers
from caveat.errors import InvalidArgumentError
from caveat.layers import GaussianDropout, WeightDropout, replace


def test_dropout_becomes_another_dropout() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ModuleDict({"a": nn.Dropout(0.2)})).eval()
    sites = replace(model, which=nn.Dropout, by=lambda old: GaussianDropout(old.p))
    assert sites == ["1", "2.a"]
    assert [type(module) for module in (model[1], model[2]["a"])] == [GaussianDropout] * 2
    assert not model[1].training  # the mode of what it replaces
    assert caveat.audit(nn.Sequential(model[0], model[1]), torch.ones(2, 4)).live[0].kind == "gaussian_dropout"


def test_a_shared_module_is_replaced_everywhere_by_one() -> None:
    shared, made = nn.Linear(3, 3), list[nn.Module]()

    def by(layer: nn.Module) -> nn.Module:
        made.append(WeightDropout(layer, 0.1))
        return made[-1]

    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert replace(model, which=nn.Linear, by=by) == ["0"]
    assert len(made) == 1
    assert model[0] is model[2] is made[0]


def test_weights_and_keys_stay_and_only_the_outermost_is_replaced() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), nn.Linear(3, 2))
    model[0][1].eval()  # frozen in a network that trains
    keys = list(model.state_dict())
    wrapped = replace(
        model,
        which=lambda path, module: path in ("0", "0.0"),
        by=lambda old: nn.Sequential(*old, nn.Dropout(0.2)),  # type: ignore[misc]
    )
    assert wrapped == ["0"]
    assert list(model.state_dict()) == keys
    assert model[0][2].training
    assert not model[0][1].training
    replace(model, which=nn.Linear, by=lambda layer: WeightDropout(layer, 0.2))
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize(("which", "by", "said"), [
    (lambda path, module: False, GaussianDropout, "must choose a module"),
    (lambda path, module: True, GaussianDropout, "the model itself"),
    (nn.Linear, lambda old: None, "NoneType for '0'"),
    (nn.Linear, lambda old: nn.Linear, "by= makes a module"),
])  # fmt: skip
def test_what_cannot_be_replaced_changes_nothing(which: object, by: object, said: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    before = str(model)
    with pytest.raises(InvalidArgumentError, match=said):
        replace(model, which=which, by=by)  # type: ignore[arg-type]
    assert str(model) == before
