"""Several networks on one batch: as a program, all at once or each in turn, where that is faster than calling them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import Values, allowed_bytes, gathered, is_out_of_memory, mapped
from caveat._inputs import Inputs, as_inputs, map_leaves, structure_of
from caveat._intercept import close
from caveat.errors import InvalidArgumentError, explain
from caveat.samplers._members._as_eval import EvalNetwork, Kind, rows_of
from caveat.samplers._members._choice import PROGRAMS, Verdicts, Way, fastest
from caveat.samplers._members._mismatch import check_same_values
from caveat.samplers._members._pieces import fitting, one_by_one, stacked
from caveat.samplers._members._program import CannotRecordError
from caveat.samplers._members._stack import Recorded, Stack, alike, total_bytes
from caveat.samplers._members._watch import Watch

Executor = Way | None

_CPU = torch.device("cpu")
# Larger stacks gain nothing: reading the parameters takes the time, not Python.
_LARGEST_STACK = 256 << 20
_MOST_PROGRAMS = 64
# Seconds for all members: what takes longer gains nothing by a program, and making one takes a dozen such passes.
_LONG = 0.25


@dataclass
class Prepared:
    """What is known for inputs of one kind and size: of each member, and the program of all if that is faster."""

    kinds: list[Kind]
    recorded: Recorded | None
    at_once: int = 1  # how many members' values go into one piece
    _plain: bool = False

    @property
    def separable(self) -> bool:
        """Can rows be asked for apart from the others?"""
        first = self.kinds[0].study
        axes = {(kind.study.axes, kind.study.output_axes) for kind in self.kinds}
        return self.kinds[0].separable and axes == {(first.axes, first.output_axes)}

    def plain(self) -> bool:
        """Is a plain call of every member, in eval mode, known to be what a careful pass would be?"""
        self._plain = self._plain or all(kind.plainly is True for kind in self.kinds)
        return self._plain


@dataclass
class _Known:
    """All that is remembered of members in one state."""

    watch: Watch
    alike: bool
    stack: Stack | None = None
    verdicts: dict[Any, Verdicts] = field(default_factory=dict[Any, Verdicts])
    prepared: dict[Any, Prepared] = field(default_factory=dict[Any, Prepared])


class Group:
    """Some networks, ready for any batch."""

    def __init__(
        self, models: Sequence[nn.Module], read: Callable[[Any], Values], executor: Executor, in_dims: Any
    ) -> None:
        self.models, self.read, self._in_dims = tuple(models), read, in_dims
        self._executor: Executor = executor
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
        as_program = prepared is not None and prepared.recorded is not None and not gradient and rows is None
        if prepared is None or as_program:  # calls of the networks themselves need no look at values
            fresh = self._with_values_of_now(known)
            known, prepared = fresh, prepared if fresh is known else None
        if prepared is None:
            if len(known.prepared) >= _MOST_PROGRAMS:
                known.prepared.clear()
            prepared = known.prepared[key] = self._prepare(known, inputs)
        recorded = prepared.recorded if not gradient and rows is None else None
        if recorded is not None and known.stack is not None:
            recorded = None if known.watch.hooked() else known.stack.current(recorded)
        return BoundGroup(self, prepared, inputs, rows, seed, gradient, recorded)

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
        prepared = Prepared(self._kinds(known, inputs), None)
        values, seconds = self._looped(prepared, inputs)
        check_same_values(values)
        prepared.at_once = max(1, fitting(values[0]))
        if self._executor is None and seconds > _LONG:  # a first pass may be slow for being the first
            seconds = self._looped(prepared, inputs)[1]
        worth_it = self._executor in PROGRAMS or (self._executor is None and seconds <= _LONG)
        if worth_it and self._may_stack(known, prepared):
            axes = prepared.kinds[0].study.axes
            alike_but_rows = (structure_of(inputs).around, axes and axes.describe(inputs))
            verdicts = known.verdicts.setdefault(alike_but_rows, Verdicts())
            prepared.recorded = self._try(known, inputs, values, verdicts, prepared)
        if self._executor in PROGRAMS and prepared.recorded is None:
            raise InvalidArgumentError(_cannot_be_a_program(self._executor))
        return prepared

    def _looped(self, prepared: Prepared, inputs: Inputs) -> tuple[list[Values], float]:
        """The values of all members, one after the other, and the seconds that took."""
        _, numbers = rows_of(inputs, prepared.kinds[0].study, None, self.device)
        start = time.perf_counter()
        values = list(self.loop(prepared, inputs, numbers, range(len(self.models)), 0))
        return values, time.perf_counter() - start

    def _kinds(self, known: _Known, inputs: Inputs) -> list[Kind]:
        first = self.members[0].kind(inputs)
        if known.alike and not first.study.written:
            return [first] * len(self.models)
        return [first, *(member.kind(inputs) for member in self.members[1:])]

    def _may_stack(self, known: _Known, prepared: Prepared) -> bool:
        found = prepared.kinds[0].study
        moves = found.unmanaged or found.written or found.rules.leaves_marks or not found.rules.repeatable
        fits = 3 * total_bytes(self.models) < min(_LARGEST_STACK, allowed_bytes(self.device, None))
        autocast = torch.is_autocast_enabled(self.device.type)
        plain = known.alike and known.watch.countable and not known.watch.hooked() and not autocast
        return plain and not moves and not found.rules.sites and fits

    def _try(
        self, known: _Known, inputs: Inputs, values: list[Values], verdicts: Verdicts, prepared: Prepared
    ) -> Recorded | None:
        """The program that is fastest; None where calling the members is."""
        axes = prepared.kinds[0].study.axes
        rows = (axes.count(inputs) if axes is not None else None) or 1
        way = self._executor or verdicts.known(rows)
        programs: dict[Way, Recorded] = {}
        for each in PROGRAMS:
            if way in (each, None) and each not in verdicts.cannot:
                made = self._program(known, inputs, values, stacked=each == "stacked")
                verdicts.cannot |= {each} if made is None else set()
                programs |= {} if made is None else {each: made}
        if way is None and programs and known.stack is not None:
            way = verdicts.fastest[rows] = self._fastest(known.stack, programs, inputs, self.plain(prepared))
        return programs.get(way or "loop")

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
            values, _ = self._looped(Prepared(kinds, None), other)
        except RuntimeError:
            return False
        return _same(recorded(other), values)

    def _fastest(self, stack: Stack, programs: dict[Way, Recorded], inputs: Inputs, plain: bool) -> Way:
        def loop() -> None:
            with torch.no_grad():
                if plain:
                    stacked([self.read(model(*inputs[0], **inputs[1])) for model in self.models])
                else:
                    stack.loop(inputs, self.read)

        ways: dict[Way, Callable[[], object]] = {way: partial(made, inputs) for way, made in programs.items()}
        return fastest({**ways, "loop": loop}, self.device)


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
        recorded: Recorded | None,
    ) -> None:
        self._group, self._prepared, self._inputs, self._chosen = group, prepared, inputs, rows
        self._seed, self._gradient, self._recorded = seed, gradient, recorded
        self._values: Values | None = None
        self._own_rows: tuple[Inputs, Tensor] | None = None

    @property
    def rows(self) -> int | None:
        """How many rows can be asked for apart from the others."""
        if not self._prepared.separable:
            return None
        axes = self._prepared.kinds[0].study.axes
        assert axes is not None
        return len(self._chosen) if self._chosen is not None else axes.count(self._inputs)

    def __enter__(self) -> BoundGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._values = self._own_rows = None

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive members, in order."""
        if self._values is None and self._recorded is not None:
            self._values = self._played(self._recorded)
        values = self._values
        if values is None:
            return self._one_by_one(draws)
        if len(draws) == len(self._group.models):
            self._values = None  # handed over whole: the next call makes new ones
            return iter((values,))
        return iter((mapped(lambda value: value[draws.start : draws.stop].clone(), values),))

    def whole(self, draws: range) -> Values | None:
        """All these members' values, in memory that nothing else writes on."""
        recorded = self._recorded
        if recorded is not None and len(draws) == len(self._group.models):
            values = self._played(recorded)
            if values is not None:
                return values if recorded.program.gives_new_memory else mapped(torch.clone, values)
        return gathered(self(draws), len(draws), new=True)[0]

    def _played(self, recorded: Recorded) -> Values | None:
        """The values of all members; None where that needs too much memory: one by one, rows can be halved."""
        try:
            return recorded(self._inputs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self._recorded = None
        return None

    def _one_by_one(self, draws: range) -> Iterator[Values]:
        plain = self._group.plain(self._prepared)
        pieces = self._plainly(draws) if plain else one_by_one(self._alone, draws)
        if len(draws) > 1:
            return pieces
        return (mapped(torch.clone, piece) for piece in pieces)  # a network may return its input, or a parameter

    def _alone(self, draw: int) -> Values:
        inputs, numbers = self._of_rows()
        kind = self._prepared.kinds[draw]
        return self._group.members[draw].draw(inputs, numbers, kind, draw, self._seed, self._gradient)

    def _of_rows(self) -> tuple[Inputs, Tensor]:
        if self._own_rows is None:
            found = self._prepared.kinds[0].study
            self._own_rows = rows_of(self._inputs, found, self._chosen, self._group.device)
        return self._own_rows

    def _plainly(self, draws: range) -> Iterator[Values]:
        """Plain calls, several together: switching gradients for each would cost a small network dearly."""
        args, kwargs = self._inputs if self._chosen is None else self._of_rows()[0]
        models, read, at_once = self._group.models, self._group.read, self._prepared.at_once
        for start in range(draws.start, draws.stop, at_once):
            part = range(start, min(start + at_once, draws.stop))
            try:
                with torch.set_grad_enabled(self._gradient):
                    values = [read(models[draw](*args, **kwargs)) for draw in part]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                values = None
            if values is None:  # rows are halved, member by member
                yield from one_by_one(self._alone, part)
            else:
                yield stacked(values)


def _cannot_be_a_program(executor: str) -> str:
    return explain(
        f'executor="{executor}" needs members of one architecture whose operations can be recorded.',
        got="members that differ, decide on values, draw random numbers, write on their state, or carry hooks",
        cause="the executor was set by hand",
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
