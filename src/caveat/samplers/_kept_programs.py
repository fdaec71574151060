"""Programs of MC dropout that are kept from call to call: the network's own Python then runs in none of them.

Within a call a chunk of draws is recorded and the others are played (``caveat._engine``). Between calls a network may
change, and code of the user's may depend on anything. So programs are kept only of networks whose modules are all
torch's or caveat's own: attributes and tensors decide what these do, and are compared before each call. The inputs of a
program are copies that each call fills; what depends on them and on the parameters alone is computed once a call.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import Plan, Tape, Task, Values, mapped, record, vectorized
from caveat._inputs import Inputs, map_leaves, structure_of
from caveat._intercept import (
    LivePredicate,
    MaskSource,
    Network,
    Prefix,
    interruptible,
    patched,
    state_kept,
    transforms,
)
from caveat.predictive import Output
from caveat.samplers._members._stack import copied, tensors_of
from caveat.samplers._members._watch import TENSORS_DECIDE, Watch, has_plain_attributes, settings_of

_MOST_KEPT = 2  # whole batches of a loader, and its last
_OWN = ("torch.", "caveat.")
# In an ensemble, whose members are in eval mode, the numbers of these classes need no look.
_UNWATCHED = TENSORS_DECIDE - {nn.Dropout, nn.Flatten}


@dataclass(eq=False)
class KeptProgram:
    """A network on inputs of one kind and size, with a tape for each length of a chunk; None where there can be none.

    ``inputs`` are the program's own, which every call fills; ``compared`` the lengths of tapes that have given what a
    pass over other inputs gives.
    """

    watch: Watch
    plan: Plan
    inputs: Inputs
    chunk: int
    rows: int | None
    tapes: dict[int, Tape | None] = field(default_factory=dict[int, "Tape | None"])
    compared: set[int] = field(default_factory=set[int])

    def __post_init__(self) -> None:
        with torch.inference_mode(False):  # else no later call could fill them
            self.inputs = map_leaves(lambda leaf: copied(leaf) if isinstance(leaf, Tensor) else leaf, self.inputs)


class KeptPrograms:
    """What one sampler keeps of its network; a copy of it, or one in another process, begins anew."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._decided = False
        self._kept: dict[Any, KeptProgram | None] = {}

    def __reduce__(self) -> Any:
        return KeptPrograms, ()

    def take(self, key: Any) -> KeptProgram | None:
        """The program for such inputs, which nobody else gets until it is put back; None where there is none."""
        if self._kept.get(key) is None or not self._unchanged():
            return None
        return self._kept.pop(key, None)

    def put(self, key: Any, kept: KeptProgram) -> None:
        """Keep it for the next call, unless there was a length of chunks that could not be recorded."""
        if kept.watch is not self._watch:  # another thread has seen that the network is another by now
            return
        for oldest in [*self._kept][: max(len(self._kept) + 1 - _MOST_KEPT, 0)]:
            self._kept.pop(oldest, None)
        self._kept[key] = None if None in kept.tapes.values() else kept

    def watch_for(self, key: Any, model: nn.Module, live: LivePredicate, output: Output[Any]) -> Watch | None:
        """The watch of a new program for such inputs; None where there is one, or may be none."""
        if not self._unchanged():
            self._kept, self._watch = {}, Watch([model], unwatched=_UNWATCHED)
            self._decided = _is_own(live) and _is_own(type(output)) and all(map(_is_decided, model.modules()))
        return self._watch if self._decided and key not in self._kept else None

    def _unchanged(self) -> bool:
        watch = self._watch
        return watch is not None and watch.same_structure() and watch.same_kinds() and not watch.hooked()


class PlayedNetwork:
    """The stream of a kept program."""

    def __init__(
        self, kept: KeptProgram, model: nn.Module, output: Output[Any], inputs: Inputs, source: MaskSource
    ) -> None:
        self._kept, self._model, self._output, self._source = kept, model, output, source
        self._given = tensors_of(inputs)
        self._filled, self._moved, self._fresh = False, False, set[int]()
        self.rows = kept.rows

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order, in memory of their own: the next call writes on the program's."""
        for start in range(draws.start, draws.stop, self._kept.chunk):
            values = self._piece(range(start, min(start + self._kept.chunk, draws.stop)))
            yield values.clone() if isinstance(values, Tensor) else mapped(torch.clone, values)

    @interruptible
    def _piece(self, draws: range) -> Values:
        with torch.inference_mode(False), torch.no_grad():
            if not self._filled:
                self._fill()
            length = len(draws)
            if length not in self._kept.tapes:
                return self._recorded(draws)
            tape = self._kept.tapes[length]
            if tape is None:
                return self._passed(draws)
            if length not in self._fresh:
                tape.program.refresh()
                self._fresh.add(length)
            if self._moved and length not in self._kept.compared:
                return self._compared(tape, draws)
            return tape.play(self._source, draws)

    def _fill(self) -> None:
        """Takes the inputs into the program's own, and notes whether they are others than those it was recorded on."""
        pairs = [*zip(tensors_of(self._kept.inputs), self._given, strict=True)]
        self._moved = not all(torch.equal(own, given) for own, given in pairs)
        for own, given in pairs:
            own.copy_(given)
        self._filled = True

    def _recorded(self, draws: range) -> Values:
        """The values by a pass, of which a tape is made."""
        with self._drawing() as task:
            values, tape = record(task, self._source, draws, vectorized, refreshable=True)
        self._kept.tapes[len(draws)] = tape
        self._fresh.add(len(draws))
        return values

    def _passed(self, draws: range) -> Values:
        with self._drawing() as task:
            return vectorized(task, self._source, draws)

    def _compared(self, tape: Tape, draws: range) -> Values:
        """The values by a pass over other inputs than were recorded, which the tape has to give, too."""
        played, passed = tape.play(self._source, draws), self._passed(draws)
        pairs = zip(pytree.tree_leaves(played), pytree.tree_leaves(passed), strict=True)
        if all(torch.equal(one, other) for one, other in pairs):  # one seed, the same digits
            self._kept.compared.add(len(draws))
        else:
            self._kept.tapes[len(draws)] = None
        return passed

    @contextmanager
    def _drawing(self) -> Generator[Task]:
        network, probe = Network(self._model), self._kept.plan.probe
        rows = torch.arange(self.rows or probe.rows, device=network.device())
        with patched(), state_kept(network.modules, random_states=False):
            beginning = Prefix() if self._kept.plan.repeats else None
            yield Task(network, probe.rules, self._kept.inputs, rows, self._output.read, beginning)


def key_of(inputs: Inputs, device: torch.device) -> Any:
    """What tells inputs of one kind and size from others; None where no program may be kept of them."""
    found = structure_of(inputs)
    plain = found.flat and all(type(leaf) is Tensor and leaf.layout == torch.strided for leaf in found.leaves)
    if not plain or transforms() or torch.is_autocast_enabled(device.type):
        return None
    return found.around, tuple((leaf.data.shape, leaf.data.dtype) for leaf in found.leaves)


def _is_decided(module: nn.Module) -> bool:
    """Do this module's attributes and tensors decide what it does?"""
    own, kind = settings_of(module), type(module)
    if not _is_own(kind) or not _is_own(kind.forward) or "forward" in own or not has_plain_attributes(module):
        return False
    return all(_is_own(value) for value in own.values() if isinstance(value, (FunctionType, BuiltinFunctionType)))


def _is_own(defined: Any) -> bool:
    """Is this function or class in torch's or caveat's own code? A class that is made while running is not."""
    home = getattr(defined, "__module__", None) or "torch"
    if not f"{home}.".startswith(_OWN):
        return False
    return not isinstance(defined, type) or getattr(sys.modules.get(home), defined.__qualname__, None) is defined
