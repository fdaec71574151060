"""Masks that meet a linear map: the same draws as masking the data, computed with less."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat._intercept import _deferred as deferred

CONVOLUTIONS = {
    "padded": (nn.Conv2d, {"kernel_size": 3, "padding": 1}),
    "strided, dilated, no bias": (nn.Conv2d, {"kernel_size": 3, "stride": 2, "dilation": 2, "bias": False}),
    "same": (nn.Conv1d, {"kernel_size": 5, "padding": "same"}),
    "three axes": (nn.Conv3d, {"kernel_size": 2}),
    "grouped": (nn.Conv2d, {"kernel_size": 3, "groups": 2}),
    "reflecting": (nn.Conv2d, {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}),
    "one tap": (nn.Conv2d, {"kernel_size": 1}),
}
IMAGES = {nn.Conv1d: (4, 9), nn.Conv2d: (4, 9, 9), nn.Conv3d: (4, 5, 5, 5)}
SPATIAL = {nn.Conv1d: nn.Dropout1d, nn.Conv2d: nn.Dropout2d, nn.Conv3d: nn.Dropout3d}


def both(model: nn.Module, x: Tensor, n: int = 30, chunk: int = 7) -> tuple[Tensor, Tensor]:
    """The draws of the vectorized backend, which defers, and of the loop, which does not."""
    samplers = [
        caveat.mc_dropout(model.eval(), output=caveat.Mean(), backend=backend, chunk=chunk)
        for backend in ("vectorized", "loop")
    ]
    return caveat.draws(samplers[0], x, n=n), caveat.draws(samplers[1], x, n=n)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_after_spatial_dropout(name: str, rows: int) -> None:
    kind, settings = CONVOLUTIONS[name]
    torch.manual_seed(0)
    model = nn.Sequential(kind(4, 4, 1), SPATIAL[kind](0.4), kind(4, 6, **settings), nn.ReLU(), nn.Flatten())
    together, loop = both(model, torch.randn(rows, *IMAGES[kind]))
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-6)
    assert together.std(0).mean() > 0.01


def convolutions_computed(model: nn.Module, x: Tensor, n: int) -> int:
    sampler = caveat.mc_dropout(model.eval(), output=caveat.Mean(), chunk=5)
    caveat.predict(sampler, x, n=2)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        caveat.predict(sampler, x, n=n)
    return sum(event.count for event in profile.key_averages() if event.key == "aten::conv2d")


def test_the_contributions_of_the_channels_are_computed_once_a_batch() -> None:
    model = nn.Sequential(nn.Dropout2d(0.5), nn.Conv2d(8, 4, 3), nn.Flatten())
    x = torch.randn(3, 8, 7, 7)
    assert convolutions_computed(model, x, n=10) == convolutions_computed(model, x, n=100) == 1


def test_contributions_that_are_too_large_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "_CONTRIBUTIONS_BYTES", 100)
    model = nn.Sequential(nn.Dropout2d(0.5), nn.Conv2d(8, 4, 3), nn.Flatten())
    together, loop = both(model, torch.randn(3, 8, 7, 7))
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-6)


class WeightsMadeAnew(nn.Module):
    """Convolves one thing with weights that are made in the pass, at the address of those before."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.weight = nn.Dropout2d(0.3), nn.Parameter(torch.randn(6, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        dropped, total = self.drop(x), torch.zeros(())
        for scale in (1, -2, 3, -4):
            total = total + torch.nn.functional.conv2d(dropped, self.weight * scale, None, 1, 1) * scale
        return total.flatten(1)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_weights_that_are_made_in_the_pass_are_told_apart(rows: int) -> None:
    torch.manual_seed(0)
    model, x = WeightsMadeAnew().eval(), torch.randn(rows, 2, 8, 8)
    loop = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), backend="loop"), x, n=12)
    for _ in range(10):  # whether memory is taken at the same address again differs from call to call
        sampler = caveat.mc_dropout(model, output=caveat.Mean())
        torch.testing.assert_close(caveat.draws(sampler, x, n=12), loop, rtol=1e-5, atol=1e-5)


class OneWeightTwice(nn.Module):
    """Convolves one thing with the same weights at two dilations, as switchable convolutions do."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.weight = nn.Dropout2d(0.3), nn.Parameter(torch.randn(6, 2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        dropped = self.drop(x)
        near, far = (torch.nn.functional.conv2d(dropped, self.weight, None, 1, width, width) for width in (1, 2))
        return (near - 2 * far).flatten(1)


def test_one_weight_with_other_settings() -> None:
    torch.manual_seed(0)
    model = OneWeightTwice()
    together, loop = both(model, x := torch.randn(3, 2, 8, 8))
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-5)
    assert convolutions_computed(model, x, n=100) == 2


def test_drawing_loads_nothing_large() -> None:
    """Asking torch for a shape without memory would load sympy, half a second and 34 MiB."""
    code = (
        "import sys, torch, caveat; from torch import nn; "
        "model = nn.Sequential(nn.Dropout2d(0.5), nn.Conv2d(8, 4, 3), nn.Flatten()); "
        "caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), torch.randn(3, 8, 7, 7), n=10); "
        "print('sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class Fork(nn.Module):
    """One dropped tensor read by two linear layers, by a product and by its own shape."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.a, self.b = nn.Dropout(0.5), nn.Linear(6, 3), nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(x)
        return self.a(h) + self.b(h) + (h * x).sum(-1, keepdim=True) + h.shape[-1]


@pytest.mark.parametrize(
    "model",
    [
        Fork(),
        nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2)),
        nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.Linear(6, 40), nn.Dropout(0.3), nn.Linear(40, 1)),
        nn.Sequential(nn.Dropout(0.3), nn.ReLU(), nn.Linear(6, 2)),
        nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3)),
    ],
)
@pytest.mark.parametrize("shape", [(1, 6), (9, 6), (4, 3, 6)])
def test_linear_layers_after_dropout(model: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()  # else a row may meet only units that are off, and nothing would vary
    together, loop = both(model, torch.randn(shape))
    torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-6)


def test_gradients_go_through() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.Linear(6, 2)).eval()
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend="vectorized")
    x = torch.randn(9, 6, requires_grad=True)
    caveat.draws(sampler, x, n=5, gradient=True).square().sum().backward()
    loop = caveat.mc_dropout(model, output=caveat.Mean(), backend="loop")
    y = x.detach().clone().requires_grad_()
    caveat.draws(loop, y, n=5, gradient=True).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
