"""Max pooling while drawing: by whole rows and columns, to the same values as torch's own kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

import caveat
from caveat._engine import Recorder, shorten
from caveat._intercept import max_of_windows, windows_of

_POOLS = {2: F.max_pool2d, 3: F.max_pool3d}


@given(st.data())
def test_the_largest_of_windows_is_what_torch_gives(data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from([2, 3]))
    kernel = data.draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes))
    stride = data.draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes))
    padding = [data.draw(st.integers(0, width // 2)) for width in kernel]
    sizes = [data.draw(st.integers(width, width + 6)) for width in kernel]
    seed = data.draw(st.integers(0, 100))
    x = torch.randn(2, 3, *sizes, generator=torch.Generator().manual_seed(seed))
    special = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + 1))
    assume(any(width > 1 for width in kernel))
    x = x.where(special < 0.9, torch.nan).where(special < 0.95, -torch.inf)
    expected = _POOLS[axes](x, kernel, stride, padding)
    torch.testing.assert_close(max_of_windows(x, (kernel, stride, padding)), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("settings", [(4,), (2, 2, 2), ((1, 4), 1, 0), (1,), (2, 2, 0, 2), (2, 2, 0, 1, True)])
def test_windows_that_do_not_fit_or_have_gaps_are_torchs(settings: tuple[Any, ...]) -> None:
    assert windows_of((3, 3), *settings) is None
    assert windows_of((3, 3), 2) == ([2, 2], [2, 2], [0, 0])


def _shortened(run: Any, x: Tensor) -> Any:
    with torch.no_grad(), Recorder([x]) as recorder:
        returned = run(x)
    program = recorder.program([returned])
    shorten(program)
    return program.make_ready()


POOLS: list[Any] = [
    lambda x: F.max_pool2d(x, 2),
    lambda x: F.max_pool2d(x, kernel_size=3, stride=2, padding=1),
    lambda x: torch.max_pool2d(x, (1, 2), padding=(0, 1)),
    lambda x: F.max_pool1d(x.flatten(1, 2), 3, 2, 1),
    lambda x: F.max_pool3d(x, 2),
    lambda x: F.relu(F.max_pool2d(x, 2)).mul(2.0),
]
OTHERS: list[Any] = [
    lambda x: torch.stack([part.float() for part in F.max_pool2d(x, 2, return_indices=True)]),
    lambda x: F.max_pool2d(x, 2, dilation=2),
    lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    lambda x: F.max_pool2d(x[:, :1, :4, :4], 2),  # small
    lambda x: F.max_pool2d(x.to(memory_format=torch.channels_last), 2),
    lambda x: F.max_pool2d(x.half(), 2).float(),
]


@pytest.mark.parametrize("run", POOLS)
def test_a_large_pooling_of_a_program_is_made_of_maxima(run: Any) -> None:
    x, other = torch.randn(8, 8, 33, 17), torch.randn(8, 8, 33, 17)
    program = _shortened(run, x)
    assert any(step.func is max_of_windows for step in program.steps)
    with torch.no_grad():
        assert torch.equal(program.run(other)[0], run(other))


@pytest.mark.parametrize("run", OTHERS)
def test_any_other_pooling_of_a_program_stays_torchs(run: Any) -> None:
    x, other = torch.randn(8, 8, 33, 17), torch.randn(8, 8, 33, 17)
    program = _shortened(run, x)
    assert not any(step.func is max_of_windows for step in program.steps)
    with torch.no_grad():
        assert torch.equal(program.run(other)[0], run(other))


class Pools(nn.Module):
    """Dropout of channels, and a pooling of the test's."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.drop, self.pool = nn.Dropout2d(0.5), pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.drop(x))


@pytest.mark.parametrize("run", [*POOLS, *OTHERS])
def test_draws_through_a_pooling_are_those_of_a_network_in_train_mode(run: Any) -> None:
    net, x = Pools(run).eval(), torch.randn(8, 8, 33, 17)
    drawn = caveat.draws(caveat.mc_dropout(net, output=caveat.Mean()), x, n=6, seed=1)
    loop = caveat.draws(caveat.mc_dropout(net, output=caveat.Mean(), backend="loop"), x, n=6, seed=1)
    masks = caveat.draws(caveat.mc_dropout(Pools(lambda h: h), output=caveat.Mean()), torch.ones_like(x), n=6, seed=1)
    assert 0 < (masks == 0).float().mean() < 1
    assert torch.equal(drawn, loop)
    assert torch.equal(drawn, torch.stack([run(x * mask) for mask in masks]))


def test_draws_of_a_network_that_pools_are_those_of_a_loop() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Dropout2d(0.25), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3), nn.MaxPool2d(2),
        nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(4),
    ).eval()  # fmt: skip
    x = torch.randn(40, 1, 20, 20)
    with torch.no_grad():
        net(x)
    fast, loop = (caveat.mc_dropout(net, output=caveat.Logits(), backend=b) for b in (None, "loop"))
    for _ in range(3):  # recorded, played, played from what was kept
        drawn = caveat.draws(fast, x, n=40, seed=3)
    torch.testing.assert_close(drawn, caveat.draws(loop, x, n=40, seed=3), rtol=1e-5, atol=1e-5)
