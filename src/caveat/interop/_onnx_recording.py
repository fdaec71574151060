"""One draw of a network as a program of tensor operations, whose inputs are the network's and the random numbers.

A draw is recorded at several sizes of the batch: an integer of the program that differs from size to size follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from caveat._engine import CannotRecordError, Program, Recorder, Values
from caveat._inputs import Inputs, tensors_in
from caveat._intercept import (
    DispatchMode,
    Drawing,
    LivePredicate,
    Make,
    MaskSource,
    Network,
    Pass,
    Probe,
    Shape,
    SiteKey,
    check_initialized,
    patched,
    probe_network,
    put_back,
    state_kept,
    threshold,
)
from caveat._seeds import site_key
from caveat.errors import UnsupportedModelError, explain

_KEPT = Make("kept", lambda keep: keep)


@dataclass(frozen=True)
class Numbers:
    """What one site asks for: which elements of ``shape`` are kept, or uniform numbers where ``threshold`` is None."""

    site: int
    shape: tuple[int, ...]
    threshold: int | None
    by_row: bool = False


@dataclass(frozen=True)
class Recording:
    """The program of draw 0 on some rows, with what it was given and what came of it.

    The inputs of the program are ``tensors`` and then ``numbers``, one for each of ``asked``.
    """

    program: Program
    tensors: list[Tensor]
    numbers: list[Tensor]
    asked: list[Numbers]
    values: list[Tensor]
    names: list[str]


@dataclass
class Function:
    """A network as one draw uses it: probed, and recorded for any number of rows of ``inputs``."""

    network: Network
    probe: Probe
    inputs: Inputs
    read: Callable[[Any], Values]

    @property
    def rows(self) -> int:
        """The number of rows that the inputs have."""
        assert self.probe.axes is not None
        return self.probe.axes.count(self.inputs) or 1

    def record(self, rows: int) -> Recording:
        """Record a draw on ``rows`` rows, those of the inputs again and again.

        Raises:
            UnsupportedModelError: the pass cannot be recorded.
        """
        axes = self.probe.axes
        assert axes is not None
        inputs = axes.take(self.inputs, [row % self.rows for row in range(rows)])
        tensors = [tensor.contiguous() for tensor in tensors_in(inputs)]
        with self._at_rest(), _as_exported(), Recorder(tensors_in(inputs), in_order=True) as recorder:
            source = _Asking(recorder, self.network.device())
            values = self.read(self._pass(source, inputs, rows).run())
        leaves, names = _named(values)
        try:
            program = recorder.program(leaves)
        except CannotRecordError as error:
            place = self.place_of(str(error).partition(" ")[0].rpartition(".")[0])
            where = "" if place is None else f", in {place[1] or '(the model itself)'!r}"
            raise UnsupportedModelError(
                "A draw must be a fixed list of tensor operations to be exported.",
                got=f"{error}{where}",
                cause="the network decides on values, or draws random numbers where caveat cannot see it",
                fix="export the part of the network that does not: caveat.predict still draws from the whole",
            ) from None
        if any(slot.dtype == torch.bfloat16 for step in program.steps for slot in step.made()):
            raise UnsupportedModelError(
                "An exported network computes in float32, float64 or float16.",
                got="bfloat16, which ONNX Runtime does not compute with on a CPU or in a browser",
                fix="export the network in float32: model.float()",
            )
        return Recording(program, tensors, source.numbers, source.asked, leaves, names)

    def values(self, rows: int) -> list[Tensor]:
        """What draw 0 of the network as it is gives on ``rows`` rows."""
        assert self.probe.axes is not None
        inputs = self.probe.axes.take(self.inputs, [row % self.rows for row in range(rows)])
        with self._at_rest():
            running = self._pass(MaskSource(0, device=self.network.device()), inputs, rows)
            return _named(self.read(running.run()))[0]

    def place_of(self, operator: str) -> tuple[str, str] | None:
        """The network's own operator that came to this one (as "prims.add"), and the first module that runs it."""
        assert self.probe.axes is not None
        rows = min(self.rows, 2)
        inputs = self.probe.axes.take(self.inputs, range(rows))
        running = self._pass(MaskSource(0, device=self.network.device()), inputs, rows)
        with self._at_rest(), _Places(running) as places:
            running.run()
        name = operator.rpartition(".")[2].strip("_")
        return next(((found, path) for found, path in places.of.items() if found.endswith(name)), None)

    def _pass(self, source: object, inputs: Inputs, rows: int) -> Pass:
        numbers = torch.arange(rows, device=self.network.device())
        drawing = Drawing(cast(MaskSource, source), range(1), numbers)
        return Pass(self.network, self.probe.rules, inputs, drawing)

    @contextmanager
    def _at_rest(self) -> Generator[None]:
        with torch.no_grad(), patched(), state_kept(self.network.modules, self.probe.written):
            yield


def functions_of(
    models: Sequence[torch.nn.Module],
    inputs: Inputs,
    read: Callable[[Any], Values],
    live: LivePredicate,
    per_row: bool,
    in_dims: Any,
) -> list[Function]:
    """The networks, probed on these inputs.

    Raises:
        UnsupportedModelError: the batch is fixed, or cannot be told.
    """
    functions = list[Function]()
    for model in models:
        network = Network(model)
        check_initialized(network)
        with patched():
            found = probe_network(network, inputs, live, per_row, read, in_dims)
        if not found.separable or found.rows_alone or found.unmanaged or not found.rules.repeatable:
            raise UnsupportedModelError(_why_fixed(found))
        functions.append(Function(network, found, inputs, read))
    return functions


def _why_fixed(found: Probe) -> str:
    if found.unmanaged:
        got = "a network that draws from torch's own random state in ways that cannot be intercepted"
    elif not found.rules.repeatable:
        got = "a network with hooks, that writes on its inputs or buffers, or that takes a gradient inside"
    else:
        got = "a network whose rows cannot be told apart, or that takes one batch size only"
    return explain(
        "An exported network must take batches of any size, row by row.",
        got=got,
        cause="an exported program with a fixed batch, statistics over the batch, or sizes that are written in",
        fix="name the batch with in_dims=; torch.export.export(..., dynamic_shapes={'x': {0: Dim('batch')}})",
    )


def _named(values: Values) -> tuple[list[Tensor], list[str]]:
    if isinstance(values, Tensor):
        return [values], [""]
    return list(values.values()), list(values)


@dataclass
class _Asking:
    """A mask source that hands the recorder plain numbers as inputs, and notes what each site asked for."""

    recorder: Recorder
    device: torch.device
    asked: list[Numbers] = field(default_factory=list[Numbers])
    numbers: list[Tensor] = field(default_factory=list[Tensor])

    def __post_init__(self) -> None:
        self._source = MaskSource(0, device=self.device)

    def _given(self, numbers: Numbers, made: Callable[[], Tensor], *lead: int) -> Tensor:
        with self.recorder.paused():
            tensor = made().reshape(*lead, *numbers.shape)
        self.recorder.add_input(tensor)
        self.asked.append(numbers)
        self.numbers.append(tensor)
        return tensor.flatten(len(lead)) if numbers.shape else tensor.reshape(*lead, 1)

    def masks(self, site: SiteKey, shape: Shape, rate: float, draws: range, make: Make) -> Tensor:
        """As ``MaskSource.masks``."""
        asked = Numbers(site_key(site.path, site.ordinal), _axes(shape), threshold(rate))
        return make.of(self._given(asked, lambda: self._source.masks(site, shape, rate, draws, _KEPT), 1))

    def masks_by_row(
        self, site: SiteKey, shape: Shape, rate: float, draws: range, rows: Tensor, make: Make
    ) -> Tensor:
        """As ``MaskSource.masks_by_row``."""
        key = site_key(site.path, site.ordinal, "rows")
        asked = Numbers(key, _axes(shape), threshold(rate), by_row=True)
        made = self._given(
            asked, lambda: self._source.masks_by_row(site, shape, rate, draws, rows, _KEPT), 1, len(rows)
        )
        return make.of(made)

    def uniform(self, site: SiteKey, shape: Shape, draws: range, dtype: torch.dtype) -> Tensor:
        """As ``MaskSource.uniform``, in float32."""
        if dtype == torch.float64:
            raise UnsupportedModelError(
                "Random numbers are exported in float32.",
                got=f"float64 at {site.path or '(the model itself)'!r}",
                fix="export the network in float32: model.float()",
            )
        asked = Numbers(site_key(site.path, site.ordinal), _axes(shape), None)
        return self._given(asked, lambda: self._source.uniform(site, shape, draws, torch.float32), 1)


def _axes(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


@contextmanager
def _as_exported() -> Generator[None]:
    """What networks and torch ask for before they choose a way that no file could hold: there is one way.

    Attention is written out, no layer is fused, and ``torch.compiler.is_compiling()`` is true, as it is under torch's
    own export: libraries then do not look into masks for whether to use them.
    """
    compiler = cast(Any, torch.compiler)
    before = compiler._is_compiling_flag, compiler._is_exporting_flag
    fused = torch.backends.mha.get_fastpath_enabled()

    def restore() -> None:
        compiler._is_compiling_flag, compiler._is_exporting_flag = before
        torch.backends.mha.set_fastpath_enabled(fused)

    with put_back(restore), sdpa_kernel(SDPBackend.MATH):
        compiler._is_compiling_flag = compiler._is_exporting_flag = True
        torch.backends.mha.set_fastpath_enabled(False)
        yield


class _Places(DispatchMode):
    """Which module runs an operator first."""

    def __init__(self, running: Pass) -> None:
        super().__init__()
        self._running = running
        self.of: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        stack = self._running.stack
        if stack:
            self.of.setdefault(str(func.overloadpacket), self._running.network.paths[id(stack[-1])])
        return func(*args, **(kwargs or {}))
