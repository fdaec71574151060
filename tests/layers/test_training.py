"""The dropout family trains: in plain torch, many members at once, in half precision, with gradients that are right."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from caveat import layers
from caveat.errors import InvalidArgumentError

# A layer, and the shape of a batch for it.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "spatial 1d": (lambda: layers.SpatialDropout1d(0.3), (2, 4, 6)),
    "channels last": (lambda: layers.SpatialDropout1d(0.3, channel_dim=-1), (2, 4, 6)),
    "spatial 2d": (lambda: layers.SpatialDropout2d(0.3), (2, 3, 5, 5)),
    "spatial 3d": (lambda: layers.SpatialDropout3d(0.3), (2, 3, 3, 3, 3)),
    "blocks 1d": (lambda: layers.DropBlock1d(0.3, 2), (2, 4, 6)),
    "blocks 2d": (lambda: layers.DropBlock2d(0.3, 3), (2, 3, 6, 6)),
    "blocks 3d": (lambda: layers.DropBlock3d(0.3, 2), (2, 3, 4, 4, 4)),
    "gaussian": (lambda: layers.GaussianDropout(0.3), (2, 6)),
    "weights": (lambda: layers.WeightDropout(nn.Linear(6, 3), 0.3), (2, 6)),
    "weights of a convolution": (lambda: layers.WeightDropout(nn.Conv2d(3, 2, 3), 0.3), (2, 3, 5, 5)),
    "weights of an LSTM": (lambda: layers.WeightDropout(nn.LSTM(6, 3, batch_first=True), 0.3), (2, 4, 6)),
    "concrete": (lambda: layers.ConcreteDropout(nn.Linear(6, 3), 0.3), (2, 6)),
    "spatial concrete": (lambda: layers.ConcreteDropout(nn.Conv2d(3, 2, 3), 0.3), (2, 3, 5, 5)),
}


def made(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    build, shape = LAYERS[name]
    torch.manual_seed(1)
    return build().to(dtype), torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def first(returned: Tensor | tuple[Tensor, ...]) -> Tensor:
    return returned if isinstance(returned, Tensor) else returned[0]


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_right(name: str) -> None:
    layer, x = made(name, torch.float64)
    parameters = dict(layer.named_parameters())

    def run(given: Tensor, *values: Tensor) -> Tensor:
        torch.manual_seed(4)  # the same noise at every call
        return first(functional_call(layer, dict(zip(parameters, values, strict=True)), given))

    inputs = [tensor.detach().clone().requires_grad_() for tensor in (x, *parameters.values())]
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("name", LAYERS)
def test_noise_is_new_in_training_and_gone_in_eval_mode(name: str) -> None:
    layer, x = made(name)
    assert not torch.equal(first(layer(x)), first(layer(x)))
    layer.eval()
    assert torch.equal(first(layer(x)), first(layer(x)))
    state = torch.get_rng_state()
    layer(x)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", [name for name in LAYERS if "LSTM" not in name])
def test_members_train_at_once_each_with_noise_of_its_own(name: str) -> None:
    """torch.vmap over stacked parameters: the members of an ensemble in one pass, gradients too."""
    build, shape = LAYERS[name]
    members = [nn.Sequential(nn.Identity(), build()) for _ in range(3)]
    parameters, buffers = stack_module_state(members)
    scale = torch.ones(3, requires_grad=True)

    def one(own: dict[str, Tensor], state: dict[str, Tensor], factor: Tensor, x: Tensor) -> Tensor:
        return functional_call(members[0], (own, state), (x * factor,))

    x = torch.rand(shape) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # vmap says so where it falls back to a loop
        out = torch.vmap(one, in_dims=(0, 0, 0, None), randomness="different")(parameters, buffers, scale, x)
    assert out.shape[0] == 3
    assert not torch.equal(out[0] / out[0].norm(), out[1] / out[1].norm())
    out.square().sum().backward()
    assert scale.grad is not None
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in parameters.values())


@pytest.mark.parametrize("name", LAYERS)
def test_half_precision_stays_half_precision(name: str) -> None:
    try:
        check_half_precision(name)
    except RuntimeError as error:
        if "could not create a primitive" not in str(error):
            raise
        pytest.skip("oneDNN has no such bfloat16 LSTM on this processor")


def check_half_precision(name: str) -> None:
    layer, x = made(name, torch.bfloat16)
    out = first(layer(x.requires_grad_()))
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()
    out.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        layer, x = made(name)
        assert first(layer(x)).isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_copied_and_pickled(name: str) -> None:
    layer, x = made(name)
    layer.eval()
    expected = first(layer(x))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(first(twin(x)), expected)
        for parameter in twin.parameters():
            parameter.data.zero_()
    assert torch.equal(first(layer(x)), expected)
    assert str(layer)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), "half", True])
@pytest.mark.parametrize("build", [
    layers.SpatialDropout1d, layers.SpatialDropout2d, layers.SpatialDropout3d,
    layers.DropBlock1d, layers.DropBlock2d, layers.DropBlock3d, layers.GaussianDropout,
    lambda p: layers.WeightDropout(nn.Linear(2, 2), p),
    lambda p: layers.ConcreteDropout(nn.Linear(2, 2), p),
    lambda p: layers.ConcreteDropout(nn.Conv1d(2, 2, 1), p),
])  # fmt: skip
def test_a_rate_is_a_share_below_one(build: Callable[[float], nn.Module], p: float) -> None:
    with pytest.raises(InvalidArgumentError, match=r"must lie in \[0, 1\)"):
        build(p)


@pytest.mark.parametrize("layer", [
    layers.SpatialDropout1d(), layers.SpatialDropout2d(), layers.DropBlock1d(), layers.DropBlock2d(),
    layers.DropBlock3d(),
])  # fmt: skip
def test_another_rank_is_refused_in_either_mode(layer: nn.Module) -> None:
    for mode in (True, False):
        with pytest.raises(InvalidArgumentError, match="axes"):
            layer.train(mode)(torch.ones(7))
