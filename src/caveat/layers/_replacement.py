"""Putting other modules in the place of some of a network's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import cast

from torch import nn

from caveat.errors import InvalidArgumentError, explain
from caveat.layers._insertion import Which, as_predicate, modules_by_path, nothing_chosen


def replace(model: nn.Module, *, which: Which, by: Callable[[nn.Module], nn.Module]) -> list[str]:
    """Replaces each module that ``which`` chooses by ``by(module)``, in place.

    A module that stands in several places is made once and replaced in all of them; what stands inside a chosen module
    is left to ``by``. The new module takes over the mode (train or eval), and the device of the network. For a copy,
    replace in ``copy.deepcopy(model)``.

    ``WeightDropout`` and ``ConcreteDropout`` take a layer's place with its own weights under their own keys, so a
    checkpoint of the plain network loads still (with ``strict=False`` where a learned rate is new).

    Args:
        model: Any network.
        which: a class of modules, ``nn.Linear``, or several; or a predicate over (path, module),
            ``caveat.paths("head.*")`` or your own.
        by: makes the new module from the old one: ``caveat.layers.ConcreteDropout``,
            ``lambda layer: WeightDropout(layer, 0.1)``, ``lambda old: nn.Dropout(0.2)``.

    Returns:
        The paths of the replaced modules, as ``named_modules`` gives them.

    Raises:
        InvalidArgumentError: ``which`` chooses nothing or the model itself, or ``by`` gives no module; then nothing is
            replaced.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        >>> replace(model, which=nn.Dropout, by=lambda old: nn.Dropout(0.1))
        ['1']
        >>> model[1].p
        0.1
    """
    meant = as_predicate(which)
    if not isinstance(cast(object, model), nn.Module) or meant("", model):
        raise InvalidArgumentError(_not_inside(model))
    inside = [(path, module) for path, module in modules_by_path(model).items() if path]
    chosen = _outermost({path: module for path, module in inside if meant(path, module)})
    if not chosen:
        raise InvalidArgumentError(nothing_chosen(model, "which"))
    parents = list(model.modules())
    made = {id(module): _made(path, module, by) for path, module in chosen.items()}
    at = next(chain(model.parameters(), model.buffers()), None)
    for module in chosen.values():
        _take_mode(made[id(module)], module)
        if at is not None:
            made[id(module)].to(at.device)
    for parent in parents:
        children: dict[str, nn.Module | None] = vars(parent)["_modules"]
        for name, child in children.items():
            if id(child) in made:
                children[name] = made[id(child)]
    return list(chosen)


def _outermost(chosen: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Those that stand in no other chosen module."""
    return {path: module for path, module in chosen.items() if not any(_is_inside(path, other) for other in chosen)}


def _is_inside(path: str, other: str) -> bool:
    return path.startswith(f"{other}.")


def _made(path: str, module: nn.Module, by: Callable[[nn.Module], nn.Module]) -> nn.Module:
    new = by(module)
    if not isinstance(cast(object, new), nn.Module):
        raise InvalidArgumentError(
            "by= makes a module from the module that it replaces.",
            got=f"{type(new).__name__} for {path!r} ({type(module).__name__})",
            cause="`by` changes the module in place and returns nothing, or returns a class",
            fix="return the new module: by=lambda layer: caveat.layers.WeightDropout(layer, 0.1)",
        )
    return new


def _take_mode(new: nn.Module, old: nn.Module) -> None:
    """What is new runs in the mode of the old module; what was part of that keeps its own (a frozen batch norm)."""
    known = {id(part) for part in old.modules()}
    for part in new.modules():
        if id(part) not in known:
            part.training = old.training


def _not_inside(model: object) -> str:
    return explain(
        "replace() exchanges modules inside a network.",
        got=f"the model itself ({type(model).__name__})",
        cause="the predicate is true of the whole network, or something other than a network was passed",
        fix="call the factory on it yourself, model = by(model), or leave the path '' out of the predicate",
    )
