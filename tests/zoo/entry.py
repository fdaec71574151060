"""One animal of the zoo: a small real network, its inputs, and what is true of its dropout."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | tuple[Any, ...] | dict[str, Any]
"""What a network is called with: one tensor, a tuple of arguments or a dict of keyword arguments."""

BATCH = 3
"""Rows in the batch that the tests draw with."""


def dropout_modules(model: nn.Module) -> nn.Module:
    """Switch on the modules whose ``training`` flag does nothing but dropout; the default of every entry.

    Flags are set one by one (never ``.train()``, which reaches children).
    """
    for module in model.modules():
        if isinstance(module, (nn.modules.dropout._DropoutNd, nn.MultiheadAttention, nn.RNNBase)):
            module.training = True
    return model


def whole(model: nn.Module) -> nn.Module:
    """Put everything in train mode: right where train mode does nothing but dropout."""
    return model.train()


def flags(*paths: str) -> Callable[[nn.Module], nn.Module]:
    """Switch on `dropout_modules`, and the ``training`` flag of exactly these modules ("" is the network)."""

    def switch(model: nn.Module) -> nn.Module:
        dropout_modules(model)
        for path in paths:
            model.get_submodule(path).training = True
        return model

    return switch


@dataclass(frozen=True)
class Entry:
    """A network of the zoo.

    Attributes:
        name: the entry's name; its checksum seeds the weights.
        build: a factory of the network: seeded, tiny, in eval mode (unless the entry is about train mode).
        inputs: rows wanted -> inputs; the first rows are the same whatever the number of rows.
        sites: calls in one forward pass that would draw dropout of a rate above zero, were they all live.
            A module called twice counts twice, a recurrence once for each gap between its layers, a
            MultiheadAttention once.
        select: what to read from the return, as an output's ``select=`` takes it.
        reference: given a twin in eval mode, switches the dropout on and nothing else (or returns a
            rewritten equivalent).
        rows: draw by draw, row k of a batch is the draw of row k alone.
        shared: argument positions or keywords that carry no batch axis.
        masks: "shared", or "per_row" where the first axis of the input is no batch of independent rows.
        draws: T, how many draws are compared.
        fold: the reference may repeat the rows so many times in a pass, each copy a draw: right where
            every mask has a row axis.
        needs: a package the entry needs, None for torch alone.
        quirk: what a reader may doubt.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    sites: int
    select: Callable[[Any], Tensor] | str | int | None = None
    reference: Callable[[nn.Module], Callable[..., Any]] = dropout_modules
    rows: bool = True
    shared: tuple[int | str, ...] = ()
    masks: str = "shared"
    draws: int = 500
    fold: int = 1
    needs: str | None = None
    quirk: str = ""


def entry(
    name: str,
    build: Callable[[], nn.Module],
    inputs: Callable[[int], Inputs],
    sites: int,
    *,
    mode: str = "eval",
    dtype: torch.dtype = torch.float32,
    **rest: Any,
) -> Entry:
    """An `Entry` whose network is seeded by its name, has lively running statistics, and is in the mode
    asked for."""

    def seeded() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(name.encode()))
            model = build()
            enliven(model)
        model.requires_grad_(True)
        return model.to(dtype).train(mode == "train")

    return Entry(name, seeded, inputs, sites, **rest)


def enliven(model: nn.Module) -> None:
    """Give every normalization running statistics that a batch's own would not equal."""
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            nn.init.normal_(module.running_mean, 0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.4, 1.5)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.7, 1.5)


def generator(seed: int = 7) -> torch.Generator:
    """A generator of its own, so that inputs touch no global state."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 7) -> Callable[[int], Tensor]:
    """Standard normal inputs: rows -> (B, *shape)."""

    def make(rows: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator(seed + r)) for r in range(rows)]).to(dtype)

    return make


def tokens(length: int, vocabulary: int, seed: int = 7, low: int = 0) -> Callable[[int], Tensor]:
    """Token ids: rows -> (B, length)."""

    def make(rows: int) -> Tensor:
        return torch.stack(
            [torch.randint(low, vocabulary, (length,), generator=generator(seed + r)) for r in range(rows)]
        )

    return make


def keep_mask(length: int) -> Callable[[int], Tensor]:
    """Attention masks of ones with a zero tail that differs by row: rows -> (B, length) of int64; the
    first row is full."""

    def make(rows: int) -> Tensor:
        return torch.stack([(torch.arange(length) < length - (r % 3)).long() for r in range(rows)])

    return make


def args(*parts: Callable[[int], Any]) -> Callable[[int], tuple[Any, ...]]:
    """Inputs that are a tuple of arguments."""
    return lambda rows: tuple(part(rows) for part in parts)


def kwargs(**parts: Callable[[int], Any]) -> Callable[[int], dict[str, Any]]:
    """Inputs that are a dict of keyword arguments."""
    return lambda rows: {name: part(rows) for name, part in parts.items()}


def constant(value: Any) -> Callable[[int], Any]:
    """An argument that is the same whatever the rows."""
    return lambda rows: value


def row(inputs: Inputs, k: int, shared: tuple[int | str, ...] = ()) -> Inputs:
    """Row k alone, as a batch of one: every argument that is a tensor is cut along axis 0, but those in
    `shared`."""

    def cut(key: int | str, value: Any) -> Any:
        return value[k : k + 1] if isinstance(value, Tensor) and key not in shared else value

    if isinstance(inputs, dict):
        return {key: cut(key, value) for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(cut(i, value) for i, value in enumerate(inputs))
    return inputs[k : k + 1]


def repeat(inputs: Inputs, times: int, shared: tuple[int | str, ...] = ()) -> Inputs:
    """The rows of the inputs, one batch after the other."""

    def again(key: int | str, value: Any) -> Any:
        if not isinstance(value, Tensor) or key in shared:
            return value
        return value.repeat(times, *(1,) * (value.ndim - 1))

    if isinstance(inputs, dict):
        return {key: again(key, value) for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(again(i, value) for i, value in enumerate(inputs))
    return again(0, inputs)


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """One forward pass."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def read(returned: Any, select: Callable[[Any], Tensor] | str | int | None) -> Tensor:
    """The one tensor of a return that an entry is about."""
    if callable(select):
        return select(returned)
    if isinstance(select, str) and not isinstance(returned, dict):
        return getattr(returned, select)
    if select is not None:
        return returned[select]
    return returned if isinstance(returned, Tensor) else returned.logits
