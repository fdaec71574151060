"""Samplers as ONNX files: draws and summaries where there is no Python, as in a browser.

The file makes its own random numbers with the library's hash, in plain operators of ONNX: seed and number of draws are
inputs of it, and the draws are those of ``caveat.draws`` with the same seed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from caveat._checks import require_choice
from caveat._engine import Sampler, check_sampler_passed, draws
from caveat._extras import require
from caveat._files import write_whole
from caveat._inputs import Inputs, as_inputs, structure_of
from caveat._intercept import Network
from caveat.errors import InvalidArgumentError, UnsupportedModelError
from caveat.interop._onnx_file import Draft, Head, add_loop, add_network, add_numbers, element_type, model_of, node, own
from caveat.interop._onnx_functions import summary_of
from caveat.interop._onnx_network import SIZES, Converted, convert
from caveat.interop._onnx_recording import Function, functions_of
from caveat.measures import expected_entropy, mutual_information, predictive_entropy
from caveat.samplers import Ensemble, MCDropout

What = Literal["summary", "draws"]
_MEASURES = {each.__name__: each for each in (predictive_entropy, expected_entropy, mutual_information)}


def export_onnx(sampler: Sampler, x: Any, path: str | PathLike[str], *, what: What = "summary") -> Path:
    """Writes a sampler as one ONNX file, which draws and sums up wherever ONNX runs.

    Inputs of the file are those of the network, under the names of its ``forward``'s arguments and with any number of
    rows, ``seed`` and ``n`` (int64 numbers; n is at least 1). Draw i is a hash of (seed, i), in integer operators: what
    ONNX Runtime gives is what ``caveat.predict`` and ``caveat.draws`` give for that seed. What comes before the first
    site runs once, the rest in a loop with running sums, so memory does not grow with n.

    Args:
        sampler: What ``caveat.mc_dropout`` returns; or ``caveat.ensemble``, whose draw i is member i for any seed, and
            whose n is at most the number of members.
        x: a batch, as for ``caveat.predict``: its sizes but for the number of rows become those of the file.
        path: where to write.
        what: "summary": of classes ``mean`` (B..., C), ``variance`` (over draws), ``predictive_entropy`` (B...),
            ``expected_entropy`` and ``mutual_information`` (nats); of numbers ``mean`` (B..., D), ``variance``
            (total), ``epistemic_variance`` and ``aleatoric_variance``. "draws": ``draws`` (S, B, ...) themselves, as
            ``caveat.draws`` gives them. With several heads each name follows its head's: ``kind_mean``.

    Returns:
        The path.

    Raises:
        InvalidArgumentError: a path that is a folder, or in a folder that is not there.
        MissingExtraError: onnx or onnxscript is not installed, or too old.
        NothingRandomError: nothing that is read varies.
        UnsupportedModelError: an operator that ONNX does not have; a network that takes one batch size only, or decides
            on values; stratified masks; another sampler.

    Example:
        >>> import caveat
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> sampler = caveat.mc_dropout(model, output=caveat.Logits())
        >>> path = export_onnx(sampler, torch.zeros(2, 4), "model.onnx")  # doctest: +SKIP
    """
    check_sampler_passed(sampler, x)
    require_choice(what, "what", ("summary", "draws"))
    require("onnx", "onnx", at_least="1.17")
    require("onnxscript", "onnx", at_least="0.5")
    path = _checked_place(Path(fspath(path)))
    draws(sampler, x, n=1)  # all that is wrong with the sampler or the batch is said here
    functions = _functions(sampler, x)
    inputs = _names(functions[0].network.model, functions[0].inputs)
    converted = convert(functions, inputs)
    heads, outputs = _heads(sampler.output, converted, what)
    draft = Draft()
    at, axis = next((i, axis) for i, axis in enumerate(converted.axes) if axis is not None)
    draft.outside.append(_rows(inputs[at], axis))
    add_numbers(draft, converted.asked, converted.numbers, own("rows"))
    add_network(draft, converted.graph, converted.varying)
    add_loop(draft, heads)
    helper = require("onnx.helper", "onnx")
    given = [
        *(
            helper.make_tensor_value_info(name, element_type(a.dtype), _sizes(a, b))
            for name, a, b in zip(inputs, *(recording.tensors for recording in converted.recordings), strict=True)
        ),
        *(helper.make_tensor_value_info(name, element_type(torch.int64), []) for name in ("seed", "n")),
    ]
    about = {"sampler": repr(sampler), "what": what}
    content = model_of(draft, given, outputs, heads, about)
    write_whole(path, content.SerializeToString())
    return path


def _functions(sampler: Sampler, x: Any) -> list[Function]:
    """The networks of a sampler, probed on the batch."""
    if isinstance(sampler, MCDropout) and sampler.strata is None:
        models, live, per_row = [sampler.model], sampler.live, sampler.masks == "per_row"
    elif isinstance(sampler, Ensemble):
        models, live, per_row = list(sampler.models), _nothing, False
    else:
        got = "stratified masks" if isinstance(sampler, MCDropout) else f"a sampler of type {type(sampler).__name__}"
        raise UnsupportedModelError(
            "Only Monte-Carlo dropout with independent draws and ensembles of networks can be exported.",
            got=got,
            fix="leave strata= out, or export each part of a mixture to a file of its own",
        )
    inputs = as_inputs(x, Network(models[0]).device())
    if any(isinstance(leaf, PackedSequence) for leaf in structure_of(inputs).leaves):
        raise UnsupportedModelError(
            "The inputs of an ONNX file must be tensors.", got="a PackedSequence", fix="pass padded sequences"
        )
    return functions_of(models, inputs, sampler.output.read, live, per_row, sampler.in_dims)


def _checked_place(path: Path) -> Path:
    """Returns the path of a file that can be there; a long export would else end in the system's own error."""
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidArgumentError(
            "path must name a file in a folder that is there.",
            got=f"{path}, a folder" if path.is_dir() else f"{path}, whose folder does not exist",
            fix="make the folder first: Path(path).parent.mkdir(parents=True, exist_ok=True)",
        )
    return path


def _nothing(path: str, module: nn.Module) -> bool:
    return False


def _names(model: nn.Module, inputs: Inputs) -> list[str]:
    """A name for each tensor of the inputs: the argument's, with a number where one holds several."""
    args, kwargs = inputs
    parameters = [*inspect.signature(model.forward).parameters.values()]
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    positional += [f"input_{number}" for number in range(len(positional), len(args))]
    names = list[str]()
    for name, value in [*zip(positional, args, strict=False), *kwargs.items()]:
        count = len(structure_of(((value,), {})).leaves)
        name = f"{name}_input" if name in ("seed", "n") else name
        names += [name] if isinstance(value, Tensor) else [f"{name}_{number}" for number in range(count)]
    return names


def _rows(name: str, axis: int) -> Any:
    return node("Shape", [name], [own("rows")], start=axis, end=axis + 1)


def _heads(output: Any, converted: Converted, what: str) -> tuple[list[Head], list[Any]]:
    """What is read of a draw, and how the outputs that are made of it are declared."""
    heads, declared = list[Head](), list[Any]()
    info = require("onnx.helper", "onnx").make_tensor_value_info
    names = converted.recordings[0].names
    for number, (name, value) in enumerate(zip(names, converted.values, strict=True)):
        prefix = f"{name}_" if name else ""
        one = output.outputs[name] if name else output
        small, large = (recording.values[number] for recording in converted.recordings)
        if what == "draws":
            heads.append(Head(value, [f"{prefix}draws"], small.dtype))
            declared.append(info(f"{prefix}draws", element_type(small.dtype), ["n", *_sizes(small, large)]))
            continue
        summary = summary_of(one, number)
        a, b = (_measured(one.summarize(values[None]), summary.names) for values in (small, large))
        dtype = a["mean"].dtype
        heads.append(Head(value, [f"{prefix}{each}" for each in summary.names], dtype, summary))
        declared += [info(f"{prefix}{n}", element_type(dtype), _sizes(a[n], b[n])) for n in summary.names]
    return heads, declared


def _measured(pred: Any, names: Sequence[str]) -> dict[str, Tensor]:
    return {name: _MEASURES[name](pred) if name in _MEASURES else getattr(pred, name) for name in names}


def _sizes(small: Tensor, large: Tensor) -> list[int | str]:
    """The sizes of a tensor in the file, of those in two recordings."""
    pairs = zip(small.shape, large.shape, strict=True)
    return [a if a == b else "batch" if a == SIZES[0] else "rows_of_batch" for a, b in pairs]
