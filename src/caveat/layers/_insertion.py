"""Giving dropout to a network that has none, and taking it back.

The dropout becomes a child of the module that it follows, and a forward hook runs it on what that module returns. A
dropout has no parameters, so no key of the state dict changes: old checkpoints load, and new ones load into the network
as it was. No index of a ``Sequential`` that is in use moves either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from caveat._checks import require_model, require_rate
from caveat._dropping import INSERTED, drop_returned
from caveat.errors import InvalidArgumentError, explain

ModulePredicate = Callable[[str, nn.Module], bool]
"""``which(path, module)``: is this module meant? The path is the one that ``named_modules`` gives."""
Which = ModulePredicate | type[nn.Module] | tuple[type[nn.Module], ...]

_LISTS = (nn.ModuleList, nn.ModuleDict)


def insert_dropout(
    model: nn.Module, p: float, *, after: Which, by: Callable[[float], nn.Module] = nn.Dropout
) -> list[str]:
    """Gives ``model`` dropout after each module that ``after`` chooses, in place.

    Nothing else of the network changes: its keys, its class, the order and the names of its modules. Each dropout is
    the child ``inserted_dropout`` of the module it follows, where you may set its ``p``; ``remove_dropout`` takes all
    of them out. A module that is used twice is followed by dropout twice, with masks of its own each time. For a copy,
    insert into ``copy.deepcopy(model)``.

    It drops what the module returns: a tensor, or the first of a tuple (the output of an ``nn.LSTM``). The lists
    ``ModuleList`` and ``ModuleDict`` run nothing themselves and are passed over, whatever ``after`` says of them.

    Args:
        model: Any network.
        p: the rate, in [0, 1).
        after: a class of modules, ``nn.ReLU``, or several, ``(nn.ReLU, nn.GELU)``; or a predicate over (path, module),
            ``caveat.paths("layer*.relu")`` or your own.
        by: makes the dropout from its rate: ``nn.Dropout``, ``caveat.layers.SpatialDropout2d``, ...

    Returns:
        The paths of the new sites, as ``caveat.audit`` lists them and ``caveat.paths`` matches them.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1), or ``after`` chooses nothing or a module that cannot be followed;
            then nothing was inserted.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> keys = list(model.state_dict())
        >>> insert_dropout(model, 0.2, after=nn.ReLU)
        ['1.inserted_dropout']
        >>> list(model.state_dict()) == keys
        True
    """
    require_rate(p)
    _check_open(model)
    follows = as_predicate(after)
    chosen = {path: m for path, m in modules_by_path(model).items() if not _is_list(m) and follows(path, m)}
    if not chosen:
        raise InvalidArgumentError(nothing_chosen(model, "after"))
    made = {path: by(p) for path in chosen}
    for path, module in chosen.items():
        _check_insertable(path, module, made[path])
    for path, module in chosen.items():
        _insert(module, made[path])
    return [_below(path) for path in chosen]


def remove_dropout(model: nn.Module) -> list[str]:
    """Removes every dropout that ``insert_dropout`` inserted, and returns their paths.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> before = str(model)
        >>> _ = insert_dropout(model, 0.2, after=lambda path, module: path == "1")
        >>> remove_dropout(model), str(model) == before
        (['1.inserted_dropout'], True)
    """
    found = {path: module for path, module in modules_by_path(model).items() if INSERTED in vars(module)["_modules"]}
    for module in found.values():
        delattr(module, INSERTED)
        hooks = vars(module)["_forward_hooks"]
        for key in [key for key, hook in hooks.items() if hook is drop_returned]:
            del hooks[key]
    return [_below(path) for path in found]


def nothing_chosen(model: nn.Module, argument: str) -> str:
    """The text of the error for a predicate that is False everywhere."""
    some = [f"{path!r} ({type(module).__name__})" for path, module in modules_by_path(model).items() if path][:8]
    return explain(
        f"{argument}= must choose a module of the network.",
        got=f"a predicate that chose none of {', '.join(some) or 'a network without children'}, ...",
        cause="a path is spelled in another way, or the network calls functions (F.relu) where it has no module",
        fix=f"choose by class, {argument}=nn.Linear, or by one of the paths above",
    )


def _insert(module: nn.Module, dropout: nn.Module) -> None:
    dropout.train(module.training)
    module.add_module(INSERTED, dropout)
    if not isinstance(module, nn.Sequential):  # that runs its children by itself
        module.register_forward_hook(drop_returned)


def _is_list(module: nn.Module) -> bool:
    return type(module) in _LISTS


def _below(path: str) -> str:
    return f"{path}.{INSERTED}" if path else INSERTED


def _check_open(model: nn.Module) -> None:
    """Refuse what would not run a hook that is put on now."""
    compiled = hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None
    closed = isinstance(model, torch.jit.ScriptModule) or compiled
    require_model(model)
    if closed:
        raise InvalidArgumentError(
            "Dropout is inserted into an nn.Module that is not compiled.",
            got=type(model).__name__,
            cause="the network was compiled first; what is compiled does not see hooks that come later",
            fix="insert into the network itself, then torch.compile it",
        )


def _check_insertable(path: str, module: nn.Module, dropout: object) -> None:
    named = f"{path or '(the model itself)'!r} ({type(module).__name__})"
    iterates = isinstance(module, (nn.Sequential, *_LISTS)) and not _runs_in_order(module)
    if hasattr(module, INSERTED):
        got, cause = f"{named}, which has one", "insert_dropout was called twice with predicates that overlap"
        fix = f"set the rate there, module.{INSERTED}.p = 0.2, or call caveat.layers.remove_dropout(model) first"
    elif isinstance(module, torch.jit.ScriptModule) or iterates:
        got, cause = named, "it runs its children in a way of its own, which a further child would upset"
        fix = "choose the modules inside it"
    elif not isinstance(dropout, nn.Module):
        got, cause = f"by(p) gave {type(dropout).__name__}", "`by` makes no module"
        fix = "pass a class or a function of the rate: by=nn.Dropout2d, by=lambda p: MyDropout(rate=p)"
    else:
        return
    raise InvalidArgumentError("One dropout module can follow a module.", got=got, cause=cause, fix=fix)


def _runs_in_order(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def as_predicate(which: Which) -> ModulePredicate:
    """A predicate as it is; of a class, or of several, whether a module is one of those."""
    if isinstance(which, (type, tuple)):
        return lambda path, module: isinstance(module, which)
    return which


def modules_by_path(model: nn.Module) -> dict[str, nn.Module]:
    """Every module of ``model``, itself under '', once, by the first path that leads to it."""
    return dict(cast(Any, model.named_modules()))
