"""Layers that cannot stretch: weights kept under a spectral norm, so that a residual network keeps distances.

With every branch of a residual network a contraction (norm below 1), x + branch(x) neither folds two inputs together
nor tears them apart: inputs far from the data stay far in feature space, which is what SNGP needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from caveat._checks import require_integer, require_number
from caveat.errors import InvalidArgumentError
from caveat.layers._insertion import Which, as_predicate

Operator = Callable[[Tensor, Tensor], Tensor]
_CONVOLUTIONS: dict[type[nn.Module], Any] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
_STEPS_AT_FIRST = 30
_TINY = 1e-12


class SpectralBound(nn.Module):
    """A weight as min(1, bound / norm) times itself, the norm by power iteration; see ``spectral_normalized``.

    The vectors of the iteration move in train mode only, once each time the weight is read.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor, bound: float, forward_map: Operator, example: Tensor) -> None:
        super().__init__()
        self.bound, self._map = bound, forward_map
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)  # any start does that is not orthogonal to the answer
            start = torch.randn(example.shape, generator=generator).to(weight)
            self.register_buffer("right", _unit(start))
            self.register_buffer("left", _unit(forward_map(weight, start)))
            for _ in range(_STEPS_AT_FIRST):
                self._step(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight within its bound."""
        if self.training:
            self._step(weight)
        left, right = self.left.clone(), self.right.clone()  # a later step must not write on what autograd holds
        norm = (left * self._map(weight, right)).sum()
        return weight * (self.bound / norm.clamp(min=_TINY)).clamp(max=1.0)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"bound={self.bound}"

    def _step(self, weight: Tensor) -> None:
        with torch.no_grad():
            weight = weight.detach()
            vjp = cast(Callable[..., Any], torch.func.vjp)  # torch types it as a pair or a triple
            back = vjp(partial(self._map, weight), self.right)[1]
            self.right.copy_(_unit(back(self.left)[0]))
            self.left.copy_(_unit(self._map(weight, self.right)))


def spectral_normalized(
    module: nn.Module,
    bound: float = 0.95,
    *,
    where: Which = nn.Module,
    positions: int = 16,
) -> nn.Module:
    """Keeps the spectral norm of every ``Linear`` and ``Conv1d/2d/3d`` in ``module`` at or under ``bound``.

    A weight whose norm is smaller is left as it is. The norm is followed by power iteration, one step for each forward
    pass in train mode; in eval mode nothing moves. A convolution is taken as the map that it is, padding and stride
    included, on a grid of ``positions`` along each axis, not as the matrix of its kernel. The norm is an
    estimate from below: while several singular values tie at the top, the true one may lie some 10 % above the bound.

    Args:
        module: changed in place (a parametrization of each ``weight``, undone by
            ``torch.nn.utils.parametrize.remove_parametrizations``).
        bound: the coefficient c of SNGP, above 0; below 1 makes every residual branch a contraction.
        where: which modules: a class, or a predicate over (path, module). The head of a network should not be bounded.
        positions: the side of the grid for convolutions; larger is slower and nearer to large images.

    Returns:
        ``module`` itself.

    Raises:
        InvalidArgumentError: the bound is not positive, or there is no such module.

    See "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", Liu,
    Lin, Padhy, Tran, Bedrax-Weiss and Lakshminarayanan, 2020, https://arxiv.org/abs/2006.10108.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> layer = nn.Linear(8, 8)
        >>> _ = nn.init.normal_(layer.weight)
        >>> _ = spectral_normalized(layer, 0.95)
        >>> round(torch.linalg.matrix_norm(layer.eval().weight.detach(), 2).item(), 2)
        0.95
    """
    require_number(bound, "bound", "(0, inf)", fix="bound=0.95 for residual branches")
    require_integer(positions, "positions", 1)
    named = cast(Iterable[tuple[str, nn.Module]], module.named_modules())
    kinds, meant = (nn.Linear, *_CONVOLUTIONS), as_predicate(where)
    chosen = [part for path, part in named if isinstance(part, kinds) and meant(path, part)]
    if not chosen:
        raise InvalidArgumentError(
            "There must be a Linear or a convolution to bound.",
            got=f"{type(module).__name__} without one that where= admits",
            cause="the wrong part of the network, or a predicate over other paths",
            fix="pass the trunk of the network",
        )
    for part in chosen:
        weight = cast(Tensor, part.weight)
        parametrize.register_parametrization(part, "weight", SpectralBound(weight, bound, *_operator(part, positions)))
    return module


class ResidualBlock(nn.Module):
    """x + branch(x): with a branch of norm below 1 a map that keeps distances, up to a factor.

    Args:
        branch: any module that returns the shape of its input.

    Example:
        >>> block = ResidualBlock(spectral_normalized(nn.Sequential(nn.Linear(4, 4), nn.ReLU())))
        >>> block(torch.ones(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """The input and what the branch adds."""
        return x + self.branch(x)


def _operator(part: nn.Module, positions: int) -> tuple[Operator, Tensor]:
    """The linear map of a module as a function of (weight, x), and an x of the right shape."""
    if isinstance(part, nn.Linear):
        return (lambda weight, x: F.linear(x, weight)), torch.empty(1, part.in_features)
    layer = cast(nn.Conv2d, part)  # or another rank: they are alike in all that is read here
    convolve = next(found for kind, found in _CONVOLUTIONS.items() if isinstance(part, kind))
    stride, dilation, groups = layer.stride, layer.dilation, layer.groups
    padding = list(layer._reversed_padding_repeated_twice)  # pyright: ignore[reportPrivateUsage]  # numbers, also of "same"
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode

    def map_of(weight: Tensor, x: Tensor) -> Tensor:
        return convolve(F.pad(x, padding, mode), weight, None, stride, 0, dilation, groups)

    reach = max(step * (size - 1) + 1 for size, step in zip(layer.kernel_size, layer.dilation, strict=True))
    side = max(positions, reach)
    return map_of, torch.empty(1, layer.in_channels, *[side] * len(layer.kernel_size))


def _unit(x: Tensor) -> Tensor:
    return cast(Tensor, x / cast(Any, x).norm().clamp(min=_TINY))
