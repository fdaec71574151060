"""Fewer operations for the same values: what a recorded pass does in more steps than it needs.

Views that change nothing go, products and sums become one operation, the first layers of all members one product, and
activations write on what they come from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat.samplers._members._program import Slot, Step

_aten = torch.ops.aten
_EXPAND, _BADDBMM = _aten.expand.default, _aten.baddbmm.default
# Operations that may write on their argument, where that is new and nothing else needs it.
_IN_PLACE: dict[Any, Any] = {
    _aten.relu.default: _aten.relu_.default,
    _aten.tanh.default: _aten.tanh_.default,
    _aten.sigmoid.default: _aten.sigmoid_.default,
    _aten.gelu.default: _aten.gelu_.default,
    _aten.silu.default: _aten.silu_.default,
}
# Results in memory of their own; and views that show the same numbers once each.
_NEW = {
    _BADDBMM, _aten.addmm.default, _aten.bmm.default, _aten.mm.default, _aten.convolution.default, _aten.add.Tensor,
}  # fmt: skip
_FEW_PRODUCTS = 400  # below, torch multiplies matrices itself, in another order
_REARRANGED = {_aten.view.default, _aten._unsafe_view.default, _aten.transpose.int, _aten.permute.default}
# These give their argument again where shape and strides stay.
_VIEWS = {
    _aten.view.default, _aten._unsafe_view.default, _aten.expand.default, _aten.detach.default,
    _aten.permute.default, _aten.transpose.int, _aten.unsqueeze.default, _aten.squeeze.dim,
}  # fmt: skip


class Shortener:
    """Knows shapes, strides and dtypes of a recording's tensors by slot, and which of them vary with the inputs."""

    def __init__(self, shapes: dict[int, tuple[Any, ...]], varying: set[int]) -> None:
        self._shapes, self._varying = shapes, varying

    def shortened(
        self, steps: list[Step], fixed: list[Step], outputs: list[Slot]
    ) -> tuple[list[Step], list[Slot]]:
        """The varying steps made fewer, and the outputs' slots; what it needs computed once is added to ``fixed``."""
        steps, outputs = self._without_idle_views(steps, outputs)
        steps = _needed(self._beside_each_other(steps, fixed), outputs)
        steps = [self._with_weights_in_order(step, fixed) for step in steps]
        return self._in_place(steps, outputs), outputs

    def _without_idle_views(self, steps: list[Step], outputs: list[Slot]) -> tuple[list[Step], list[Slot]]:
        """Without views that change nothing, and with products and sums in one operation."""
        same: dict[int, Slot] = {}
        kept = list[Step]()
        for step in steps:
            args, kwargs = _renamed((step.args, step.kwargs), same)
            first, out = args[0] if args else None, step.outputs[0]
            if isinstance(first, Slot) and out is not None and self._changes_nothing(step, first, out):
                same[out.number] = first
                continue
            kept.append(Step(step.func, args, kwargs, step.outputs, step.several))
        outputs = _renamed(outputs, same)
        return self._fused(kept, outputs), outputs

    def _changes_nothing(self, step: Step, first: Slot, out: Slot) -> bool:
        return step.func in _VIEWS and self._shapes[first.number] == self._shapes[out.number]

    def _fused(self, steps: list[Step], outputs: list[Slot]) -> list[Step]:
        uses = [slot.number for step in steps for slot in step.inputs()] + [slot.number for slot in outputs]
        bmm = _aten.bmm.default
        products = {step.outputs[0].number: step for step in steps if step.func is bmm and step.outputs[0]}
        gone = set[int]()
        fused = list[Step]()
        for step in steps:
            if step.func is _aten.add.Tensor and not step.kwargs and all(isinstance(a, Slot) for a in step.args):
                for one, other in (step.args, step.args[::-1]):
                    product = products.get(one.number)
                    if product is not None and uses.count(one.number) == 1 and self._adds(other, one, step):
                        gone.add(one.number)
                        step = Step(_aten.baddbmm.default, [other, *product.args], {}, step.outputs, False)
                        break
            fused.append(step)
        return [step for step in fused if step.outputs[0] is None or step.outputs[0].number not in gone]

    def _adds(self, summand: Slot, product: Slot, step: Step) -> bool:
        """Is this a sum of a matrix product and something known before it, without a change of shape or dtype?"""
        out = step.outputs[0]
        assert out is not None
        known, whole = self._shapes[summand.number], self._shapes[product.number]
        alike = self._shapes[out.number][0] == whole[0] and known[2] == whole[2]
        return alike and len(known[0]) <= 3 and summand.number not in self._varying

    def _beside_each_other(self, steps: list[Step], fixed: list[Step]) -> list[Step]:
        """Layers of all members on one and the same input as one product: (B, I) times (I, M O)."""
        wide = list[Step]()
        expanded = {step.outputs[0].number: step for step in steps if step.func is _EXPAND and step.outputs[0]}
        for step in steps:
            source = expanded.get(step.args[1].number) if step.func is _BADDBMM and not step.kwargs else None
            if source is None or not self._is_shared(source, step):
                wide.append(step)
            else:
                wide += self._one_product(source.args[0], step, fixed)
        return wide

    def _is_shared(self, expand: Step, product: Step) -> bool:
        """Is it one input (B, I) for all members, with weights (M, I, O) and biases (M, 1, O) that stay?"""
        x, bias, weight = expand.args[0], product.args[0], product.args[2]
        if {bias.number, weight.number} & self._varying:
            return False
        (members, inputs, outputs), known = self._shapes[weight.number][0], self._shapes[bias.number][0]
        rows = self._shapes[product.args[1].number][0][1]
        return known == (members, 1, outputs) and self._shapes[x.number][0] == (rows, inputs)

    def _one_product(self, x: Slot, step: Step, fixed: list[Step]) -> list[Step]:
        bias, weight, out = step.args[0], step.args[2], step.outputs[0]
        assert out is not None
        members, rows, outputs = self._shapes[out.number][0]
        dtype = self._shapes[out.number][2]
        wide_weight, wide_bias, together = [self._slot_for(dtype) for _ in range(3)]
        fixed.append(Step(_columns, [weight], {}, [wide_weight], False))
        fixed.append(Step(torch.flatten, [bias], {}, [wide_bias], False))
        product = Step(_aten.addmm.default, [wide_bias, x, wide_weight], {}, [together], False)
        if rows == 1:
            return [product, Step(_aten.view.default, [together, [members, 1, outputs]], {}, [out], False)]
        apart = self._slot_for(dtype)
        return [
            product,
            Step(_aten.view.default, [together, [rows, members, outputs]], {}, [apart], False),
            Step(_aten.transpose.int, [apart, 0, 1], {}, [out], False),
        ]

    def _with_weights_in_order(self, step: Step, fixed: list[Step]) -> Step:
        """Weights (M, I, O) stored in that order: products of more than a few numbers are a third faster for it."""
        weight = step.args[2] if step.func is _BADDBMM else None
        if not isinstance(weight, Slot) or weight.number in self._varying:
            return step
        rows = self._shapes[step.outputs[0].number][0][1] if step.outputs[0] else 0
        shape, _, dtype = self._shapes[weight.number]
        if rows * shape[1] * shape[2] < _FEW_PRODUCTS:
            return step
        ordered = self._slot_for(dtype)
        fixed.append(Step(Tensor.contiguous, [weight], {}, [ordered], False))
        return Step(step.func, [*step.args[:2], ordered], step.kwargs, step.outputs, False)

    def _slot_for(self, dtype: torch.dtype) -> Slot:
        """A slot that no recorded tensor has."""
        slot = Slot(max(self._shapes) + 1)
        self._shapes[slot.number] = ((0,), (1,), dtype)
        return slot

    def _in_place(self, steps: list[Step], outputs: list[Slot]) -> list[Step]:
        """Activations written on their argument, where it is the product before them and nothing else needs it."""
        made = {step.outputs[0].number: step for step in steps if step.outputs[0] and len(step.outputs) == 1}
        uses = [slot.number for step in steps for slot in step.inputs()] + [slot.number for slot in outputs]
        for place, step in enumerate(steps):
            source = step.args[0] if step.args else None
            if step.func not in _IN_PLACE or not isinstance(source, Slot):
                continue
            origin, alone = made.get(source.number), uses.count(source.number) == 1
            while origin is not None and alone and origin.func in _REARRANGED:
                source = origin.args[0]
                origin, alone = made.get(source.number), uses.count(source.number) == 1
            if origin is not None and alone and origin.func in _NEW:
                steps[place] = Step(_IN_PLACE[step.func], step.args, step.kwargs, step.outputs, False)
        return steps


def _needed(steps: list[Step], outputs: list[Slot]) -> list[Step]:
    """The steps that something else uses, or that are the outcome."""
    needed = {slot.number for slot in outputs}
    kept = list[Step]()
    for step in reversed(steps):
        if any(slot.number in needed for slot in step.outputs if slot is not None):
            kept.append(step)
            needed |= {slot.number for slot in step.inputs()}
    return kept[::-1]


def _columns(weight: Tensor) -> Tensor:
    """Weights (M, I, O) beside each other, (I, M O)."""
    return weight.permute(1, 0, 2).flatten(1).contiguous()


def _renamed(tree: Any, names: dict[int, Slot]) -> Any:
    return pytree.tree_map_only(Slot, lambda slot: names.get(slot.number, slot), tree)
