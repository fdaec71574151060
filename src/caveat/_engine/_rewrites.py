"""Passes over a program: fewer operations, and less memory, for the same values.

Each takes a program before it is made ready and changes it in place. ``shorten`` is for stacked or unrolled members,
``reuse_memory`` for what is played many times in a row; both end with activations that write on what they come from.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._program import Form, Program, Slot, Step
from caveat._intercept import is_worth_maxima, max_of_windows, windows_of

Room = dict[Form, list[Tensor]]
"""Memory for results by shape, dtype and device. Programs that are played one after another share it."""

_aten = torch.ops.aten
_EXPAND, _BMM, _BADDBMM = _aten.expand.default, _aten.bmm.default, _aten.baddbmm.default
# Operations that may write on their argument where nothing else needs it: less memory goes through the cache.
_IN_PLACE: dict[Any, Any] = {
    _aten.relu.default: _aten.relu_.default,
    _aten.tanh.default: _aten.tanh_.default,
    _aten.sigmoid.default: _aten.sigmoid_.default,
    _aten.gelu.default: _aten.gelu_.default,
    _aten.silu.default: _aten.silu_.default,
    _aten.elu.default: _aten.elu_.default,
    _aten.leaky_relu.default: _aten.leaky_relu_.default,
    _aten.add.Tensor: _aten.add_.Tensor,
    _aten.sub.Tensor: _aten.sub_.Tensor,
    _aten.mul.Tensor: _aten.mul_.Tensor,
    _aten.div.Tensor: _aten.div_.Tensor,
    _aten.masked_fill.Scalar: _aten.masked_fill_.Scalar,
}
# Operations that can write their result where they are told to: memory is taken once and not in every run.
_INTO: dict[Any, Any] = {
    _aten.bmm.default: _aten.bmm.out,
    _aten.mm.default: _aten.mm.out,
    _aten.addmm.default: _aten.addmm.out,
    _aten.baddbmm.default: _aten.baddbmm.out,
    _aten.add.Tensor: _aten.add.out,
    _aten.sub.Tensor: _aten.sub.out,
    _aten.mul.Tensor: _aten.mul.out,
    _aten.div.Tensor: _aten.div.out,
    _aten.cat.default: _aten.cat.out,
    _aten.maximum.default: _aten.maximum.out,
    _aten.relu.default: _aten.relu.out,
    _aten._softmax.default: _aten._softmax.out,
}
_POOLS: dict[Any, int] = {_aten.max_pool2d_with_indices.default: 2, _aten.max_pool3d_with_indices.default: 3}
_LARGE_BYTES = 64 << 10  # smaller results gain nothing from memory of their own
_NEW_NUMBERS = itertools.count(1 << 40)  # beyond all that a recording gives
_FEW_PRODUCTS = 400  # below, torch multiplies matrices itself, in another order
# These give their argument again where shape and strides stay.
_VIEWS = {
    _aten.view.default, _aten._unsafe_view.default, _aten.expand.default, _aten.detach.default,
    _aten.permute.default, _aten.transpose.int, _aten.unsqueeze.default, _aten.squeeze.dim,
}  # fmt: skip


def shorten(program: Program) -> None:
    """Drop views that change nothing; make products and sums, and first layers of all members, one operation."""
    if not any(step.func._schema.is_mutable for step in (*program.steps, *program.fixed)):
        _drop_idle_views(program)
        _fuse_sums(program)
        _multiply_together(program)
        drop_unused(program)
        _order_weights(program)
        _pool_by_maxima(program)
    write_in_place(program)


def reuse_memory(program: Program, room: Room) -> None:
    """Let go of what is not needed, and give results memory that is taken once, of the room."""
    drop_unused(program)
    own = _own_storages(program)
    _place(program, write_in_place(program), own, room)


def drop_unused(program: Program) -> None:
    """Drop the steps whose results nothing uses."""
    needed = {slot.number for slot in program.outputs}
    kept = list[Step]()
    for step in reversed(program.steps):
        if step.func._schema.is_mutable or any(slot.number in needed for slot in step.made()):
            kept.append(step)
            needed |= {slot.number for slot in step.inputs()}
    program.steps = kept[::-1]


def write_in_place(program: Program) -> dict[int, int]:
    """Write on an argument that nothing needs afterwards; returns whose memory a result's then is."""
    steps, free = program.steps, _own_storages(program) - {slot.storage for slot in program.outputs}
    last = {slot.storage: index for index, step in enumerate(steps) for slot in (*step.made(), *step.inputs())}
    merged = dict[int, int]()
    for index, step in enumerate(steps):
        first = step.args[0] if step.args else None
        if step.func not in _IN_PLACE or not isinstance(first, Slot) or not first.fills:
            continue
        result = step.result
        alike = result.fills and (result.form, result.stride) == (first.form, first.stride)
        alone = alike and all(slot.storage != first.storage for slot in step.inputs()[1:])
        if alone and first.storage in free and last[first.storage] == index:
            steps[index] = replace(step, func=_IN_PLACE[step.func])
            merged[result.storage] = merged.get(first.storage, first.storage)
    return merged


def _own_storages(program: Program) -> set[int]:
    """The memory that a run makes itself: not that of inputs, which are remembered, or of constants."""
    given = {slot.number for slot in program.inputs}
    slots = {slot for step in program.steps for slot in (*step.made(), *step.inputs())}
    others = {slot.storage for slot in slots if slot.number in given or not slot.varying}
    return {slot.storage for slot in slots} - others


# -- memory taken once -------------------------------------------------------------------------------------------------


def _place(program: Program, merged: dict[int, int], own: set[int], room: Room) -> None:
    """Give each result that can be told where to go a piece of memory that is free at that time.

    An output gets memory of its own: it outlives the run, and other programs are played meanwhile.
    """
    steps, memory, last = program.steps, program.memory, dict[int, int]()
    for index, step in enumerate(steps):
        last.update({merged.get(slot.storage, slot.storage): index for slot in (*step.made(), *step.inputs())})
    last.update({merged.get(slot.storage, slot.storage): len(steps) for slot in program.outputs})
    unused, taken = dict[Form, list[int]](), dict[Form, int]()
    until: list[list[tuple[Form, int]]] = [[] for _ in range(len(steps) + 1)]
    for index, step in enumerate(steps):
        result = step.made()[0] if len(step.outputs) == 1 and step.made() else None
        if step.func in _INTO and result is not None and result.storage in own and _is_large(result):
            form, end = result.form, last[merged.get(result.storage, result.storage)]
            if end == len(steps):
                place = len(memory)
                memory.append(_empty(form))
            elif unused.get(form):
                place = unused[form].pop()
            else:
                place = len(memory)
                memory.append(_from(room, form, taken.get(form, 0)))
                taken[form] = taken.get(form, 0) + 1
            steps[index] = replace(step, func=_INTO[step.func], into=place)
            until[end].append((form, place))
        for form, place in until[index]:
            unused.setdefault(form, []).append(place)


def _is_large(slot: Slot) -> bool:
    return slot.whole and math.prod(slot.shape) * slot.dtype.itemsize >= _LARGE_BYTES


def _empty(form: Form) -> Tensor:
    shape, dtype, device = form
    return torch.empty(shape, dtype=dtype, device=device)


def _from(room: Room, form: Form, number: int) -> Tensor:
    """The tensor of that number in the room, made if no other program has needed so many."""
    shelf = room.setdefault(form, [])
    if number == len(shelf):
        shelf.append(_empty(form))
    return shelf[number]


# -- fewer operations --------------------------------------------------------------------------------------------------


def _drop_idle_views(program: Program) -> None:
    same: dict[int, Slot] = {}
    kept = list[Step]()
    for step in program.steps:
        args, kwargs = _renamed((step.args, step.kwargs), same)
        first, out = args[0] if args else None, step.outputs[0]
        if step.func in _VIEWS and isinstance(first, Slot) and out is not None and _looks_alike(first, out):
            same[out.number] = first
        else:
            kept.append(replace(step, args=args, kwargs=kwargs))
    program.steps, program.outputs = kept, _renamed(program.outputs, same)


def _looks_alike(a: Slot, b: Slot) -> bool:
    return (a.shape, a.stride, a.dtype) == (b.shape, b.stride, b.dtype)


def _fuse_sums(program: Program) -> None:
    """A product of matrices and what is added to it as one operation."""
    uses = [slot.number for step in program.steps for slot in step.inputs()] + [s.number for s in program.outputs]
    products = {step.result.number: step for step in program.steps if step.func is _BMM}
    gone = set[int]()
    fused = list[Step]()
    for step in program.steps:
        if step.func is _aten.add.Tensor and not step.kwargs and all(isinstance(a, Slot) for a in step.args):
            for one, other in (step.args, step.args[::-1]):
                product = products.get(one.number)
                if product is not None and uses.count(one.number) == 1 and _adds(other, one, step.result):
                    gone.add(one.number)
                    step = Step(_BADDBMM, [other, *product.args], {}, step.outputs)
                    break
        fused.append(step)
    program.steps = [step for step in fused if step.outputs[0] is None or step.outputs[0].number not in gone]


def _adds(summand: Slot, product: Slot, out: Slot) -> bool:
    """Returns whether this adds something known before it to a matrix product, without a change of shape or dtype."""
    alike = out.shape == product.shape and summand.dtype == product.dtype
    return alike and len(summand.shape) <= 3 and not summand.varying


def _multiply_together(program: Program) -> None:
    """Layers of all members on one and the same input as one product: (B, I) times (I, M O)."""
    wide = list[Step]()
    expanded = {step.result.number: step for step in program.steps if step.func is _EXPAND}
    for step in program.steps:
        source = expanded.get(step.args[1].number) if step.func is _BADDBMM and not step.kwargs else None
        if source is None or not _is_shared(source.args[0], step):
            wide.append(step)
        else:
            wide += _one_product(program, source.args[0], step)
    program.steps = wide


def _is_shared(x: Slot, product: Step) -> bool:
    """Returns whether it is one input (B, I) for all members, with weights (M, I, O) and biases (M, 1, O) that stay."""
    bias, expanded, weight = product.args[:3]
    if bias.varying or weight.varying:
        return False
    members, inputs, outputs = weight.shape
    return bias.shape == (members, 1, outputs) and x.shape == (expanded.shape[1], inputs)


def _one_product(program: Program, x: Slot, step: Step) -> list[Step]:
    bias, _, weight = step.args[:3]
    out = step.result
    members, rows, outputs = out.shape
    wide_weight, wide_bias = _new_slot(weight), _new_slot(bias)
    program.fixed.append(Step(_columns, [weight], {}, [wide_weight]))
    program.fixed.append(Step(torch.flatten, [bias], {}, [wide_bias]))
    together = replace(_new_slot(out), storage=out.storage)  # the views share the product's memory
    product = Step(_aten.addmm.default, [wide_bias, x, wide_weight], {}, [together])
    if rows == 1:
        return [product, Step(_aten.view.default, [together, [members, 1, outputs]], {}, [out])]
    apart = replace(_new_slot(out), storage=out.storage)
    return [
        product,
        Step(_aten.view.default, [together, [rows, members, outputs]], {}, [apart]),
        Step(_aten.transpose.int, [apart, 0, 1], {}, [out]),
    ]


def _order_weights(program: Program) -> None:
    """Weights (M, I, O) stored in that order: products of more than a few numbers are a third faster for it."""
    for place, step in enumerate(program.steps):
        weight = step.args[2] if step.func is _BADDBMM else None
        if not isinstance(weight, Slot) or weight.varying:
            continue
        if step.result.shape[1] * weight.shape[1] * weight.shape[2] >= _FEW_PRODUCTS:
            ordered = _new_slot(weight)
            program.fixed.append(Step(Tensor.contiguous, [weight], {}, [ordered]))
            program.steps[place] = replace(step, args=[*step.args[:2], ordered])


def _pool_by_maxima(program: Program) -> None:
    """Large max poolings whose indices nothing uses, by a faster way."""
    used = {slot.number for step in program.steps for slot in step.inputs()} | {s.number for s in program.outputs}
    for place, step in enumerate(program.steps):
        axes = _POOLS.get(step.func)
        if axes is None or step.kwargs or any(slot.number in used for slot in step.made()[1:]):
            continue
        x = step.args[0]
        windows = windows_of(x.shape[-axes:], *step.args[1:])
        if windows is not None and step.result.whole and is_worth_maxima(x.shape, x.stride, x.dtype, x.device):
            program.steps[place] = Step(max_of_windows, [x, windows], {}, step.outputs[:1])


def _new_slot(like: Slot) -> Slot:
    """A slot that nothing has, in memory of its own."""
    return replace(like, number=next(_NEW_NUMBERS), storage=next(_NEW_NUMBERS))


def _columns(weight: Tensor) -> Tensor:
    """Weights (M, I, O) beside each other, (I, M O)."""
    return weight.permute(1, 0, 2).flatten(1).contiguous()


def _renamed(tree: Any, names: dict[int, Slot]) -> Any:
    return pytree.tree_map_only(Slot, lambda slot: names.get(slot.number, slot), tree)
