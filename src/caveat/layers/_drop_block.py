"""DropBlock: dropout of whole blocks of a feature map.

Convolutional features are alike around a place, so single dropped elements are filled in by their neighbors. See
"DropBlock: A regularization method for convolutional networks", Ghiasi, Lin and Le, 2018.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import final

from torch import Tensor, nn

from caveat._checks import require_integer, require_rate
from caveat._dropping import Shape, drop
from caveat._random_numbers import uniform_numbers
from caveat.errors import InvalidArgumentError


@final
class DropBlock1d(nn.Module):
    """Drops blocks of consecutive time steps of each channel: (B, C, T). See ``DropBlock2d``.

    Args:
        p: Fraction of elements that is dropped, in [0, 1).
        block_size: elements in a block; shorter maps are dropped whole.
        exact: as in ``DropBlock2d``.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); ``block_size`` below 1, or an input of another rank.

    Example:
        >>> import torch
        >>> DropBlock1d(0.1, block_size=3)(torch.ones(2, 8, 20)).shape
        torch.Size([2, 8, 20])
    """

    def __init__(self, p: float = 0.1, block_size: int = 7, *, exact: bool = True) -> None:
        super().__init__()
        self.p, self.block_size, self.exact = require_rate(p), _check_block_size(block_size), exact

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with blocks dropped in training and in draws; ``x`` itself in eval mode."""
        return _drop_block(x, 1, self.p, self.block_size, self.exact, self.training)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"p={self.p}, block_size={self.block_size}, exact={self.exact}"


@final
class DropBlock2d(nn.Module):
    """Drops square blocks of each channel of a feature map: (B, C, H, W).

    Each place where a whole block fits is a block's corner with a small probability; what no block
    covers is scaled up by (elements) / (elements kept), counted over one row's channels and places, so a row never
    depends on the rows beside it. (The paper counts over the batch.)

    Args:
        p: Fraction of elements that is dropped, in [0, 1).
        block_size: the side of a block; maps smaller than that are dropped whole.
        exact: blocks overlap, so the paper's gamma, which ignores that, drops less than ``p``. True: the expected
            fraction that is kept is 1 - p, to rounding. False: the paper's gamma.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); ``block_size`` below 1, or an input of another rank.

    See "DropBlock: A regularization method for convolutional networks", Ghiasi, Lin and Le, 2018,
    https://arxiv.org/abs/1810.12890.

    Example:
        >>> import torch
        >>> DropBlock2d(0.1, block_size=3)(torch.ones(2, 8, 12, 12)).shape
        torch.Size([2, 8, 12, 12])
    """

    def __init__(self, p: float = 0.1, block_size: int = 7, *, exact: bool = True) -> None:
        super().__init__()
        self.p, self.block_size, self.exact = require_rate(p), _check_block_size(block_size), exact

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with blocks dropped in training and in draws; ``x`` itself in eval mode."""
        return _drop_block(x, 2, self.p, self.block_size, self.exact, self.training)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"p={self.p}, block_size={self.block_size}, exact={self.exact}"


@final
class DropBlock3d(nn.Module):
    """Drops cubes of each channel of a volume: (B, C, D, H, W). See ``DropBlock2d``.

    Args:
        p: Fraction of elements that is dropped, in [0, 1).
        block_size: the side of a block; maps smaller than that are dropped whole.
        exact: as in ``DropBlock2d``.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); ``block_size`` below 1, or an input of another rank.

    Example:
        >>> import torch
        >>> DropBlock3d(0.1, block_size=3)(torch.ones(2, 4, 8, 8, 8)).shape
        torch.Size([2, 4, 8, 8, 8])
    """

    def __init__(self, p: float = 0.1, block_size: int = 7, *, exact: bool = True) -> None:
        super().__init__()
        self.p, self.block_size, self.exact = require_rate(p), _check_block_size(block_size), exact

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with blocks dropped in training and in draws; ``x`` itself in eval mode."""
        return _drop_block(x, 3, self.p, self.block_size, self.exact, self.training)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"p={self.p}, block_size={self.block_size}, exact={self.exact}"


def _block_rate(p: float, block_size: int, sizes: tuple[int, ...], *, exact: bool = True) -> float:
    """Gamma: how likely each place where a block fits is a block's corner, so that a share ``p`` is dropped.

    Args:
        p: the fraction of elements that is to be dropped.
        block_size: the side of a block, cut to the map's own sizes.
        sizes: the map's sizes, such as (H, W).
        exact: solve for the gamma at which the expected share kept is 1 - p, overlaps counted. False: the paper's
            equation 1, gamma = p / block_size^2 * (feature size)^2 / (feature size - block_size + 1)^2, which ignores
            them.

    Example:
        >>> round(_block_rate(0.1, 7, (28, 28), exact=False), 6)          # 0.1 / 49 * 784 / 484
        0.003306
        >>> round(_block_rate(0.1, 7, (28, 28)), 6)
        0.003534
    """
    blocks = tuple(min(block_size, size) for size in sizes)
    room = math.prod(size - block + 1 for size, block in zip(sizes, blocks, strict=True))
    gamma = p / math.prod(blocks) * math.prod(sizes) / room
    return _exact_rate(p, blocks, sizes) if exact else min(gamma, 1.0)


@lru_cache(maxsize=256)
def _exact_rate(p: float, blocks: Shape, sizes: Shape) -> float:
    """Halve the interval until the expected share kept, which falls with gamma, is 1 - p."""
    times_covered = _covers(blocks, sizes)
    places = sum(times_covered.values())
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        kept = sum(count * (1 - middle) ** covers for covers, count in times_covered.items()) / places
        low, high = (middle, high) if kept > 1 - p else (low, middle)
    return (low + high) / 2


def _covers(blocks: Shape, sizes: Shape) -> dict[int, int]:
    """The number of places that are covered by each number of blocks that fit: {blocks that cover: places}."""
    found = {1: 1}
    for block, size in zip(blocks, sizes, strict=True):
        wider = dict[int, int]()
        for place in range(size):
            along = min(place, size - block) - max(place - block + 1, 0) + 1
            for covers, count in found.items():
                wider[covers * along] = wider.get(covers * along, 0) + count
        found = wider
    return found


def _drop_block(x: Tensor, places: int, p: float, block_size: int, exact: bool, training: bool) -> Tensor:
    if x.dim() not in (places + 1, places + 2):
        raise InvalidArgumentError(
            f"DropBlock{places}d takes {places + 2} axes: batch, channels and {places} of places.",
            got=f"shape {tuple(x.shape)}",
            cause="a layer for another number of axes was chosen, or the features were flattened before it",
            fix="put it between convolutions, before the pooling and the flattening; nn.Dropout suits (B, C)",
        )
    sizes = tuple(x.shape[-places:])
    blocks = tuple(min(block_size, size) for size in sizes)
    uniform = uniform_numbers(x, partial(_corners, blocks=blocks), f"drop_block{places}d", p, training)
    if uniform is None or p == 0:
        return x
    kept = _kept(uniform < _block_rate(p, block_size, sizes, exact=exact), blocks).to(uniform.dtype)
    counted = tuple(range(-places - 1, 0))
    elements = math.prod(kept.shape[-places - 1 :])
    # A row that lost everything has nothing to scale up.
    return drop(x, kept * (elements / kept.sum(counted, keepdim=True).clamp(min=1)))


def _corners(shape: Shape, blocks: Shape) -> Shape:
    """The shape of the places at which a whole block fits."""
    lead, sizes = shape[: -len(blocks)], shape[-len(blocks) :]
    return (*lead, *(size - block + 1 for size, block in zip(sizes, blocks, strict=True)))


def _kept(corner: Tensor, blocks: Shape) -> Tensor:
    """Which elements no block covers, given which places are a block's first corner."""
    covered = corner
    for axis, block in zip(range(-len(blocks), 0), blocks, strict=True):
        around = [0, 0] * (-1 - axis) + [block - 1, block - 1]
        padded = nn.functional.pad(covered, around)
        covered = padded.unfold(axis, block, 1).any(-1)
    return ~covered


def _check_block_size(block_size: int) -> int:
    fix = "block_size=7, the paper's side of a block in elements; 1 is plain dropout"
    require_integer(block_size, "block_size", 1, fix=fix)
    return block_size
