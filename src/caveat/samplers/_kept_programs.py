"""Programs of MC dropout that are kept from call to call: the network's own Python then runs in none of them.

Within a call a chunk of draws is recorded and the others are played (``caveat._engine``). Between calls a network may
change, and code of the user's may depend on anything. So programs are kept only of networks whose modules are all
torch's or caveat's own: attributes and tensors decide what these do, and are compared before each call. The inputs of a
program are copies that each call fills; what depends on them and on the parameters alone is computed once per call. Of
small networks the masks are kept, too, for calls with the same seed: they depend on nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._engine import Plan, Tape, Task, Values, record, vectorized
from caveat._inputs import Inputs, has_rows, map_leaves, map_tensors, structure_of
from caveat._intercept import (
    LivePredicate,
    MaskSource,
    Network,
    Prefix,
    agree,
    interruptible,
    patched,
    state_kept,
    transforms,
)
from caveat.predictive import Output
from caveat.samplers._members._stack import copied
from caveat.samplers._members._watch import TENSORS_DECIDE, Watch, has_plain_attributes, settings_of

_MOST_KEPT = 2  # whole batches of a loader, and its last
_MASK_BYTES = 1 << 20  # masks of more are made anew: that takes less than what is done with them
_OWN = ("torch.", "caveat.")
# In an ensemble, whose members are in eval mode, the numbers of these classes need no look.
_UNWATCHED = TENSORS_DECIDE - {nn.Dropout, nn.Flatten}


@dataclass(eq=False)
class KeptProgram:
    """A network on inputs of one kind and size, with a tape for each length of a chunk; None where there can be none.

    ``inputs`` are the program's own, which every call fills; ``compared`` the lengths of tapes that have given what a
    pass over other inputs gives; ``source`` has masks of the last call.
    """

    model: nn.Module
    output: Output[Any]
    watch: Watch
    plan: Plan
    inputs: Inputs
    chunk: int
    rows: int | None
    source: MaskSource
    tapes: dict[int, Tape | None] = field(default_factory=dict[int, "Tape | None"])
    compared: set[int] = field(default_factory=set[int])

    def __post_init__(self) -> None:
        with torch.inference_mode(False):  # else no later call could fill them
            self.inputs = map_leaves(lambda leaf: copied(leaf) if isinstance(leaf, Tensor) else leaf, self.inputs)
        self.tensors = [leaf for leaf in structure_of(self.inputs).leaves if isinstance(leaf, Tensor)]


class KeptPrograms:
    """What one sampler keeps of its network; a copy of it, or one in another process, begins anew."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._decided, self._device = False, torch.device("cpu")
        self._kept: dict[Any, KeptProgram | None] = {}

    def __reduce__(self) -> Any:
        return KeptPrograms, ()

    def device(self) -> torch.device | None:
        """Where the network is, if programs are kept of what it is now."""
        return self._device if self._kept and self._unchanged() else None

    def take(self, inputs: Inputs, seed: int, device: torch.device) -> PlayedNetwork | None:
        """The stream of the program for such inputs, which nobody else gets until it ends; None where there is none."""
        key, given = key_of(inputs, device)
        kept = self._kept.get(key) and self._kept.pop(key, None)
        return None if kept is None else PlayedNetwork(self, key, kept, given, seed)

    def put(self, key: Any, kept: KeptProgram) -> None:
        """Keep it for the next call, unless there was a length of chunks that could not be recorded."""
        if kept.watch is not self._watch:  # another thread has seen that the network is another by now
            return
        for oldest in [*self._kept][: max(len(self._kept) + 1 - _MOST_KEPT, 0)]:
            self._kept.pop(oldest, None)
        self._kept[key] = None if None in kept.tapes.values() else kept
        self._device = kept.source.device

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
    """The stream of a kept program, which is put back at its end unless that is an error."""

    def __init__(self, home: KeptPrograms, key: Any, kept: KeptProgram, given: list[Tensor], seed: int) -> None:
        self._home, self._key, self._kept, self._given = home, key, kept, given
        last = kept.source
        self._source = last if last.seed == seed else MaskSource(seed, last.strata, last.device)
        self._filled, self._moved, self._fresh = False, False, set[int]()
        self.rows = kept.rows

    def __enter__(self) -> PlayedNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._kept.source = self._source.without_blocks_over(_MASK_BYTES)
            self._home.put(self._key, self._kept)

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order, in memory of their own: the next call writes on the program's."""
        for start in range(draws.start, draws.stop, self._kept.chunk):
            yield map_tensors(torch.clone, self._piece(range(start, min(start + self._kept.chunk, draws.stop))))

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
        kept = self._kept
        if len(kept.compared) < len(kept.tapes):
            self._moved = not all(map(torch.equal, kept.tensors, self._given))
        for own, given in zip(kept.tensors, self._given, strict=True):
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
        if agree(played, passed, torch.equal):  # one seed, the same digits
            self._kept.compared.add(len(draws))
        else:
            self._kept.tapes[len(draws)] = None
        return passed

    @contextmanager
    def _drawing(self) -> Generator[Task]:
        kept = self._kept
        network, probe = Network(kept.model), kept.plan.probe
        rows = torch.arange(self.rows or probe.rows, device=network.device())
        with patched(), state_kept(network.modules, random_states=False):
            beginning = Prefix() if kept.plan.repeats else None
            yield Task(network, probe.rules, kept.inputs, rows, kept.output.read, beginning)


def key_of(inputs: Inputs, device: torch.device) -> tuple[Any, list[Any]]:
    """What tells inputs of one kind and size from others, None where no program may be kept of them; and the tensors.

    One tensor given twice is told from two: networks decide on that, as attention does.
    """
    args, kwargs = inputs
    leaves, around = [*args], ()
    if kwargs or len(args) != 1 or type(args[0]) is not Tensor:
        found = structure_of(inputs)
        leaves, around = cast(list[Any], [*found.leaves] if found.flat else []), found.around
    plain = leaves and all(type(leaf) is Tensor and has_rows(leaf) for leaf in leaves)
    if not plain or transforms() or torch.is_autocast_enabled(device.type):
        return None, []
    places = [*map(id, leaves)]
    return (around, *((leaf.shape, leaf.dtype, places.index(id(leaf))) for leaf in leaves)), leaves


def _is_decided(module: nn.Module) -> bool:
    """Returns whether this module's attributes and tensors decide what it does."""
    own, kind = settings_of(module), type(module)
    if not _is_own(kind) or not _is_own(kind.forward) or "forward" in own or not has_plain_attributes(module):
        return False
    return all(_is_own(value) for value in own.values() if isinstance(value, (FunctionType, BuiltinFunctionType)))


def _is_own(defined: Any) -> bool:
    """Returns whether this function or class is in torch's or caveat's own code; one made while running is not."""
    home = getattr(defined, "__module__", None) or "torch"
    if not f"{home}.".startswith(_OWN):
        return False
    return not isinstance(defined, type) or getattr(sys.modules.get(home), defined.__qualname__, None) is defined
