"""A first pass over a batch, which changes nothing: what a network draws, and whether it can be trained at all."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._checks import describe
from caveat._intercept import (
    Bindings,
    FunctionMode,
    OwnDraws,
    Streams,
    devices_of,
    put_back,
    same_in_every_pass,
    warnings_caught,
)
from caveat.errors import CaveatError, InvalidArgumentError, NotFiniteError, explain
from caveat.train._noise import Noise
from caveat.train._passes import Objective
from caveat.train._stack import tensors_of
from caveat.train._table import Table, first_not_finite


@dataclass(frozen=True)
class Look:
    """What a first pass showed.

    Fields:
        rates: The dropout rates, site by site.
        unmanaged: Whether torch's own random state is drawn from, or seeded anew.
        elements: Number of elements that the torch calls of a pass return, per row.
        binds: An attribute that a pass binds anew or a tensor outside parameters and buffers that it writes on, if any.
        constants: Where generators stand whose numbers are the same in every pass.
    """

    rates: tuple[float, ...]
    unmanaged: bool
    elements: float
    binds: str | None = None
    constants: frozenset[bytes] = frozenset()


@contextmanager
def nothing_changed(networks: Sequence[nn.Module]) -> Generator[Bindings]:
    """Put back the values of all tensors, and what is bound on the modules unless layers were made."""
    places = [(network, tensors_of(network)) for network in networks]
    bound = Bindings([module for network in networks for module in network.modules()], objects=True)
    held = [tensor for _, (tensors, _) in places for tensor in tensors] + bound.tensors
    before = [tensor.detach().clone() for tensor in held]

    def restore() -> None:
        if not bound.grown():
            bound.restore()
        for network, (tensors, slots) in places:
            modules = list(network.modules())
            for slot in slots:
                vars(modules[slot.position])[slot.container][slot.name] = tensors[slot.block]
        with torch.no_grad():
            for tensor, value in zip(held, before, strict=True):
                tensor.copy_(value)

    with put_back(restore):
        yield bound


def look(network: nn.Module, objective: Objective, table: Table, rows: Tensor, seed: int) -> Look:
    """One pass in training mode over the rows ``rows`` of a table.

    Raises:
        InvalidArgumentError: the network cannot be called with the inputs, or the loss with what it returns and the
            targets; the targets would be broadcast; nothing is there to be trained.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InvalidArgumentError(_nothing_to_train(network))
    inputs, targets = table.whole(table.take(rows))
    network.train()

    devices = devices_of([*network.modules()])

    def run_once(counter: _Counter) -> Noise:
        noise = Noise([seed], rows.device, ahead=1, streams=Streams({rows.device}))
        with torch.no_grad(), noise:
            with counter:
                returned = _returned(network, inputs)
            _try_loss(objective, returned, targets)
            if objective.penalty is not None:
                objective.penalty(network)
        return noise

    def run() -> tuple[Noise, _Counter, str | None]:
        with nothing_changed([network]) as bound:
            versions, counter = _versions(bound), _Counter()
            noise = run_once(counter)
            moved = _versions(bound) != versions
            binds = next((name for name in bound.changed() if name not in ("_parameters", "_buffers")), None)
        return noise, counter, binds or ("a tensor that is no buffer" if moved else None)

    (noise, counter, binds), drew = OwnDraws(devices).run(run)
    streams = cast(Streams, noise.streams)
    # A network may count its passes, and seed by the count: between these nothing is put back.
    with nothing_changed([network] if streams.may_be_seeded() else []):
        found = same_in_every_pass(lambda: cast(Streams, run_once(_Counter()).streams), streams)
    each, constants = counter.elements / len(rows), frozenset(found.values())
    return Look(tuple(noise.seen), drew or bool(constants), each, binds, constants)


def _versions(bound: Bindings) -> list[int]:
    return [-1 if tensor.is_inference() else tensor._version for tensor in bound.tensors]


def check_targets(network: nn.Module, objective: Objective, table: Table) -> None:
    """Raise ``NotFiniteError`` where the targets hold NaN, unless the loss of that row is still a number."""
    found = [first_not_finite(leaf) for leaf in pytree.tree_leaves(table.targets)]
    bad = [row for row in found if row is not None]
    if not bad:
        return
    inputs, targets = table.whole(table.take(torch.tensor([bad[0]], device=table.leaves[0].device)))
    network.eval()
    with nothing_changed([network]), torch.no_grad():
        value = objective.fit(network, inputs, targets)
    if not bool(torch.isfinite(value)):
        raise NotFiniteError(
            "The targets must be finite numbers, unless the loss leaves the missing ones out.",
            got=f"NaN or infinity in row {bad[0]} of the targets",
            cause="missing values, or the logarithm of a target of 0",
            fix="leave out these rows, or use a loss with a mask for missing targets",
        )


class _Counter(FunctionMode):
    """Counts the elements of all tensors that torch calls return."""

    elements = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        value = func(*args, **(kwargs or {}))
        self.elements += value.numel() if isinstance(value, Tensor) else 0
        return value


class _Watch(FunctionMode):
    """Notes a call that broadcasts what the network returned against the targets: (B, 1) and (B,) to (B, B)."""

    def __init__(self, returned: Any, targets: Any) -> None:
        super().__init__()
        self.returned = [id(leaf) for leaf in pytree.tree_leaves(returned)]
        self.targets = [id(leaf) for leaf in pytree.tree_leaves(targets)]
        self.broadcast: tuple[Tensor, Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        value = func(*args, **(kwargs or {}))
        if isinstance(value, Tensor):
            ours = [arg for arg in args if id(arg) in self.returned]
            theirs = [arg for arg in args if id(arg) in self.targets]
            if ours and theirs and value.numel() > max(ours[0].numel(), theirs[0].numel()):
                self.broadcast = (ours[0], theirs[0])
        return value


def _returned(network: nn.Module, inputs: Any) -> Any:
    args, kwargs = inputs
    try:
        return network(*args, **kwargs)
    except CaveatError:
        raise
    except Exception as error:
        shapes = ", ".join(describe(leaf) for leaf in pytree.tree_leaves(inputs))
        raise InvalidArgumentError(
            "The network must take a batch of the inputs.",
            got=f"inputs of {shapes}, and {type(error).__name__}: {error}",
            cause="another number of features, or inputs that belong together passed as one",
            fix="try network(x[:2]); several inputs are a tuple ((x1, x2), y) or a dict ({'name': x}, y)",
        ) from error


def _try_loss(objective: Objective, returned: Any, targets: Any) -> None:
    watch = _Watch(returned, targets)
    try:
        with warnings_caught() as caught, watch:
            for loss in filter(None, (objective.loss, objective.validation_loss)):
                Objective(loss).fit(_Returns(returned), ((), {}), targets)
    except CaveatError:
        raise
    except Exception as error:
        raise InvalidArgumentError(_loss_failed(returned, targets, f", and {type(error).__name__}: {error}")) from error
    if watch.broadcast is not None or any("different to the input size" in str(warning.message) for warning in caught):
        raise InvalidArgumentError(_loss_failed(returned, targets, ", which were broadcast against each other"))


class _Returns(nn.Module):
    """A network that has returned already."""

    def __init__(self, returned: Any) -> None:
        super().__init__()
        self.returned = returned

    def forward(self) -> Any:
        return self.returned


def _loss_failed(returned: Any, targets: Any, how: str) -> str:
    ours, theirs = (
        ", ".join(describe(leaf) for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))
        for tree in (returned, targets)
    )
    return explain(
        "The loss must take what the network returns and the targets, in matching shapes.",
        got=f"returned {ours}; targets {theirs}{how}",
        cause="targets (B,) beside returns (B, 1), or class numbers that are not int64",
        fix="y.unsqueeze(1) for a regression with one target; y.long() for classes and cross-entropy",
    )


def _nothing_to_train(network: nn.Module) -> str:
    return explain(
        "A network can be trained only if it has parameters that require a gradient.",
        got=f"{type(network).__name__} without any",
        cause="requires_grad_(False) was called on all of it, or it has no parameters",
        fix="network.requires_grad_(True), or leave at least one layer unfrozen",
    )
