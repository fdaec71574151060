"""Spatial dropout: whole channels are dropped, wherever the channels stand.

Neighboring positions of a channel say much the same, so dropping one of them hides nothing; dropping the channel does.
See "Efficient Object Localization Using Convolutional Networks", Tompson et al., 2015.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, final

from torch import Tensor, nn

from caveat._checks import require_rate
from caveat._dropping import Shape
from caveat._random_numbers import dropped
from caveat.errors import InvalidArgumentError

ChannelDim = Literal[1, -1]


@final
class SpatialDropout1d(nn.Module):
    """Drops whole channels of sequences, the same at every time step.

    With ``channel_dim=1``, torch's order (B, C, T), it drops what ``nn.Dropout1d`` drops. With ``channel_dim=-1`` it
    takes (B, T, C), as embeddings and recurrent layers give it: the SpatialDropout1D of Keras. Unlike torch's it also
    trains under ``torch.vmap``, where members of an ensemble are trained at once.

    Args:
        p: Fraction of channels that is dropped, in [0, 1).
        channel_dim: where the channels are: 1, or -1 for channels last.

    Shapes:
        (B, C, T), or (B, T, C) for channels last; without B for one row alone. The same comes out.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); another ``channel_dim``, or an input of another rank.

    Example:
        >>> import torch
        >>> words = torch.ones(2, 7, 16)                                    # (B, T, C)
        >>> kept = SpatialDropout1d(0.5, channel_dim=-1)(words)
        >>> bool((kept == kept[:, :1]).all())                               # every time step lost the same channels
        True
    """

    def __init__(self, p: float = 0.5, *, channel_dim: ChannelDim = 1) -> None:
        super().__init__()
        self.p, self.channel_dim = require_rate(p), _checked(channel_dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with channels dropped in training and in draws; ``x`` itself in eval mode."""
        return _spatial_dropout(x, self.p, 1, self.channel_dim, self.training)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"p={self.p}, channel_dim={self.channel_dim}"


@final
class SpatialDropout2d(nn.Module):
    """Drops whole channels of images: (B, C, H, W), or (B, H, W, C) with ``channel_dim=-1``.

    As ``nn.Dropout2d``, and also for channels last and under ``torch.vmap``. See ``SpatialDropout1d``.

    Args:
        p: Fraction of channels that is dropped, in [0, 1).
        channel_dim: where the channels are: 1, or -1 for channels last.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); another ``channel_dim``, or an input of another rank.

    Example:
        >>> import torch
        >>> SpatialDropout2d(0.2)(torch.ones(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, p: float = 0.5, *, channel_dim: ChannelDim = 1) -> None:
        super().__init__()
        self.p, self.channel_dim = require_rate(p), _checked(channel_dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with channels dropped in training and in draws; ``x`` itself in eval mode."""
        return _spatial_dropout(x, self.p, 2, self.channel_dim, self.training)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"p={self.p}, channel_dim={self.channel_dim}"


@final
class SpatialDropout3d(nn.Module):
    """Drops whole channels of volumes: (B, C, D, H, W), or (B, D, H, W, C) with ``channel_dim=-1``.

    As ``nn.Dropout3d``, and also for channels last and under ``torch.vmap``. See ``SpatialDropout1d``.

    Args:
        p: Fraction of channels that is dropped, in [0, 1).
        channel_dim: where the channels are: 1, or -1 for channels last.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); another ``channel_dim``, or an input of another rank.

    Example:
        >>> import torch
        >>> SpatialDropout3d(0.2)(torch.ones(2, 8, 5, 5, 5)).shape
        torch.Size([2, 8, 5, 5, 5])
    """

    def __init__(self, p: float = 0.5, *, channel_dim: ChannelDim = 1) -> None:
        super().__init__()
        self.p, self.channel_dim = require_rate(p), _checked(channel_dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with channels dropped in training and in draws; ``x`` itself in eval mode."""
        return _spatial_dropout(x, self.p, 3, self.channel_dim, self.training)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"p={self.p}, channel_dim={self.channel_dim}"


def _spatial_dropout(x: Tensor, p: float, places: int, channel_dim: int, training: bool) -> Tensor:
    if x.dim() not in (places + 1, places + 2):
        raise InvalidArgumentError(
            f"SpatialDropout{places}d takes {places + 2} axes: batch, channels and {places} of places.",
            got=f"shape {tuple(x.shape)}",
            cause="a layer for another number of axes was chosen, or the features were flattened before it",
            fix=f"use SpatialDropout{max(x.dim() - 2, 1)}d here, or nn.Dropout for a table of features (B, C)",
        )
    shape_of = partial(one_each_channel, places=places, channel_dim=channel_dim)
    return dropped(x, shape_of, f"spatial_dropout{places}d", p, training)


def one_each_channel(shape: Shape, places: int, channel_dim: int) -> Shape:
    """(B, C, 1, ...) or (B, 1, ..., C) for a batch; the same without the B for one row alone.

    Example:
        >>> one_each_channel((8, 3, 5, 5), places=2, channel_dim=1)
        (8, 3, 1, 1)
    """
    lead, ones = shape[: len(shape) - places - 1], (1,) * places
    return (*lead, shape[len(lead)], *ones) if channel_dim == 1 else (*lead, *ones, shape[-1])


def _checked(channel_dim: ChannelDim) -> int:
    if channel_dim not in (1, -1):
        raise InvalidArgumentError(
            "channel_dim must be 1 (channels after the batch) or -1 (channels last).",
            got=f"channel_dim={channel_dim!r}",
            cause="the axis was counted for one particular rank",
            fix="pass 1 for (B, C, ...), or -1 for (B, ..., C)",
        )
    return int(channel_dim)
