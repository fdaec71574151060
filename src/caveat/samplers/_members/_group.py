"""Several networks on one batch: as a program, all at once or each in turn, or called one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from caveat._engine import Backend, CannotRecordError, Values, allowed_bytes, gathered, is_out_of_memory, mapped
from caveat._inputs import Inputs, as_inputs, map_leaves, structure_of
from caveat._intercept import close
from caveat.errors import InvalidArgumentError, OutputMismatchError, explain
from caveat.samplers._members._as_eval import EvalNetwork, Kind, rows_of
from caveat.samplers._members._choice import Counter, Way, choose_rows, choose_way
from caveat.samplers._members._mismatch import check_same_values
from caveat.samplers._members._pieces import fitting, join_rows, one_by_one, split_rows, stacked
from caveat.samplers._members._stack import Recorded, Stack, alike, total_bytes
from caveat.samplers._members._watch import Watch

_CPU = torch.device("cpu")
_MOST_PROGRAMS = 64
_PROBED_ROWS = 2


@dataclass
class Prepared:
    """What is known for inputs of one kind and size: of each member, and how to run all of them.

    ``rows_at_once`` is None where the batch is not split. Of the ``programs`` the last is for the last piece of rows,
    the first for the others; there is none where members are called. ``at_once`` is how many members' values go into
    one piece of draws.
    """

    kinds: list[Kind]
    rows_at_once: int | None = None
    programs: list[Recorded] = field(default_factory=list[Recorded])
    at_once: int = 1
    _plain: bool = False

    @property
    def separable(self) -> bool:
        """Can rows be asked for apart from the others?"""
        first = self.kinds[0].probe
        axes = {(kind.probe.axes, kind.probe.output_axes) for kind in self.kinds}
        return self.kinds[0].separable and axes == {(first.axes, first.output_axes)}

    def plain(self) -> bool:
        """Is a plain call of every member, in eval mode, known to be what a careful pass would be?"""
        self._plain = self._plain or all(kind.plainly is True for kind in self.kinds)
        return self._plain

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


@dataclass
class _Known:
    """All that is remembered of members in one state."""

    watch: Watch
    alike: bool
    stack: Stack | None = None
    prepared: dict[Any, Prepared] = field(default_factory=dict[Any, Prepared])


class Group:
    """Some networks, ready for any batch."""

    def __init__(
        self, models: Sequence[nn.Module], read: Callable[[Any], Values], backend: Backend, in_dims: Any
    ) -> None:
        self.models, self.read, self._in_dims = tuple(models), read, in_dims
        self._backend: Backend = backend
        self.members = [EvalNetwork(model, read, in_dims) for model in models]
        self._known: _Known | None = None

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.members[0].device

    def bind(self, x: Any, seed: int, rows: Tensor | None, gradient: bool) -> BoundGroup:
        """These networks on the batch ``x``, or on some of its rows."""
        known = self._current()
        device = known.watch.device
        if type(x) is Tensor and x.device == device and x.numel() > 0:
            inputs: Inputs = (x,), {}
            key: Any = (x.shape, x.dtype)
        else:
            inputs = as_inputs(x, device)
            found = structure_of(inputs)
            key = (found.around, tuple((tuple(leaf.data.shape), leaf.data.dtype) for leaf in found.leaves))
        kind = "cpu" if device == _CPU else device.type  # the name of a device is made anew each time
        if torch.is_autocast_enabled(kind):
            key = (key, torch.get_autocast_dtype(kind))
        prepared = known.prepared.get(key)
        as_program = prepared is not None and bool(prepared.programs) and not gradient and rows is None
        if prepared is None or as_program:  # calls of the networks themselves need no look at values
            fresh = self._with_values_of_now(known)
            known, prepared = fresh, prepared if fresh is known else None
        if prepared is None:
            if len(known.prepared) >= _MOST_PROGRAMS:
                known.prepared.clear()
            prepared = known.prepared[key] = self._prepare(known, inputs)
        as_program = bool(prepared.programs) and not gradient and rows is None
        if as_program and known.stack is not None:
            as_program = not known.watch.hooked()
            if as_program:
                known.stack.bring_up(prepared.programs)
        return BoundGroup(self, prepared, inputs, rows, seed, gradient, as_program)

    def plain(self, prepared: Prepared) -> bool:
        """Are plain calls of all members right now what careful passes would be?"""
        return prepared.plain() and self._known is not None and not self._known.watch.training()

    def loop(self, prepared: Prepared, inputs: Inputs, rows: Tensor, draws: range, seed: int) -> Iterator[Values]:
        """The values of some members, one after the other, without a graph."""
        for draw in draws:
            yield self.members[draw].draw(inputs, rows, prepared.kinds[draw], draw, seed, gradient=False)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _current(self) -> _Known:
        """What is known of members of the structure of now."""
        known = self._known
        if known is None or not known.watch.same_structure():
            known = self._known = _Known(Watch(self.models), len(self.models) > 1 and alike(self.models))
        return known

    def _with_values_of_now(self, known: _Known) -> _Known:
        """The same with its stack brought up to the members' values; begun anew where these are of other kinds."""
        if known.watch.same_values():
            return known
        if not known.watch.same_kinds():
            self._known = None
            return self._current()
        values = known.watch.values_now()
        if known.stack is not None:
            known.stack.refresh()
        known.watch.note(values)  # last: a signal before it leaves the stack to be brought up to date again
        return known

    def _prepare(self, known: _Known, inputs: Inputs) -> Prepared:
        """Decide by a pass over a row or two how to run the members on such inputs."""
        prepared = Prepared(self._kinds(known, inputs))
        probed, count = self._probed(prepared, inputs)
        values = self._looped(prepared, probed)
        with Counter() as counter:
            self._looped(prepared, probed, range(1))
        self._check_same(values, prepared, inputs)
        axes, found = prepared.kinds[0].probe.axes, prepared.kinds[0].probe
        rows = (axes.count(inputs) if axes is not None else None) or count
        work = counter.work_per_row(count)
        prepared.at_once = max(1, fitting(values[0]) * count // rows)
        packed = any(isinstance(leaf, PackedSequence) for leaf in structure_of(inputs).leaves)
        if prepared.separable and not (found.unmanaged or found.rules.sizes_follow_values or packed):
            prepared.rows_at_once = choose_rows(work, self.device)
        if self._backend != "loop" and self._may_stack(known, prepared):
            value_bytes = sum(leaf.nbytes for leaf in pytree.tree_leaves(values)) * rows // count
            way: Way = "stacked"
            if self._backend is None:
                way = choose_way(work, rows, total_bytes(self.models) + value_bytes)
            self._record(known, prepared, inputs, probed, way)
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

    def _kinds(self, known: _Known, inputs: Inputs) -> list[Kind]:
        first = self.members[0].kind(inputs)
        if known.alike and not first.probe.written:
            return [first] * len(self.models)
        return [first, *(member.kind(inputs) for member in self.members[1:])]

    def _may_stack(self, known: _Known, prepared: Prepared) -> bool:
        found = prepared.kinds[0].probe
        moves = found.unmanaged or found.written or found.rules.leaves_marks or not found.rules.repeatable
        fits = 3 * total_bytes(self.models) < allowed_bytes(self.device, None)
        autocast = torch.is_autocast_enabled(self.device.type)
        plain = known.alike and known.watch.countable and not known.watch.hooked() and not autocast
        return plain and not moves and not found.rules.sites and fits

    def _record(self, known: _Known, prepared: Prepared, inputs: Inputs, probed: Inputs, way: Way) -> None:
        """Record a program for each size of a piece, if it can be told to follow the members."""
        if way == "stacked":  # little work: all rows are one piece, on which values are compared
            made = self._program(known, inputs, self._looped(prepared, inputs), stacked=True)
            if made is not None:
                prepared.rows_at_once = None
                prepared.programs = [made]
            elif self._backend is None:
                way = "unrolled"
        if way == "unrolled" and self._program(known, probed, self._looped(prepared, probed), stacked=False):
            assert known.stack is not None
            pieces = prepared.pieces(inputs)
            try:
                sizes = [pieces[0], pieces[-1]] if len(pieces) > 1 else pieces
                prepared.programs = [known.stack.record(piece, self.read, stacked=False) for piece in sizes]
            except (CannotRecordError, RuntimeError, TypeError):
                prepared.programs = []

    def _program(self, known: _Known, inputs: Inputs, values: list[Values], *, stacked: bool) -> Recorded | None:
        """A program of all members that gives these values, and follows the members on others too."""
        try:
            if known.stack is None:
                known.stack = Stack(self.models)
            recorded = known.stack.record(inputs, self.read, stacked=stacked)
        except (CannotRecordError, RuntimeError, TypeError):
            return None
        return recorded if _same(recorded(inputs), values) and self._same_elsewhere(recorded, inputs) else None

    def _same_elsewhere(self, recorded: Recorded, inputs: Inputs) -> bool:
        """Does the program follow the members on other inputs too? (It would not if a value had been built into it.)"""
        other = map_leaves(lambda leaf: _moved(leaf) if isinstance(leaf, Tensor) else leaf, inputs)
        try:
            kinds = [self.members[0].kind(other)] * len(self.models)
            values = self._looped(Prepared(kinds), other)
        except RuntimeError:
            return False
        return _same(recorded(other), values)


class BoundGroup:
    """The stream of some networks on one batch; its own context, since nothing has to be put back."""

    def __init__(
        self,
        group: Group,
        prepared: Prepared,
        inputs: Inputs,
        rows: Tensor | None,
        seed: int,
        gradient: bool,
        as_program: bool,
    ) -> None:
        self._group, self._prepared, self._inputs, self._chosen = group, prepared, inputs, rows
        self._seed, self._gradient, self._as_program = seed, gradient, as_program
        self._values: Values | None = None
        self._own_pieces: list[tuple[Inputs, Tensor]] | None = None

    @property
    def rows(self) -> int | None:
        """How many rows can be asked for apart from the others."""
        if not self._prepared.separable:
            return None
        axes = self._prepared.kinds[0].probe.axes
        assert axes is not None
        return len(self._chosen) if self._chosen is not None else axes.count(self._inputs)

    def __enter__(self) -> BoundGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._values = self._own_pieces = None

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive members, in order."""
        if self._values is None and self._as_program:
            self._values = self._played()
        values = self._values
        if values is None:
            return self._one_by_one(draws)
        if len(draws) == len(self._group.models):
            self._values = None  # handed over whole: the next call makes new ones
            return iter((values,))
        return iter((mapped(lambda value: value[draws.start : draws.stop].clone(), values),))

    def whole(self, draws: range) -> Values | None:
        """All these members' values, in memory that nothing else writes on."""
        if self._as_program and len(draws) == len(self._group.models):
            values = self._played()
            if values is not None:
                programs = self._prepared.programs
                new = len(programs) > 1 or programs[0].gives_new_memory  # values that are put together are new
                return values if new else mapped(torch.clone, values)
        return gathered(self(draws), len(draws), new=True)[0]

    def _played(self) -> Values | None:
        """The values of all members; None where that needs too much memory: one by one, rows can be halved."""
        prepared = self._prepared
        try:
            if prepared.rows_at_once is None:
                return prepared.programs[0](self._inputs)
            *pieces, last = prepared.pieces(self._inputs)
            parts = [prepared.programs[0](piece) for piece in pieces]
            return prepared.join([*parts, prepared.programs[-1](last)], lead=1)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self._as_program = False
        return None

    def _one_by_one(self, draws: range) -> Iterator[Values]:
        plain = self._group.plain(self._prepared)
        pieces = self._plainly(draws) if plain else one_by_one(self._alone, draws)
        if len(draws) > 1:
            return pieces
        return (mapped(torch.clone, piece) for piece in pieces)  # a network may return its input, or a parameter

    def _alone(self, draw: int) -> Values:
        member, kind = self._group.members[draw], self._prepared.kinds[draw]
        parts = [member.draw(*piece, kind, draw, self._seed, self._gradient) for piece in self._pieces()]
        return self._prepared.join(parts)

    def _pieces(self) -> list[tuple[Inputs, Tensor]]:
        """The rows that were asked for, in pieces, and their numbers; whole where the graph is kept anyway."""
        if self._own_pieces is None:
            found = self._prepared.kinds[0].probe
            inputs, numbers = rows_of(self._inputs, found, self._chosen, self._group.device)
            pieces = [inputs] if self._gradient else self._prepared.pieces(inputs)
            size = self._prepared.rows_at_once if len(pieces) > 1 else None
            parts = cast(tuple[Tensor, ...], numbers.split(size or len(numbers)))
            self._own_pieces = list(zip(pieces, parts, strict=True))
        return self._own_pieces

    def _plainly(self, draws: range) -> Iterator[Values]:
        """Plain calls, several together: switching gradients for each would cost a small network dearly."""
        pieces = [inputs for inputs, _ in self._pieces()]
        models, read, at_once = self._group.models, self._group.read, self._prepared.at_once
        for start in range(draws.start, draws.stop, at_once):
            part = range(start, min(start + at_once, draws.stop))
            try:
                with torch.set_grad_enabled(self._gradient):
                    values = [
                        self._prepared.join([read(models[draw](*args, **kwargs)) for args, kwargs in pieces])
                        for draw in part
                    ]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                values = None
            if values is None:  # rows are halved, member by member
                yield from one_by_one(self._alone, part)
            else:
                yield stacked(values)


def _cannot_be_a_program() -> str:
    return explain(
        'backend="vectorized" needs members of one architecture whose operations can be recorded.',
        got="members that differ, decide on values, draw random numbers, write on their state, or carry hooks",
        cause="the backend was set by hand",
        fix="leave it out: members that cannot become a program are called one after the other",
    )


def _same(together: Values, values: list[Values]) -> bool:
    pairs = zip(pytree.tree_leaves(together), pytree.tree_leaves(stacked(values)), strict=True)
    return all(close(a, b) for a, b in pairs)


def _moved(tensor: Tensor) -> Tensor:
    """Other values that a network takes as well: numbers near these, whole numbers in another order."""
    if tensor.is_floating_point():
        return tensor * 0.9 + 0.1
    return tensor.flip(-1) if tensor.dim() > 0 else tensor
