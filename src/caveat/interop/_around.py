"""A network that calls a module in a way of its own, and whose modules have the paths that they have in the module."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, cast

from torch import nn


class Around(nn.Module):
    """The function ``call`` as a network whose parameters, buffers and dropout are those of ``module``.

    Example:
        >>> import torch
        >>> network = Around(nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)), lambda x: torch.zeros(1))
        >>> [path for path, _ in network.named_modules()]
        ['', '', '0', '1']
    """

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.forward = call

    def named_modules(self, *args: Any, **named: Any) -> Generator[tuple[str, nn.Module], None, None]:
        """The network itself, then the module and all in it under the paths that they have there."""
        yield "", self
        yield from cast("Iterable[tuple[str, nn.Module]]", self.module.named_modules(*args, **named))
