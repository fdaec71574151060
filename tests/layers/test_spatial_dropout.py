"""Spatial dropout drops whole channels, at its rate, wherever they stand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from caveat.errors import InvalidArgumentError
from caveat.layers import SpatialDropout1d, SpatialDropout2d, SpatialDropout3d

BY_PLACES = {1: SpatialDropout1d, 2: SpatialDropout2d, 3: SpatialDropout3d}


@given(
    places=st.sampled_from([1, 2, 3]),
    last=st.booleans(),
    batched=st.booleans(),
    p=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
def test_a_channel_is_kept_or_dropped_whole(places: int, last: bool, batched: bool, p: float, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = (5,) + (3,) * places if not last else (3,) * places + (5,)
    x = torch.rand((4, *sizes) if batched else sizes, dtype=torch.float64) + 1
    out = BY_PLACES[places](p, channel_dim=-1 if last else 1)(x)
    ratio = out / x
    assert ((ratio == 0) | torch.isclose(ratio, torch.tensor(1 / (1 - p), dtype=ratio.dtype))).all()
    channels = ratio if not last else ratio.movedim(-1, -1 - places)
    flat = channels.flatten(-places)
    torch.testing.assert_close(flat, flat[..., :1].expand_as(flat))


def test_the_share_dropped_is_p_and_rows_differ() -> None:
    torch.manual_seed(0)
    out = SpatialDropout2d(0.3)(torch.ones(200, 100, 2, 2))
    share = float((out[:, :, 0, 0] == 0).double().mean())
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 20_000)
    assert not torch.equal(out[0], out[1])


def test_channels_first_is_torchs_own() -> None:
    """The same law as nn.Dropout1d: channels of each row independently, whole."""
    torch.manual_seed(0)
    ours, torchs = SpatialDropout1d(0.4), nn.Dropout1d(0.4)
    x = torch.ones(300, 20, 4)
    kept = [layer(x)[..., 0].ne(0).double() for layer in (ours, torchs)]
    assert abs(float(kept[0].mean() - kept[1].mean())) < 5 * math.sqrt(2 * 0.24 / 6000)
    assert torch.unique(ours(x)).tolist() == pytest.approx(torch.unique(torchs(x)).tolist())


@pytest.mark.parametrize("channel_dim", [0, 2, "last", None])
def test_another_channel_dim_is_refused(channel_dim: object) -> None:
    with pytest.raises(InvalidArgumentError, match="channel_dim must be 1"):
        SpatialDropout1d(0.5, channel_dim=channel_dim)  # type: ignore[arg-type]


def test_another_rank_names_the_layer_that_fits() -> None:
    with pytest.raises(InvalidArgumentError, match="use SpatialDropout2d here"):
        SpatialDropout1d(0.5)(torch.ones(2, 3, 4, 4))
