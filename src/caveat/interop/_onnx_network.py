"""A recorded draw as ONNX nodes: played as a module whose sizes follow the batch, which torch's own exporter converts.

What the library adds to that exporter is the recording, in which every site asks for numbers that are inputs, and the
sizes: where two recordings differ in an integer, it is a multiple of the rows plus a constant.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._extras import require
from caveat._intercept import close
from caveat.errors import CaveatError, UnsupportedModelError, explain
from caveat.interop._onnx_file import DRAW, own
from caveat.interop._onnx_functions import OPSET
from caveat.interop._onnx_operators import PLAINER
from caveat.interop._onnx_recording import Function, Numbers, Recording

SIZES = (3, 5)
_OTHER_SIZE = 4
_MOST_ROWS = 1 << 31
_MOST_BYTES = (1 << 31) - (1 << 24)  # what is no weight takes its part


class _NotAnySizeError(Exception):
    """What was recorded does not hold for a batch of any size."""


class Played(nn.Module):
    """The programs of all networks, for any number of rows: inputs, then random numbers (or the draw), to the values.

    Of several networks the values of one are taken, that of the number ``draw``.
    """

    def __init__(self, functions: Sequence[Function]) -> None:
        super().__init__()
        pairs = [tuple(function.record(rows) for rows in SIZES) for function in functions]
        self.first = [a for a, _ in pairs]
        self.second = [b for _, b in pairs]
        axes = functions[0].probe.axes
        assert axes is not None
        self.axes = axes.of
        for member, (a, b) in enumerate(pairs):
            if [step.func for step in a.program.steps] != [step.func for step in b.program.steps]:
                raise _NotAnySizeError("a batch of another size runs other operations")
            for number, tensor in a.program.held.items():
                self.register_buffer(f"constant_{member}_{number}", tensor.detach())

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The values of one draw, each (B, ...)."""
        inputs = len(self.first[0].tensors)
        rows = next(tensor.shape[axis] for tensor, axis in zip(given, self.axes, strict=False) if axis is not None)
        if len(self.first) == 1:
            return tuple(self.play(0, given, rows))
        each = [self.play(member, given[:inputs], rows) for member in range(len(self.first))]
        draw = given[inputs].reshape(1)
        return tuple(torch.stack(values).index_select(0, draw).squeeze(0) for values in zip(*each, strict=True))

    def play(self, member: int, given: Sequence[Tensor], rows: Any) -> list[Tensor]:
        """The values of one network, for inputs and random numbers of ``rows`` rows."""
        program, other = self.first[member].program, self.second[member].program
        values = {slot.number: tensor for slot, tensor in zip(program.inputs, given, strict=True)}
        values |= {number: getattr(self, f"constant_{member}_{number}") for number in program.held}
        for step, twin in zip(program.steps, other.steps, strict=True):
            args, kwargs = _with_sizes((step.args, step.kwargs), (twin.args, twin.kwargs), rows, values)
            returned = PLAINER.get(step.func, step.func)(*args, **kwargs)
            for slot, value in zip(step.outputs, returned if step.several else (returned,), strict=True):
                if slot is not None:
                    values[slot.number] = value
        return [values[slot.number] for slot in program.outputs]


def _with_sizes(one: Any, two: Any, rows: Any, values: dict[int, Tensor]) -> Any:
    """Arguments with values for slots, and a function of ``rows`` for what differs from the one to the other."""
    first, spec = pytree.tree_flatten(one)
    second, other = pytree.tree_flatten(two)
    if spec != other:
        raise _NotAnySizeError("a batch of another size gives an operation other arguments")
    return pytree.tree_unflatten([_argument(*pair, rows, values) for pair in zip(first, second, strict=True)], spec)


def _argument(one: Any, two: Any, rows: Any, values: dict[int, Tensor]) -> Any:
    number = getattr(one, "number", None)
    if number is not None:
        return values[number]
    if one == two or (one != one and two != two):
        return one
    low, high = SIZES
    if type(one) is int and type(two) is int and (two - one) % (high - low) == 0:
        slope = (two - one) // (high - low)
        return slope * rows + (one - slope * low)
    raise _NotAnySizeError(f"{one} for a batch of {low} is {two} for a batch of {high}")


@dataclass(frozen=True)
class Converted:
    """A draw as ONNX nodes: the names of its random numbers and of its values, and what it was recorded from.

    ``varying`` are the names that differ from draw to draw.
    """

    graph: Any
    numbers: list[str]
    varying: list[str]
    values: list[str]
    asked: list[Numbers]
    recordings: tuple[Recording, Recording]
    axes: tuple[int | None, ...]


def convert(functions: Sequence[Function], inputs: Sequence[str]) -> Converted:
    """The graph of one draw of one network, or of member ``DRAW`` of several, with inputs of these names.

    Raises:
        UnsupportedModelError: an operator that ONNX does not have; operations that follow the batch's size otherwise
            than linearly.
    """
    try:
        played = Played(functions)
        _check_size(played)
        _check_other_size(played, functions)
        recording, axes = played.first[0], [*played.axes]
        if len(functions) == 1:
            given = (*recording.tensors, *recording.numbers)
            axes += [1 if asked.by_row else None for asked in recording.asked]
            numbers = [own(f"numbers_{number}") for number in range(len(recording.numbers))]
            varying = numbers
        else:
            given = (*recording.tensors, torch.zeros((), dtype=torch.int64, device=functions[0].network.device()))
            axes += [None]
            numbers, varying = [], [DRAW]
        any_size = cast(Any, torch.export.Dim).DYNAMIC
        sizes = tuple({} if axis is None else {axis: any_size} for axis in axes)
        with torch.no_grad(), _quiet():
            exported = torch.export.export(played, given, dynamic_shapes=(sizes,), strict=False)
        _check_bounds(exported)
    except CaveatError:
        raise
    except Exception as error:  # torch's own tracing fails in many ways where a size is not what it was
        raise UnsupportedModelError(_fixed(error)) from error
    names = [*inputs, *varying]
    try:
        with torch.no_grad(), _quiet():
            graph = _translate(exported, names).model_proto.graph
    except torch.onnx.errors.OnnxExporterError as error:
        raise UnsupportedModelError(_unsupported(error, functions)) from error
    add_prefix = require("onnx.compose", "onnx").add_prefix_graph
    weights = {weight.name: f"network/{weight.name}" for weight in graph.initializer}  # loops inside may use them
    graph = add_prefix(graph, "network/", rename_inputs=False, name_map=weights)
    values = [output.name for output in graph.output]
    asked, pair = recording.asked if numbers else [], (recording, played.second[0])
    return Converted(graph, numbers, varying, values, asked, pair, played.axes)


def _translate(exported: Any, names: list[str]) -> Any:
    settings: dict[str, Any] = {"dynamo": True, "opset_version": OPSET, "verbose": False, "input_names": names}
    try:
        return torch.onnx.export(exported, **settings)
    except torch.onnx.errors.OnnxExporterError:
        raise
    except Exception:  # a pass that makes the graph shorter fails where a split has no size that is a number
        return torch.onnx.export(exported, **settings, optimize=False)


def _check_size(played: Played) -> None:
    taken = sum(tensor.numel() * tensor.element_size() for tensor in played.buffers())
    if taken > _MOST_BYTES:
        raise UnsupportedModelError(
            "One ONNX file holds less than 2 GiB.",
            got=f"{taken / (1 << 30):.1f} GiB of weights",
            fix="export the network in half precision, model.half(), or the part of it that is drawn from",
        )


def _check_other_size(played: Played, functions: Sequence[Function]) -> None:
    """The programs must give what the networks give for a batch of a size that they were not recorded with."""
    for member, function in enumerate(functions):
        truth = function.record(_OTHER_SIZE)
        given = (*truth.tensors, *truth.numbers)
        with torch.no_grad():
            values = played.play(member, given, _OTHER_SIZE)
        if not all(close(a, b) for a, b in zip(values, function.values(_OTHER_SIZE), strict=True)):
            raise _NotAnySizeError(f"what was recorded gives other values for a batch of {_OTHER_SIZE}")


def _check_bounds(exported: Any) -> None:
    """The graph must hold for any number of rows: the exporter knows where an operation limits it, such as a split."""
    for bounds in exported.range_constraints.values():
        if bounds.upper < _MOST_ROWS:
            raise _NotAnySizeError(f"what was recorded holds for batches of at most {bounds.upper} rows")


@contextmanager
def _quiet() -> Generator[None]:
    """Without what torch's exporter says of libraries that are not there and of its own deprecated calls."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _fixed(error: Exception) -> str:
    kind = "" if isinstance(error, _NotAnySizeError) else f"{type(error).__name__}: "
    return explain(
        "An exported network must take batches of any size.",
        got=f"{kind}{str(error).splitlines()[0] if str(error) else ''}",
        cause="a size of the batch that is written into the network, or a loop over its rows or parts of the batch",
        fix="take sizes from the input, as in x.flatten(1) or x.reshape(x.shape[0], -1), and leave rows to torch",
    )


def _unsupported(error: Exception, functions: Sequence[Function]) -> str:
    text = str(error)
    found = re.search(r"op='([\w.]+)'", text)
    place = functions[0].place_of(found.group(1)) if found else None
    if place is not None:
        got = f"{place[0]} in {place[1] or '(the model itself)'!r}"
    else:
        got = found.group(1) if found else text.splitlines()[0]
    on_cpu = functions[0].network.device().type == "cpu"
    other = "write it with other operators of torch, or export the part of the network that is without it"
    return explain(
        "Every operator of an exported network must have a form in ONNX.",
        got=got,
        cause="an operator that torch.onnx has no translation of",
        fix=other if on_cpu else "export on the CPU, where torch runs fewer operators of libraries: model.cpu()",
    )
