"""Moment propagation says which calls were not exact, and refuses what its rules cannot follow."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat.samplers import moments
from caveat.samplers._moment_propagation._sampler import Propagated

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Calling(nn.Module):
    """Dropout of a layer, then any function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.first, self.drop, self.last = function, nn.Linear(6, 8), nn.Dropout(0.4), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.drop(self.first(x)))


class MeanOfMaps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x).double().mean((2, 3))


def propagated(function: Callable[[Tensor], Tensor]) -> Propagated:
    return moments(Calling(function).eval(), output=caveat.Mean()).propagate(X)


REPEATED: dict[str, Callable[[Tensor], Tensor]] = {
    "list": lambda h: h[:, [0, 0, 1]],
    "tensor": lambda h: h[:, torch.tensor([0, 0, 1])],
    "index_select": lambda h: h.index_select(1, torch.tensor([0, 0, 1])),
    "gather": lambda h: h.gather(1, torch.zeros(len(h), 3, dtype=torch.int64)),
    "take_along_dim": lambda h: torch.take_along_dim(h, torch.zeros(len(h), 3, dtype=torch.int64), 1),
    "mask of more columns": lambda h: h[:, :1].masked_fill(torch.zeros(3, dtype=torch.bool), 0.0),
    "windows that overlap": lambda h: F.max_pool1d(h[:, None], 2, 2, 0, 2)[:, 0],
}


@pytest.mark.parametrize("name", REPEATED)
def test_elements_that_occur_twice_are_not_taken_for_independent_in_silence(name: str) -> None:
    """2 h has the variance 4 v; of two independent elements it would be 2 v."""
    found = propagated(lambda h: REPEATED[name](h).sum(1, keepdim=True))
    assert "sum" in {one.call.rsplit(".")[-1] for one in found.approximations}


@pytest.mark.parametrize("index", [slice(0, 3), torch.arange(8) % 2 == 0])
def test_slices_and_masks_stay_exact(index: object) -> None:
    found = propagated(lambda h: h[:, index].sum(1, keepdim=True))  # type: ignore[index]
    assert found.approximations == ()


def test_rsub_takes_its_factor() -> None:
    """b - 3 a, as torch.rsub(a, b, alpha=3) is."""
    found, once = propagated(lambda h: torch.rsub(h, 2.0, alpha=3)), propagated(lambda h: h)
    torch.testing.assert_close(found.mean, 2 - 3 * once.mean)
    torch.testing.assert_close(found.variance, 9 * once.variance)


def test_channels_stay_together_in_another_dtype() -> None:
    """The mean over positions of a dropped map m: variance p / (1 - p) mean(m)^2."""
    maps = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    found = moments(MeanOfMaps(), output=caveat.Mean()).propagate(maps)
    torch.testing.assert_close(found.variance, 3 / 7 * maps.double().mean((2, 3)).square())


def test_where_takes_names() -> None:
    found = propagated(lambda h: torch.where(condition=torch.ones(8) > 0, input=h, other=torch.zeros(())))
    torch.testing.assert_close(found.variance, propagated(lambda h: h).variance)


def written_through_a_view(h: Tensor) -> Tensor:
    h[:, 0].mul_(3.0)
    return h


def read_after_a_view_was_written_on(h: Tensor) -> Tensor:
    h.view(-1).mul_(3.0)
    return h + 1


def view_of_what_is_written_on(h: Tensor) -> Tensor:
    view = h[:, :4]
    h.mul_(3.0)
    return view + 1


def added_to_a_part_of_zeros(h: Tensor) -> Tensor:
    whole = torch.zeros(len(h), 10)
    whole[:, :8].add_(h)
    return whole


def doubled(h: Tensor) -> Tensor:
    return torch.relu(h) * 2


def scripted(h: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return h + torch.jit.script(doubled)(h)


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "written through a view": written_through_a_view,
    "read after a view was written on": read_after_a_view_was_written_on,
    "a view of what is written on": view_of_what_is_written_on,
    "a part of zeros": added_to_a_part_of_zeros,
    "a random bound": lambda h: torch.clamp(h, min=h.flip(-1)),
    "a random exponent": lambda h: torch.pow(2, h),
    "a random filling": lambda h: h.masked_fill(torch.ones(8) > 0, h[0, 0]),
    "TorchScript beside torch": scripted,
    "vmap beside torch": lambda h: h + torch.func.vmap(torch.relu)(h),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused(name: str) -> None:
    """Each of them gave other means or variances than the network has."""
    with pytest.raises(caveat.CaveatError, match="needs a rule for means and variances"):
        propagated(REFUSED[name])


def test_writing_in_place_stands_where_no_other_name_is_read() -> None:
    def in_place(h: Tensor) -> Tensor:
        return F.relu(h.view(-1, 8), inplace=True).mul_(2.0).add_(1.0)

    found, plain = propagated(in_place), propagated(lambda h: 2 * F.relu(h) + 1)
    torch.testing.assert_close(found.mean, plain.mean)
    torch.testing.assert_close(found.variance, plain.variance)
