"""The graph of an ONNX file: a loop over draws around the part of a network that random numbers reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from caveat._extras import require
from caveat._intercept import words_along
from caveat.interop._onnx_functions import DOMAIN, OPSET, Summary, functions_for
from caveat.interop._onnx_recording import Numbers

_IR_VERSION = 10
_CPU = torch.device("cpu")


def own(name: str) -> str:
    """A name in the file that no argument of a network can have."""
    return f"caveat/{name}"


DRAW = own("draw")


@dataclass
class Draft:
    """A file in the making: nodes ``outside`` run once, those ``inside`` for each draw."""

    outside: list[Any] = field(default_factory=list[Any])
    inside: list[Any] = field(default_factory=list[Any])
    constants: dict[str, Any] = field(default_factory=dict[str, Any])

    def constant(self, name: str, value: Any) -> str:
        """The name of a constant, held once."""
        name = own(name)
        if name not in self.constants:
            self.constants[name] = require("onnx.numpy_helper", "onnx").from_array(np.asarray(value), name)
        return name


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """A node of ONNX's own, or of the library's functions."""
    name, _, own_name = kind.partition(f"{DOMAIN}.")
    helper = require("onnx.helper", "onnx")
    domain = {"domain": DOMAIN} if own_name else {}
    return helper.make_node(own_name or name, list(inputs), list(outputs), **domain, **attributes)


def element_type(dtype: torch.dtype) -> int:
    """ONNX's number for a type."""
    numpy_type = torch.empty(0, dtype=dtype).numpy().dtype
    return int(require("onnx.helper", "onnx").np_dtype_to_tensor_dtype(numpy_type))


def add_numbers(draft: Draft, asked: Sequence[Numbers], names: Sequence[str], rows: str) -> None:
    """The random numbers of every site, under these names: the library's hash of seed, draw, site and coordinates."""
    word = own("draw_word")
    draft.inside.append(node("Cast", [DRAW], [word], to=element_type(torch.uint64)))
    for name, numbers in zip(names, asked, strict=True):
        base, index, made = f"{name}/base", word, f"{name}/made"
        site = draft.constant(f"site_{numbers.site}", np.uint64(numbers.site))
        draft.outside.append(node("caveat.SiteBase", ["seed", site], [base]))
        words = _words(draft, name, numbers.shape)
        if numbers.by_row:
            index, axes = f"{name}/index", len(numbers.shape)
            ones = draft.constant(f"ones_{axes}", np.ones(axes, np.int64))
            draft.inside.append(node("caveat.DrawAndRow", [word, rows, ones], [index]))
        if numbers.threshold is None:
            draft.inside.append(node("caveat.Uniform", [base, index, words], [made]))
        else:
            least = draft.constant(f"threshold_{numbers.threshold}", np.int32(numbers.threshold))
            draft.inside.append(node("caveat.Keep", [base, index, words, least], [made]))
        draft.inside.append(node("Unsqueeze", [made, draft.constant("first_axis", np.zeros(1, np.int64))], [name]))


def _words(draft: Draft, name: str, shape: tuple[int, ...]) -> str:
    """The word of each element of a site's numbers: a sum over its coordinates."""
    total = draft.constant("no_words", np.zeros((), np.uint32))
    for axis, size in enumerate(reversed(shape)):
        words = words_along(axis, size, _CPU).numpy().view(np.uint32).reshape(-1, *(1,) * axis)
        along = draft.constant(f"words_{axis}_{size}", words)
        draft.outside.append(node("Add", [total, along], [f"{name}/words_{axis}"]))
        total = f"{name}/words_{axis}"
    return total


def add_network(draft: Draft, graph: Any, varying: Sequence[str]) -> None:
    """The nodes of the network: what depends on the varying names inside the loop, before it all else."""
    reached = set(varying)
    for each in graph.node:
        if reached.isdisjoint(_names_in(each)):
            draft.outside.append(each)
        else:
            reached.update(each.output)
            draft.inside.append(each)
    draft.constants.update({tensor.name: tensor for tensor in graph.initializer})


def _names_in(each: Any) -> list[str]:
    """What a node uses, also in graphs of its own."""
    names = list(each.input)
    for attribute in each.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names += [name for inner in graph.node for name in _names_in(inner)]
            names += [output.name for output in graph.output]
    return names


@dataclass(frozen=True)
class Head:
    """One tensor that is read of a draw: its name in the graph, and the outputs of the file that are made of it.

    Without a summary there is one output, the draws themselves. ``dtype`` is that of the outputs.
    """

    value: str
    outputs: list[str]
    dtype: torch.dtype
    summary: Summary | None = None


def add_loop(draft: Draft, heads: Sequence[Head]) -> None:
    """The loop over draws, and after it the outputs of every head."""
    helper = require("onnx.helper", "onnx")
    boolean, integer, double = (element_type(dtype) for dtype in (torch.bool, torch.int64, torch.float64))
    info = helper.make_tensor_value_info
    states, scans = list[str](), list[Head]()
    for number, head in enumerate(heads):
        if head.summary is None:
            draft.inside.append(node("Identity", [head.value], [own(f"one_of_{head.outputs[0]}")]))
            scans.append(head)
            continue
        value, noise = own(f"value_{number}"), own(f"noise_{number}")
        mean, squares, average = sums = [own(f"{part}_{number}") for part in ("mean", "squares", "mean_noise")]
        draft.inside += [
            node(f"caveat.{head.summary.read}", [head.value], [value, noise]),
            node("caveat.Average", [mean, value, DRAW], [f"{mean}/next"]),
            node("caveat.Squares", [squares, mean, f"{mean}/next", value], [f"{squares}/next"]),
            node("caveat.Average", [average, noise, DRAW], [f"{average}/next"]),
        ]
        states += sums
    on, going = own("on"), own("going")
    draft.inside.append(node("Identity", [on], [going]))
    body = helper.make_graph(
        draft.inside,
        "one_draw",
        [info(DRAW, integer, []), info(on, boolean, []), *(info(state, double, None) for state in states)],
        [
            info(going, boolean, []),
            *(info(f"{state}/next", double, None) for state in states),
            *(info(own(f"one_of_{head.outputs[0]}"), element_type(head.dtype), None) for head in scans),
        ],
    )
    # A state begins as one number, and takes the shape of the values with the first draw.
    zeros = [draft.constant("zero", np.float64(0)) for _ in states]
    ends = [*(f"{state}/end" for state in states), *(head.outputs[0] for head in scans)]
    draft.outside.append(node("Loop", ["n", "", *zeros], ends, body=body))
    for number, head in enumerate(heads):
        if head.summary is not None:
            sums = [own(f"{part}_{number}/end") for part in ("mean", "squares", "mean_noise")]
            wide = [own(f"wide_{name}") for name in head.outputs]
            draft.outside.append(node(f"caveat.{head.summary.finish}", [*sums, "n"], wide))
            for name, output in zip(wide, head.outputs, strict=True):
                draft.outside.append(node("Cast", [name], [output], to=element_type(head.dtype)))


def model_of(draft: Draft, inputs: list[Any], outputs: list[Any], heads: Sequence[Head], about: dict[str, str]) -> Any:
    """The whole file, checked."""
    helper = require("onnx.helper", "onnx")
    graph = helper.make_graph(draft.outside, "caveat", inputs, outputs, list(draft.constants.values()))
    model = helper.make_model(
        graph,
        functions=functions_for([head.summary for head in heads if head.summary is not None]),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=_IR_VERSION,
        producer_name="caveat",
    )
    helper.set_model_props(model, about)
    require("onnx.checker", "onnx").check_model(model, full_check=True)
    return model
