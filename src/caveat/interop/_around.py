"""A network that calls a module in a way of its own, under the module's own paths; a network in eval mode awhile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

from torch import nn

from caveat._intercept import state_kept


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


@contextmanager
def in_eval_mode(network: nn.Module) -> Generator[None]:
    """Puts a network into eval mode, and puts back what it was, and all else that a pass changes of it."""
    modules = list(network.modules())
    modes = [part.training for part in modules]
    with state_kept(modules, list(network.buffers())):
        for part in modules:
            part.training = False
        try:
            yield
        finally:
            for part, training in zip(modules, modes, strict=True):
                part.training = training
