"""How a recipe's outputs follow from what the network returns: which tensor of it, and as it is, softmax, ..."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._checks import describe
from caveat._inputs import tensors_in
from caveat.errors import InvalidArgumentError

_SUM_TOLERANCE, _FAR = 1e-3, 1e6


@dataclass(frozen=True)
class Reading:
    """Which of the tensors that the network returns, and the function of it, draw by draw (S, B, ...)."""

    leaf: int
    name: str
    function: Callable[[Tensor], Tensor]


def leaves_of(returned: Any) -> list[Tensor]:
    """The floating-point tensors in what a network returned, in order."""
    return [leaf for leaf in tensors_in(((returned,), {})) if leaf.is_floating_point()]


def leaves_like(outputs: Tensor, leaves: list[Tensor]) -> list[int]:
    """Which of the network's tensors could be what the recipe returns T of.

    Raises:
        InvalidArgumentError: none has that shape.
    """
    wanted = tuple(outputs.shape[1:])
    fitting = [at for at, leaf in enumerate(leaves) if tuple(leaf.shape) == wanted]
    fitting = fitting or [at for at, leaf in enumerate(leaves) if _squeezed(leaf.shape) == _squeezed(wanted)]
    if fitting:
        return fitting
    shapes = [tuple(leaf.shape) for leaf in leaves]
    swapped = any(tuple(outputs.transpose(0, 1).shape[1:]) == shape for shape in shapes) and outputs.dim() > 2
    raise InvalidArgumentError(
        f"A recipe returns T outputs (T, B, ...), each of the shape that the network returns: {shapes}.",
        got=describe(outputs),
        cause="draws along the second axis" if swapped else "an average over the draws, classes or rows",
        fix="outputs.transpose(0, 1)" if swapped else "return torch.stack([model(x) for _ in range(T)])",
    )


def find_reading(outputs: Tensor, candidates: dict[int, Tensor]) -> tuple[Reading, Tensor]:
    """The reading that brings caveat's draws (N, B, ...) of the network's tensors nearest to the recipe's outputs.

    Returns:
        The reading, and caveat's draws read so, in the outputs' shape.
    """
    best: tuple[float, Reading, Tensor] | None = None
    sums = _sums_to_one(outputs)
    for leaf, draws in candidates.items():
        for name, function in _FUNCTIONS.items():
            read = function(draws).reshape(len(draws), *outputs.shape[1:])
            distance = _distance(outputs, read) + (0 if _sums_to_one(read) == sums else _FAR)
            if best is None or distance < 0.8 * best[0]:  # the simpler one, unless another is nearer
                best = distance, Reading(leaf, name, function), read
    assert best is not None
    return best[1], best[2]


def _sums_to_one(draws: Tensor) -> list[bool]:
    """Returns whether draws (S, B, ...) are probabilities, or logs of them, over the last axis or axis 1."""
    values = draws.double()
    axes = {-1, 2} if draws.dim() > 2 else set[int]()
    sums = [each.sum(axis) for axis in sorted(axes) for each in (values, values.exp())]
    return [bool(((total - 1).abs() < _SUM_TOLERANCE).all()) for total in sums]


def _distance(outputs: Tensor, draws: Tensor) -> float:
    """The mean distance of means and of spreads, in spreads of the outputs."""
    a, b = outputs.double(), draws.double()
    floor = 1e-2 * float(a.abs().amax().nan_to_num(1.0, 1.0)) + 1e-9
    apart = (a.mean(0) - b.mean(0)).abs() + (a.std(0) - b.std(0)).abs()
    return float((apart / (a.std(0) + floor)).nan_to_num(1e9, 1e9).mean()) + 1e-3


def _squeezed(shape: tuple[int, ...] | torch.Size) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _over(axis: int, function: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    def read(draws: Tensor) -> Tensor:
        return function(draws, dim=axis) if draws.dim() > 2 else draws

    return read


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda draws: draws,
    "through softmax": _over(-1, torch.softmax),
    "through softmax over axis 1": _over(2, torch.softmax),
    "through log-softmax": _over(-1, torch.log_softmax),
    "through log-softmax over axis 1": _over(2, torch.log_softmax),
    "through sigmoid": torch.sigmoid,
    "through log-sigmoid": F.logsigmoid,
    "through exp": torch.exp,
    "through log": lambda draws: draws.log(),
}
"""Of draws (S, B, ...): the simplest first. Axis 1 of one output is axis 2 of draws."""
