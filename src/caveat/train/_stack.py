"""M networks of one architecture as one stack of tensors: the members' parameters are views into it.

Each trainable parameter is a leaf (M, *shape), a piece of one flat tensor; each member's own modules read and write
their slice of it, so that a member on its own and all members together train the same memory.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caveat._intercept import as_draws, has_draws, put_back, with_draws_first
from caveat.train._adamw import Flat

_ALIGNMENT = 16  # elements: each parameter starts on a line of the cache


@dataclass(frozen=True)
class Slot:
    """One place in a network's modules that holds a tensor: ``module._parameters[name]`` or ``_buffers[name]``."""

    container: str
    position: int
    name: str
    block: int


def tensors_of(network: nn.Module) -> tuple[list[Tensor], list[Slot]]:
    """The distinct parameters and buffers of a network, and the places that hold them (a tied one has several)."""
    tensors: list[Tensor] = []
    numbers: dict[int, int] = {}
    slots: list[Slot] = []
    for position, module in enumerate(network.modules()):
        for container in ("_parameters", "_buffers"):
            for name, tensor in vars(module)[container].items():
                if tensor is None:
                    continue
                if id(tensor) not in numbers:
                    numbers[id(tensor)] = len(tensors)
                    tensors.append(tensor)
                slots.append(Slot(container, position, name, numbers[id(tensor)]))
    return tensors, slots


class Stack:
    """Some members side by side. ``blocks[k]`` is the k-th tensor of all of them, (M, *shape)."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = list(networks)
        self.modules = [list(network.modules()) for network in self.networks]
        members = [tensors_of(network)[0] for network in self.networks]
        first, self.slots = tensors_of(self.networks[0])
        self.trained = [isinstance(tensor, nn.Parameter) and tensor.requires_grad for tensor in first]
        self.blocks: list[Tensor] = []
        self.flats: list[Flat] = []
        self.pieces: list[tuple[int, int]] = [(-1, 0)] * len(first)
        self._lay_out(first)
        with torch.no_grad():
            for number, block in enumerate(self.blocks):
                for member, tensors in enumerate(members):
                    block[member].copy_(tensors[number])
        for member, tensors in enumerate(members):
            self._alias(member, tensors)
        self.own = members[0]
        self.has_buffers = any(slot.container == "_buffers" for slot in self.slots)

    def __len__(self) -> int:
        return len(self.networks)

    def _lay_out(self, first: Sequence[Tensor]) -> None:
        """Make the blocks: those that are trained as pieces of one flat tensor for each dtype."""
        sizes: dict[torch.dtype, int] = {}
        kinds = list(dict.fromkeys(t.dtype for t, trained in zip(first, self.trained, strict=True) if trained))
        for number, tensor in enumerate(first):
            if self.trained[number]:
                start = sizes.get(tensor.dtype, 0)
                self.pieces[number] = (kinds.index(tensor.dtype), start)
                length = len(self) * tensor.numel()
                sizes[tensor.dtype] = start + math.ceil(length / _ALIGNMENT) * _ALIGNMENT
        self.flats = [Flat.zeros(sizes[kind], kind, first[0].device) for kind in kinds]
        for number, tensor in enumerate(first):
            if self.trained[number]:
                leaf = self.piece(self.flats[self.pieces[number][0]].values, number, tensor.shape).requires_grad_()
                leaf.grad = self.piece(self.flats[self.pieces[number][0]].gradients, number, tensor.shape)
                self.blocks.append(leaf)
            else:
                self.blocks.append(tensor.detach().new_empty((len(self), *tensor.shape)))

    def piece(self, flat: Tensor, number: int, shape: Sequence[int]) -> Tensor:
        """The part (M, *shape) of a flat tensor that belongs to block ``number``."""
        start = self.pieces[number][1]
        return flat[start : start + len(self) * math.prod(shape)].view(len(self), *shape).detach()

    def _alias(self, member: int, tensors: Sequence[Tensor]) -> None:
        """Let a member's own modules use its slices; parameter objects stay the same."""
        for number, tensor in enumerate(tensors):
            tensor.data = self.blocks[number].detach()[member]
            if self.trained[number]:
                assert self.blocks[number].grad is not None
                tensor.grad = self.blocks[number].grad[member]  # pyright: ignore[reportOptionalSubscript]

    def release(self) -> None:
        """Give every member memory of its own again, with the values of now."""
        for network in self.networks:
            for tensor in tensors_of(network)[0]:
                tensor.data = tensor.detach().clone()
                tensor.grad = None

    @contextmanager
    def as_one(self, level: int) -> Generator[nn.Module]:
        """The first member's modules with the tensors of all members in them, as vmap sees them at ``level``."""
        modules = self.modules[0]
        before = [vars(modules[slot.position])[slot.container][slot.name] for slot in self.slots]
        given = [as_draws(block, level) for block in self.blocks]

        def restore() -> None:
            for slot, tensor in zip(self.slots, before, strict=True):
                vars(modules[slot.position])[slot.container][slot.name] = tensor

        with put_back(restore):
            for slot in self.slots:
                vars(modules[slot.position])[slot.container][slot.name] = given[slot.block]
            yield self.networks[0]
            self._take_over(given, level)

    @contextmanager
    def as_it_is(self) -> Generator[nn.Module]:
        """The only member, with its own tensors."""
        yield self.networks[0]
        if self.has_buffers:
            self._take_over(self.own, None)

    def _take_over(self, given: Sequence[Tensor], level: int | None) -> None:
        """Buffers that the pass has replaced, not written in place, are written to their blocks."""
        for slot in self.slots:
            holder = vars(self.modules[0][slot.position])[slot.container]
            now = holder[slot.name]
            if slot.container == "_buffers" and isinstance(now, Tensor) and now is not given[slot.block]:
                block = self.blocks[slot.block]
                with torch.no_grad():
                    batched = level is not None and has_draws(now, level)
                    block.copy_(with_draws_first(now) if batched else now.detach().expand_as(block))
                holder[slot.name] = given[slot.block]

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor that the rest of training depends on, by name."""
        for number, flat in enumerate(self.flats):
            yield from ((f"{name}.{number}", tensor) for name, tensor in flat.tensors().items())
        yield from ((f"held.{k}", block) for k, block in enumerate(self.blocks) if not self.trained[k])


def moments_moved(before: Stack, members: Sequence[int], after: Stack) -> None:
    """Copy the moments of ``members`` of a stack to ``after``, the stack of these members."""
    index = torch.tensor(members, device=before.blocks[0].device)
    for number, block in enumerate(after.blocks):
        if after.trained[number]:
            group, shape = after.pieces[number][0], block.shape[1:]
            for name in ("first", "second"):
                source = before.piece(getattr(before.flats[group], name), number, shape)
                after.piece(getattr(after.flats[group], name), number, shape).copy_(source.index_select(0, index))


def expanded(stack: Stack, group: int, rates: Sequence[float]) -> float | Tensor:
    """A rate for each member as one number if they agree, else an entry for each element of a flat tensor."""
    if len(set(rates)) == 1:
        return rates[0]
    flat = torch.zeros_like(stack.flats[group].values)
    each = torch.tensor(rates, dtype=flat.dtype, device=flat.device)
    for number, block in enumerate(stack.blocks):
        if stack.trained[number] and stack.pieces[number][0] == group:
            piece = stack.piece(flat, number, block.shape[1:])
            piece.copy_(each.view(-1, *[1] * (piece.dim() - 1)).expand_as(piece))
    return flat
