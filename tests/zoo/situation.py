"""One situation: a small network whose inputs, masks or ways of being called differ from what is usual."""

from __future__ import annotations

import copy
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat

from .entry import enliven, read
from .reference import no_fast_path

NORMS = (nn.modules.batchnorm._NormBase,)


def in_train_mode(twin: nn.Module) -> Callable[..., Any]:
    """Train mode with norms in eval mode: right where train mode does nothing but drop; the default."""
    twin.train()
    for module in twin.modules():
        if isinstance(module, NORMS):
            module.eval()
    return twin


def but(*paths: str) -> Callable[[nn.Module], Callable[..., Any]]:
    """Train mode with norms, and the modules at these paths, in eval mode (their children as they are)."""

    def switch(twin: nn.Module) -> Callable[..., Any]:
        in_train_mode(twin)
        for path in paths:
            twin.get_submodule(path).training = False
        return twin

    return switch


@dataclass(frozen=True, eq=False)
class Situation:
    """A network, inputs for it, and what is true of its rows.

    Attributes:
        name: the situation's name; its checksum seeds the weights.
        build: a factory of the network: seeded, tiny, in eval mode.
        inputs: a batch: a tensor, a tuple of arguments, or a dict of keyword arguments.
        axes: where the batch is, as ``in_dims`` of torch.vmap: one axis for all, or a tuple or dict of axes; None is an
            input without a batch.
        out: the axis of the batch in what is read of the return.
        select: what to read from the return, as an output's ``select=`` takes it.
        reference: given a twin in eval mode, switches the dropout on and nothing else (or returns an equivalent).
        apart: whether draw by draw, row k of a batch is the draw of row k alone. Where it is not, the call warns that
            rows are not separated.
        row: the inputs of row k alone, where cutting ``inputs`` at ``axes`` would not do.
        live: which sites fire; the default of ``caveat.mc_dropout`` if None.
        audit: words that the audit has to say.
        gradient: the plain loop runs with gradients enabled, as the network needs them.
        draws: how many draws are compared.
        fold: the plain loop may repeat the rows so many times in a pass, each copy a draw: right where every mask has
            an entry for each row.
        always: the network draws in eval mode too.
        vectorized: whether torch.vmap can run the network at all.
        script: the network holds TorchScript, which cannot be compared by its attributes.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    axes: Any = 0
    out: int = 0
    select: Callable[[Any], Tensor] | str | int | None = None
    reference: Callable[[nn.Module], Callable[..., Any]] = in_train_mode
    apart: bool = True
    row: Callable[[Any, int], Any] | None = None
    live: Any = None
    audit: tuple[str, ...] = ()
    gradient: bool = False
    draws: int = 3000
    fold: int = 1
    always: bool = False
    vectorized: bool = True
    script: bool = False

    @property
    def rows(self) -> int:
        """The number of rows in the batch."""
        return self.eval_output().shape[self.out]

    def eval_output(self) -> Tensor:
        """What the network gives in eval mode."""
        return _eval_output(self)

    def alone(self, k: int) -> Any:
        """The inputs of row k, as a batch of one."""
        inputs = self.inputs()
        return self.row(inputs, k) if self.row else take(inputs, self.axes, torch.tensor([k]))

    def loop(self, n: int, seed: int = 1, *, silent: bool = False) -> Tensor:
        """n passes of a twin with its dropout on, one after the other: (S, *shape of the output).

        silent: leave the dropout off: a broken engine, for the self-test of the statistics.
        """
        twin = self.build() if silent else self.reference(self.build())
        copies = torch.arange(self.rows).repeat(self.fold)
        outputs = []
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(self.gradient), no_fast_path():
            torch.manual_seed(seed)
            for _ in range(-(-n // self.fold)):
                inputs = self.inputs() if self.fold == 1 else take(self.inputs(), self.axes, copies)
                out = read(call(twin, inputs), self.select).detach().clone()
                outputs.append(out.unflatten(self.out, (self.fold, -1)).movedim(self.out, 0))
        return torch.cat(outputs)[:n]

    def sampler(self, **settings: Any) -> Any:
        """A new sampler of a new network."""
        return self.sampler_of(self.build(), **settings)

    def sampler_of(self, model: nn.Module, **settings: Any) -> Any:
        """A new sampler of this network."""
        if self.live is not None:
            settings["live"] = self.live
        return caveat.mc_dropout(model, output=caveat.Mean(select=self.select), **settings)

    @contextmanager
    def warned(self) -> Iterator[None]:
        """Where rows cannot be separated the block must warn of it, else it must not warn."""
        if self.apart:
            yield
            return
        with pytest.warns(caveat.errors.RowsNotSeparatedWarning):
            yield

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Where rows cannot be separated the block may warn of it again."""
        with warnings.catch_warnings():
            if not self.apart:
                warnings.simplefilter("ignore", caveat.errors.RowsNotSeparatedWarning)
            yield


@cache
def _eval_output(situation: Situation) -> Tensor:
    with torch.set_grad_enabled(situation.gradient), no_fast_path():
        return read(call(situation.build(), situation.inputs()), situation.select).detach()


def situation(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], Any], axes: Any = 0, **rest: Any
) -> Situation:
    """A `Situation` whose network is seeded by its name, has lively running statistics, and is in eval mode."""

    def seeded() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(name.encode()))
            model = build()
            enliven(model)
        return model.eval()

    return Situation(name, seeded, inputs, axes, **rest)


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """One forward pass; a tuple that is more than a tuple, such as a packed sequence, is one argument."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if type(inputs) is tuple else model(inputs)


def take(value: Any, axes: Any, index: Tensor) -> Any:
    """These rows of every tensor, cut where ``axes`` says that the batch is."""
    if axes is None:
        return value
    if isinstance(value, Tensor):
        return value.index_select(axes, index)
    if isinstance(value, dict):
        return {k: take(v, axes[k] if isinstance(axes, dict) else axes, index) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        each = axes if isinstance(axes, (tuple, list)) else [axes] * len(value)
        return type(value)(take(v, a, index) for v, a in zip(value, each, strict=True))
    return value


def everything_in(value: Any) -> list[Any]:
    """All tensors and plain values that inputs hold, whatever holds them, to compare before with after."""
    if isinstance(value, Tensor):
        return [id(value), value.detach().clone(), value.requires_grad, value.grad]
    if isinstance(value, dict):
        return [everything_in(part) for part in value.items()]
    if isinstance(value, (tuple, list)):
        return [id(value) if isinstance(value, list) else 0, *(everything_in(part) for part in value)]
    if hasattr(value, "__slots__"):
        return [id(value), *(everything_in(getattr(value, name)) for name in value.__slots__)]
    if hasattr(value, "__dict__"):
        return [id(value), everything_in(dict(vars(value)))]
    return [copy.copy(value)]


def normal(*shape: int, seed: int = 7) -> Tensor:
    """Standard normal numbers from a generator of their own."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole_numbers(below: int, *shape: int, seed: int = 7) -> Tensor:
    """Whole numbers under ``below`` from a generator of their own."""
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))
