"""How several networks are to run on inputs of one kind: found out once, by a pass over a row or two.

As a program, of one operation for all or unrolled, in pieces of rows; or called one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from caveat._engine import (
    Backend,
    CannotRecordError,
    Program,
    Values,
    allowed_bytes,
    fitting,
    join_rows,
    split_rows,
    stacked,
)
from caveat._inputs import Inputs, map_leaves, structure_of
from caveat._intercept import agree
from caveat.errors import InvalidArgumentError, OutputMismatchError, explain
from caveat.samplers._members._as_eval import EvalNetwork, Kind, rows_of
from caveat.samplers._members._choice import Counter, Way, choose_rows, choose_way
from caveat.samplers._members._networks import check_same_values, warn_of_equal_members
from caveat.samplers._members._stack import Stack, alike, tensors_of, total_bytes
from caveat.samplers._members._watch import Watch

_PROBED_ROWS = 2
_MOST_PREPARED = 64


@dataclass
class Prepared:
    """What is known for inputs of one kind and size: of each member, and how to run all of them.

    ``rows_at_once`` is None where the batch is not split. Of the ``programs`` the last is for the last piece of rows,
    the first for the others; there is none where members are called. ``stamp`` is that of the stack when they took what
    they need of it. ``at_once`` is how many members' values go into one piece of draws.
    """

    kinds: list[Kind]
    rows_at_once: int | None = None
    programs: list[Program] = field(default_factory=list[Program])
    stamp: int = 0
    at_once: int = 1
    _plain: bool = False

    @property
    def separable(self) -> bool:
        """Whether rows can be asked for apart from the others."""
        first = self.kinds[0].probe
        axes = {(kind.probe.axes, kind.probe.output_axes) for kind in self.kinds}
        return self.kinds[0].separable and axes == {(first.axes, first.output_axes)}

    def plain(self) -> bool:
        """Whether a plain call of every member, in eval mode, is known to be what a careful pass would be."""
        self._plain = self._plain or all(kind.plainly is True for kind in self.kinds)
        return self._plain

    def refresh(self, stamp: int) -> None:
        """Compute anew what the programs take from the parameters alone, of which ``stamp`` is the stack's."""
        for program in self.programs:
            with torch.inference_mode(False), torch.no_grad():
                program.refresh()
        self.stamp = stamp

    def pieces(self, inputs: Inputs) -> list[Inputs]:
        """The inputs in pieces of as many rows as are run at once."""
        axes = self.kinds[0].probe.axes
        if self.rows_at_once is None or axes is None:
            return [inputs]
        return split_rows(inputs, axes, self.rows_at_once)

    def join(self, parts: list[Values], *, lead: int = 0) -> Values:
        """The values of the pieces as those of the batch."""
        if len(parts) == 1:
            return parts[0]
        axes = self.kinds[0].probe.output_axes
        assert axes is not None
        return join_rows(parts, axes, lead=lead)


class Members:
    """Some networks in one state: what is remembered of them until one of them is changed.

    ``stack`` is there once a program has been recorded, ``prepared`` by kinds and sizes of inputs.
    """

    def __init__(
        self, models: Sequence[nn.Module], read: Callable[[Any], Values], backend: Backend, in_dims: Any
    ) -> None:
        self.models, self.read = tuple(models), read
        self._backend: Backend = backend
        self.networks = [EvalNetwork(model, read, in_dims) for model in models]
        self.watch, self.alike = Watch(self.models), len(self.models) > 1 and alike(self.models)
        self.stack: Stack | None = None
        self._making = threading.Lock()
        self.prepared: dict[Any, Prepared] = {}

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.networks[0].device

    def plain(self, prepared: Prepared) -> bool:
        """Returns whether plain calls of all members are right now what careful passes would be."""
        return prepared.plain() and not self.watch.training()

    def loop(self, prepared: Prepared, inputs: Inputs, rows: Tensor, draws: range, seed: int) -> Iterator[Values]:
        """The values of some members, one after the other, without a graph."""
        for draw in draws:
            yield self.networks[draw].draw(inputs, rows, prepared.kinds[draw], draw, seed, gradient=False)

    def take_values(self) -> bool:
        """Bring the stack up to the members' values of now; False where these are of other kinds than known."""
        if not self.watch.same_kinds():
            return False
        values = self.watch.values_now()
        if self.stack is not None:
            self.stack.take_values()
        self.watch.note(values)  # last: a signal before it leaves the stack to be brought up to date again
        return True

    def prepare(self, key: Any, inputs: Inputs) -> Prepared:
        """Decide by a pass over a row or two how to run the members on such inputs, which are known by ``key`` then.

        Raises:
            InvalidArgumentError: a program was asked for, and there can be none.
            OutputMismatchError: members that return values of several shapes.
        """
        prepared = self._prepare(inputs)
        if len(self.prepared) >= _MOST_PREPARED:
            self.prepared.clear()
        self.prepared[key] = prepared
        return prepared

    def _prepare(self, inputs: Inputs) -> Prepared:
        prepared = Prepared(self._kinds(inputs))
        probed, count = self._probed(prepared, inputs)
        values = self._looped(prepared, probed)
        with Counter() as counter:
            self._looped(prepared, probed, range(1))
        self._check_same(values, prepared, inputs)
        warn_of_equal_members(self.models, values)
        axes, found = prepared.kinds[0].probe.axes, prepared.kinds[0].probe
        rows = (axes.count(inputs) if axes is not None else None) or count
        work = counter.work_per_row(count)
        prepared.at_once = max(1, fitting(values[0]) * count // rows)
        packed = any(isinstance(leaf, PackedSequence) for leaf in structure_of(inputs).leaves)
        if prepared.separable and not (found.unmanaged or found.rules.sizes_follow_values or packed):
            prepared.rows_at_once = choose_rows(work, self.device)
        if self._backend != "loop" and self._may_stack(prepared):
            value_bytes = sum(leaf.nbytes for leaf in pytree.tree_leaves(values)) * rows // count
            way: Way = "stacked"
            if self._backend is None:
                way = choose_way(work, rows, total_bytes(self.models) + value_bytes)
            self._record(prepared, inputs, probed, way)
        if self._backend == "vectorized" and not prepared.programs:
            raise InvalidArgumentError(_cannot_be_a_program())
        return prepared

    def _probed(self, prepared: Prepared, inputs: Inputs) -> tuple[Inputs, int]:
        """The last row or two of a batch, and how many they are; all of a batch whose rows cannot be told apart."""
        axes = prepared.kinds[0].probe.axes
        rows = axes.count(inputs) if axes is not None else None
        if axes is None or rows is None or not prepared.separable:
            return inputs, rows or prepared.kinds[0].probe.rows
        last = range(max(rows - _PROBED_ROWS, 0), rows)
        return (inputs if rows == len(last) else axes.take(inputs, last)), len(last)

    def _check_same(self, values: list[Values], prepared: Prepared, inputs: Inputs) -> None:
        try:
            check_same_values(values)
        except OutputMismatchError:
            check_same_values(self._looped(prepared, inputs))  # the error that tells shapes of the user's own batch
            raise

    def _looped(self, prepared: Prepared, inputs: Inputs, draws: range | None = None) -> list[Values]:
        """The values of members, one after the other."""
        _, numbers = rows_of(inputs, prepared.kinds[0].probe, None, self.device)
        return list(self.loop(prepared, inputs, numbers, draws or range(len(self.models)), 0))

    def _kinds(self, inputs: Inputs) -> list[Kind]:
        first = self.networks[0].kind(inputs)
        if self.alike and not first.probe.written:
            return [first] * len(self.models)
        return [first, *(network.kind(inputs) for network in self.networks[1:])]

    def _may_stack(self, prepared: Prepared) -> bool:
        found = prepared.kinds[0].probe
        fits = 3 * total_bytes(self.models) < allowed_bytes(self.device, None)
        autocast = torch.is_autocast_enabled(self.device.type)
        plain = self.alike and self.watch.countable and not self.watch.hooked() and not autocast
        return plain and not found.moves and not found.rules.sites and fits

    def _record(self, prepared: Prepared, inputs: Inputs, probed: Inputs, way: Way) -> None:
        """Record a program for each size of a piece, if it can be told to follow the members."""
        prepared.stamp = self.stack.stamp if self.stack is not None else 0  # before: values may come meanwhile
        if way == "stacked":  # little work: all rows are one piece, on which values are compared
            made = self._program(inputs, self._looped(prepared, inputs), stacked=True)
            if made is not None:
                prepared.rows_at_once = None
                prepared.programs = [made]
            elif self._backend is None:
                way = "unrolled"
        if way == "unrolled" and self._program(probed, self._looped(prepared, probed), stacked=False):
            assert self.stack is not None
            pieces = prepared.pieces(inputs)
            try:
                sizes = [pieces[0], pieces[-1]] if len(pieces) > 1 else pieces
                prepared.programs = [self.stack.record(piece, self.read, stacked=False) for piece in sizes]
            except (CannotRecordError, RuntimeError, TypeError):
                prepared.programs = []

    def _program(self, inputs: Inputs, values: list[Values], *, stacked: bool) -> Program | None:
        """A program of all members that gives these values, and follows the members on others too."""
        try:
            with self._making:  # of two that threads make, only one would follow the members
                if self.stack is None:
                    self.stack = Stack(self.models)
            program = self.stack.record(inputs, self.read, stacked=stacked)
            follows = _same(program.run(*tensors_of(inputs)), values) and self._same_elsewhere(program, inputs)
        except (CannotRecordError, RuntimeError, TypeError):
            return None
        return program if follows else None

    def _same_elsewhere(self, program: Program, inputs: Inputs) -> bool:
        """Returns whether the program follows the members on other inputs too; not if a value was built into it."""
        other = map_leaves(lambda leaf: _moved(leaf) if isinstance(leaf, Tensor) else leaf, inputs)
        try:
            kinds = [self.networks[0].kind(other)] * len(self.models)
            values = self._looped(Prepared(kinds), other)
        except RuntimeError:
            return False
        return _same(program.run(*tensors_of(other)), values)


def _cannot_be_a_program() -> str:
    return explain(
        'backend="vectorized" needs members of one architecture whose operations can be recorded.',
        got="members that differ, decide on values, draw random numbers, write on their state, or carry hooks",
        cause="the backend was set by hand",
        fix="leave it out: members that cannot become a program are called one after the other",
    )


def _same(together: Values, values: list[Values]) -> bool:
    return agree(together, stacked(values))


def _moved(tensor: Tensor) -> Tensor:
    """Other values that a network takes as well: numbers near these, whole numbers in another order."""
    if tensor.is_floating_point():
        return tensor * 0.9 + 0.1
    return tensor.flip(-1) if tensor.dim() > 0 else tensor
