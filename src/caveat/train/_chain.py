"""Chains of plain layers, run on the tensors of all members directly: (M, B, F).

``vmap``'s book-keeping takes as long as a layer of a small perceptron. What is not such a chain goes through ``vmap``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from caveat._intercept import as_draws, drop, has_draws, with_draws_first
from caveat.train._noise import Noise, linear_of_members
from caveat.train._stack import Stack

Layer = Callable[[Tensor, Noise], Tensor]
_ELEMENT_BY_ELEMENT = {
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus,
    nn.Identity,
}  # fmt: skip
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Chain:
    """The layers of a stack whose members are nothing but a chain of them."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers

    def __call__(self, inputs: Any, noise: Noise) -> Tensor | None:
        """What the members return, as vmap sees it at the level of ``noise``; None for inputs of another form."""
        args, kwargs = inputs
        x, level = args[0] if len(args) == 1 and not kwargs else None, noise.level
        if level is None or not isinstance(x, Tensor) or x.dim() != 2 or not has_draws(x, level):
            return None
        x = with_draws_first(x)
        for layer in self._layers:
            x = layer(x, noise)
        return as_draws(x, level)


def chain_of(stack: Stack) -> Chain | None:
    """The chain that a stack is; None if it is something else, or if a layer has hooks or a forward of its own."""
    members = stack.modules[0]
    layers: list[Layer] = []
    for position, module in enumerate(members):
        parameters = {slot.name: stack.blocks[slot.block] for slot in stack.slots if slot.position == position}
        layer = _layer(module, parameters)
        changed = "forward" in vars(module) or any(vars(module)[name] for name in _HOOKS)
        if changed or (layer is None and not _is_bare_sequence(module)):
            return None
        layers += [] if layer is None else [layer]
    # a module that stands in two places is listed once
    return Chain(layers) if len(members) == _count(stack.networks[0]) else None


def _layer(module: nn.Module, parameters: dict[str, Tensor]) -> Layer | None:
    if type(module) is nn.Linear:
        return partial(_linear, parameters["weight"], parameters.get("bias"))
    if type(module) is nn.Dropout:
        return partial(_dropout, module)
    return (lambda x, noise: module(x)) if type(module) in _ELEMENT_BY_ELEMENT else None


def _linear(weight: Tensor, bias: Tensor | None, x: Tensor, noise: Noise) -> Tensor:
    return linear_of_members(x, weight, bias)


def _dropout(module: nn.Dropout, x: Tensor, noise: Noise) -> Tensor:
    if not module.training:
        return x
    return drop(x, noise.masks(module.p, x[0].numel(), scaled=True).view(x.shape))


def _is_bare_sequence(module: nn.Module) -> bool:
    return type(module) is nn.Sequential and len(module) > 0


def _count(module: nn.Module) -> int:
    """The modules in a network, each as often as it stands there."""
    return 1 + sum(_count(child) for child in cast(dict[str, nn.Module], vars(module)["_modules"]).values())
