"""Which networks can be the members of an ensemble, that they return values of one shape, and that they differ."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from os import PathLike
from typing import Any, cast

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._checks import describe
from caveat._engine import Values
from caveat._intercept import Network
from caveat.errors import InvalidArgumentError, OutputMismatchError, explain_no_network

_RULE = "An ensemble is a list of different torch.nn.Modules on one device."


def check_networks(networks: Iterable[nn.Module]) -> tuple[nn.Module, ...]:
    """The networks, if they can be members: at least one, each a module, no two the same, all on one device."""
    if isinstance(networks, nn.Module) and not isinstance(networks, (nn.ModuleList, nn.Sequential)):
        raise _invalid(f"one {type(networks).__name__}", "a single network was passed", "pass a list: [network]")
    if isinstance(networks, (str, PathLike, Mapping)):
        raise InvalidArgumentError(explain_no_network(cast(object, networks), _RULE))
    if isinstance(networks, nn.Sequential):
        raise _invalid("an nn.Sequential", "a single network was passed; its layers are no members", "pass [network]")
    try:
        members = tuple(cast(Iterable[Any], networks))
    except TypeError:
        raise _invalid(type(networks).__name__, "something other than a list", "pass [net_a, net_b]") from None
    if not members:
        raise _invalid("an empty list", "a filter or a glob that found nothing", "pass at least one network")
    for number, member in enumerate(members):
        if isinstance(member, (str, PathLike, Mapping)):
            said = explain_no_network(cast(object, member), _RULE, place=f" as member {number}")
            at_once = "caveat.samplers.snapshots(checkpoints, model=network, output=...)"
            raise InvalidArgumentError(f"{said}; or all of them at once: {at_once}")
        if not isinstance(member, nn.Module):
            raise _invalid(
                f"{type(member).__name__} as member {number}",
                "a class, a function or a sampler was passed",
                "pass networks; caveat.mixture takes samplers",
            )
        twin = next(place for place, other in enumerate(members) if other is member)
        if twin != number:
            raise _invalid(
                f"one network as member {twin} and as member {number}",
                "[network] * M, or a loop that appends the network it goes on training",
                "append copy.deepcopy(network), or build a new network for each member",
            )
    places = [Network(member).device() for member in members]
    if len(set(places)) > 1:
        other = next(number for number, place in enumerate(places) if place != places[0])
        raise _invalid(
            f"member 0 on {places[0]} and member {other} on {places[other]}",
            "members loaded from checkpoints that remember their device",
            "move them: [network.to(device) for network in networks]",
        )
    return members


def check_same_values(values: Sequence[Values], what: str = "Member") -> None:
    """Raise ``OutputMismatchError`` unless all members return the heads, shapes, dtypes and device of the first.

    Args:
        values: for each member what was read of it, (B, ...).
        what: the word for a member.
    """
    first = _described(values[0])
    for number, value in enumerate(values):
        if _described(value) != first:
            raise OutputMismatchError(
                f"The output of every {what.lower()} must have the same shape, dtype and device.",
                got=f"{what} 0 gives {first}; {what.lower()} {number} gives {_described(value)}",
                cause="networks with different numbers of classes or targets, or in different precision",
                fix=f"train {what.lower()} {number} for the same outputs, or cast it: networks[{number}].float()",
            )


def warn_of_equal_members(models: Sequence[nn.Module], values: Sequence[Values]) -> None:
    """Warns where two networks return the same values by the same numbers.

    Equal values alone say little of a row or two, such as zeros, and equal numbers little of two architectures.

    Args:
        models: M networks.
        values: What was read of each of them, of the same rows.
    """
    for a, b in combinations(range(len(models)), 2):
        if _are_equal(*(pytree.tree_leaves(values[each]) for each in (a, b))) and _are_equal(
            *([*models[each].parameters(), *models[each].buffers()] for each in (a, b))
        ):
            warnings.warn(
                f"Members {a} and {b} of this ensemble have the same weights, so that one network counts twice and "
                "uncertainty is too small. Usual cause: one checkpoint loaded twice, or copies of a network that are "
                "not trained yet. Train each from its own seed, as caveat.fit_ensemble does, or leave one out.",
                stacklevel=2,
            )
            return


def _are_equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Returns whether there are tensors, and they are the same.

    The last are compared first: members of one backbone differ there.
    """
    pairs = [*zip(some, others, strict=False)][::-1]
    return bool(pairs) and len(some) == len(others) and all(_is_equal(a, b) for a, b in pairs)


def _is_equal(a: Tensor, b: Tensor) -> bool:
    """Returns whether two tensors are the same; those of a kind that torch cannot compare are not."""
    if a is b:
        return True
    try:
        return a.dtype == b.dtype and a.layout == b.layout and a.shape == b.shape and a.equal(b)
    except RuntimeError:  # sparse ones, and classes of tensors that do not implement it
        return False


def _described(values: Values) -> str:
    if isinstance(values, Tensor):
        return f"{describe(values)} on {values.device}"
    return "{" + ", ".join(f"{name}: {_described(value)}" for name, value in values.items()) + "}"


def _invalid(got: str, cause: str, fix: str) -> InvalidArgumentError:
    return InvalidArgumentError(_RULE, got=got, cause=cause, fix=fix)
