"""One given network run as in eval mode, with nothing of it moved.

What a network does on inputs of one kind is looked at once. Where a plain call of the network in eval mode gives what
the careful pass gives, writes nothing and draws nothing, a plain call it is from then on, while its flags say eval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from caveat._engine import Task, Values, is_out_of_memory, join_rows, replay
from caveat._inputs import Inputs, map_leaves, map_tensors, structure_of, tensors_in
from caveat._intercept import (
    Known,
    MaskSource,
    Network,
    OwnDraws,
    Pass,
    Probe,
    Rules,
    agree,
    check_initialized,
    device_of,
    devices_of,
    patched,
    probe_network,
    state_kept,
)
from caveat.errors import CaveatError
from caveat.samplers._members._watch import Watch


@dataclass
class Kind:
    """What is known of a network on inputs of one kind; ``plainly`` is None until a plain call has been tried."""

    probe: Probe
    plainly: bool | None = None

    @property
    def separable(self) -> bool:
        """Whether rows can be asked for apart from the others."""
        return self.probe.separable


class EvalNetwork:
    """A network whose every call is as in eval mode."""

    def __init__(self, model: nn.Module, read: Callable[[Any], Values], in_dims: Any = None) -> None:
        check_initialized(Network(model))
        self.model, self._read, self._in_dims = model, read, in_dims
        self._watch = Watch([model])
        self._kinds = Known[Kind]()

    def __getstate__(self) -> tuple[Any, ...]:
        return self.model, self._read, self._in_dims  # what a copy's network does is looked at anew

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)

    @property
    def device(self) -> torch.device:
        """Where the parameters (or else the buffers) are now."""
        return device_of(self.model)

    def kind(self, inputs: Inputs) -> Kind:
        """What is known of the network on such inputs, looked at now if they are the first."""
        if not self._watch.same_structure():
            self._kinds.clear()
            self._watch = Watch([self.model])
        autocast = torch.is_autocast_enabled(self.device.type)
        _, known = self._kinds.get(inputs, autocast)
        if known is not None:
            return known
        network = Network(self.model)
        with patched():
            found = probe_network(network, inputs, _nothing, False, self._read, self._in_dims)
        kind = Kind(found)
        self._kinds.add(inputs, found.axes, kind, autocast)
        return kind

    def probe(self, inputs: Inputs) -> None:
        """One careful pass over inputs of any kind, for what a mode around it wants to see."""
        network = Network(self.model)
        with patched(), state_kept(network.modules, network.buffers(), random_states=False):
            OwnDraws(devices_of(network.modules)).run(lambda: Pass(network, Rules(_nothing), inputs).run())

    def draw(self, inputs: Inputs, rows: Tensor, kind: Kind, draw: int, seed: int, gradient: bool) -> Values:
        """The network's values, (B, ...); ``draw`` and ``seed`` matter only if it draws random numbers in eval mode."""
        try:
            with torch.set_grad_enabled(gradient):
                return self._evaluate(inputs, rows, kind, draw, seed)
        except Exception as error:
            separable = kind.separable and len(rows) > 1
            if not is_out_of_memory(error) or isinstance(error, CaveatError) or not separable:
                raise
        return self._in_halves(inputs, rows, kind, draw, seed, gradient)

    def _in_halves(self, inputs: Inputs, rows: Tensor, kind: Kind, draw: int, seed: int, gradient: bool) -> Values:
        inputs_axes, axes = kind.probe.axes, kind.probe.output_axes
        assert inputs_axes is not None
        assert axes is not None
        parts = [
            self.draw(inputs_axes.take(inputs, at), rows[at], kind, draw, seed, gradient)
            for at in torch.arange(len(rows), device=rows.device).chunk(2)
        ]
        return join_rows(parts, axes)

    def _evaluate(self, inputs: Inputs, rows: Tensor, kind: Kind, draw: int, seed: int) -> Values:
        if self._watch.training() or kind.plainly is False:
            return self._carefully(inputs, rows, kind, draw, seed)
        if kind.plainly is None:
            values = self._carefully(inputs, rows, kind, draw, seed)
            kind.plainly = self._plain_is_right(inputs, kind, values)
            return values
        return self._plainly(inputs)

    def _plainly(self, inputs: Inputs) -> Values:
        args, kwargs = inputs
        return self._read(self.model(*args, **kwargs))

    def _carefully(self, inputs: Inputs, rows: Tensor, kind: Kind, draw: int, seed: int) -> Values:
        network, found = Network(self.model), kind.probe
        source = MaskSource(seed, device=rows.device)
        detach = found.rules.gradient and not torch.is_grad_enabled()
        task = Task(network, found.rules, inputs, rows, self._read, None, found.unmanaged, detach=detach)
        graph = torch.set_grad_enabled(torch.is_grad_enabled() or found.rules.gradient)
        with graph, patched(), state_kept(network.modules, found.written, random_states=found.unmanaged):
            return map_tensors(lambda value: value[0], replay(task, source, range(draw, draw + 1)))

    def _plain_is_right(self, inputs: Inputs, kind: Kind, values: Values) -> bool:
        """Returns whether a plain call gives these values, and leaves inputs, buffers and random states as they are."""
        rules = kind.probe.rules
        if kind.probe.moves or rules.sites or not structure_of(inputs).flat:
            return False
        network = Network(self.model)
        copies = map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)
        watched = tensors_in(copies)
        watched += [*network.model.parameters(), *network.buffers()]
        devices = devices_of(network.modules)
        with torch.no_grad(), state_kept(network.modules, network.buffers(), random_states=False):
            before = _versions(watched)
            try:
                plain, drew = OwnDraws(devices).run(lambda: self._plainly(copies))
            except Exception:  # a mode around it may not go with a compiled call
                return False
            if drew or _versions(watched) != before:
                return False
        return agree(map_tensors(Tensor.detach, values), plain)


def _versions(tensors: list[Tensor]) -> list[Any]:
    """How often each has been written on; where torch does not count, the values."""
    return [tensor.sum().item() if tensor.is_inference() else tensor._version for tensor in tensors]


def rows_of(inputs: Inputs, found: Probe, rows: Tensor | None, device: torch.device) -> tuple[Inputs, Tensor]:
    """The inputs of these rows, and the rows' numbers in the batch; all of them where rows cannot be separated."""
    count = found.rows if found.axes is None else found.axes.count(inputs) or 1
    if rows is None or found.axes is None:
        return inputs, torch.arange(count, device=device)
    return found.axes.take(inputs, rows), rows.to(device)


def _nothing(path: str, module: nn.Module) -> bool:
    return False
