"""Deep ensemble: each draw is one of several networks that were trained apart.

See "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", Lakshminarayanan, Pritzel and
Blundell, 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Generic, cast

from torch import Tensor, nn

from caveat._checks import require_choice
from caveat._engine import BACKENDS, Backend
from caveat._intercept import Network
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError, explain, explain_no_network
from caveat.predictive import Output, P, P_co, as_output
from caveat.samplers._line import in_a_line
from caveat.samplers._members._group import BoundGroup, Group

_RULE = "An ensemble is a list of different torch.nn.Modules on one device."


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Generic[P_co]):
    """The sampler that ``caveat.ensemble`` makes; see there. Draw i is member i, whatever the seed."""

    models: tuple[nn.Module, ...]
    output: Output[P_co]
    backend: Backend = None
    in_dims: Any = None
    _groups: list[Group] = field(default_factory=list[Group], repr=False)

    __repr__ = in_a_line

    @property
    def size(self) -> int:
        """How many members M there are."""
        return len(self.models)

    @property
    def strata(self) -> None:
        """Members are independent."""
        return None

    @property
    def model(self) -> nn.Module:
        """The first member, which shows what inputs look like."""
        return self.models[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what was recorded of the members: it is found again where the copy is used."""
        return {**vars(self), "_groups": list[Group]()}

    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> BoundGroup:
        """Hold what is needed to evaluate the members on ``x``: see ``caveat._engine.Sampler``."""
        if not self._groups:
            self._groups.append(Group(self.models, self.output.read, self.backend, self.in_dims))
        return self._groups[0].bind(x, check_seed(seed), rows, gradient)


def ensemble(
    networks: Iterable[nn.Module],
    *,
    output: Output[P] | dict[str, Output],
    in_dims: Any = None,
    backend: Backend = None,
) -> Ensemble[P]:
    """A sampler of M networks that were trained apart: a deep ensemble. Draw i is member i.

    Every member runs as in eval mode, whatever mode it is in; none is changed. Members of one architecture are
    evaluated by a recorded program: all at once where there is little to compute, as for small networks on few rows,
    else one after the other, on as many rows at a time as stay in the cache.

    Args:
        networks: M networks, or what ``caveat.fit_ensemble`` returns. They may differ in architecture.
        output: how to read what each returns, or a dict of outputs by name for several heads.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.
        backend: "vectorized" (each operation is one of all members) or "loop" (member after member);
            chosen by a rule on sizes if not given.

    Returns:
        A sampler of size M: ``caveat.predict(sampler, x)`` uses all of them. For networks with dropout that
        shall stay on, see ``caveat.mixture``.

    Raises:
        InvalidArgumentError: no networks, something else than networks, one of them twice, or on several devices.
        OutputMismatchError: at the first batch, if a member's values have another shape; it says which.

    See "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", Lakshminarayanan, Pritzel and
    Blundell, 2017, https://arxiv.org/abs/1612.01474.

    Example:
        >>> import caveat, torch
        >>> networks = [nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)) for _ in range(5)]
        >>> pred = caveat.predict(ensemble(networks, output=caveat.Logits()), torch.zeros(2, 4))
        >>> pred.mean.shape, int(pred.count)
        (torch.Size([2, 3]), 5)
    """
    members = check_networks(networks)
    require_choice(backend, "backend", BACKENDS, optional=True)
    return Ensemble(members, as_output(output), backend, in_dims)


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
        raise _invalid(type(networks).__name__, "something else than a list", "pass [net_a, net_b]") from None
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


def _invalid(got: str, cause: str, fix: str) -> InvalidArgumentError:
    return InvalidArgumentError(explain(_RULE, got=got, cause=cause, fix=fix))
