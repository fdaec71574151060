"""The brute-force reference: T plain passes over torch's own dropout, one after the other. It knows
nothing of caveat."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .entry import BATCH, Entry, Inputs, call, read, repeat


def draws(
    entry: Entry, n: int, seed: int, inputs: Inputs | None = None, silence: int | None = None
) -> Tensor:
    """n outputs of a twin of the network with only its dropout switched on: (S, *shape of the output).

    silence: the position, in order of call, of one site to keep quiet in every pass: a broken engine, for the
    self-test of the statistics.
    """
    model = switched_on(entry)
    inputs = entry.inputs(BATCH) if inputs is None else inputs
    inputs, passes = repeat(inputs, entry.fold, entry.shared), -(-n // entry.fold)
    outputs = []
    with torch.random.fork_rng(devices=[]), torch.no_grad(), no_fast_path():
        torch.manual_seed(seed)
        for _ in range(passes):
            with Sites(silence):
                out = read(call(model, inputs), entry.select).detach().clone()
            outputs.append(out.unflatten(0, (entry.fold, -1)))
    return torch.cat(outputs)[:n]


@cache
def standard(entry: Entry) -> Tensor:
    """The draws that an engine's are held to: (T, B, ...), made once."""
    return draws(entry, entry.draws, seed=1)


def switched_on(entry: Entry) -> Callable[..., Any]:
    """A twin of the entry's network (the same seed) in eval mode, with its dropout, and nothing else,
    live."""
    return entry.reference(entry.build().eval())


def count_sites(entry: Entry) -> int:
    """How many calls of one reference pass draw dropout."""
    model = switched_on(entry)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), no_fast_path(), Sites(None) as sites:
        call(model, entry.inputs(BATCH))
    return sites.seen


@contextmanager
def no_fast_path() -> Iterator[None]:
    """Torch's fused transformer layer, which swallows dropout, is off inside."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


PLAIN = {
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
}
ATEN = {
    torch.dropout,
    torch.dropout_,
    torch.feature_dropout,
    torch.feature_dropout_,
    torch.alpha_dropout,
    torch.alpha_dropout_,
    torch.feature_alpha_dropout,
    torch.feature_alpha_dropout_,
}
RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}


class Sites(TorchFunctionMode):
    """Counts the calls of a pass that draw dropout, and keeps one of them quiet."""

    def __init__(self, silence: int | None) -> None:
        super().__init__()
        self.seen = 0
        self.silence = silence

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        quiet = quietened(func, args, kwargs)
        if quiet is not None:
            before, self.seen = self.seen, self.seen + places(func, args)
            if self.silence is not None and before <= self.silence < self.seen:
                return quiet()
        return func(*args, **kwargs)


def quietened(func: Any, args: Any, kwargs: Any) -> Callable[[], Any] | None:
    """The same call without its dropout; None for a call that draws none."""
    if func in PLAIN:
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        return (lambda: given["input"]) if given["training"] and given["p"] > 0 else None
    if func in ATEN:
        given = dict(zip(("input", "p", "train"), args, strict=False)) | kwargs
        return (lambda: given["input"]) if given["train"] and given["p"] > 0 else None
    if func is F.multi_head_attention_forward:
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        if not (bound.arguments["training"] and bound.arguments["dropout_p"] > 0):
            return None
        bound.arguments["dropout_p"] = 0.0
        return lambda: func(*bound.args, **bound.kwargs)
    if func is F.scaled_dot_product_attention:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = dict(zip(names, args, strict=False)) | kwargs
        return (lambda: func(**(given | {"dropout_p": 0.0}))) if given.get("dropout_p", 0.0) > 0 else None
    if func in RECURRENT:
        return quiet_recurrent(func, list(args))
    return None


def places(func: Any, args: Any) -> int:
    """How many places of one call draw: one, or each gap between the layers of a recurrence."""
    return layers_at(args)[1] - 1 if func in RECURRENT else 1


def layers_at(args: Any) -> tuple[int, int]:
    """torch.lstm and its kin take (…, biases, layers, dropout, train, …); packed ones start with two
    tensors."""
    at = next(i for i, value in enumerate(args) if isinstance(value, bool)) + 1
    return at, args[at]


def quiet_recurrent(func: Any, args: list[Any]) -> Callable[[], Any] | None:
    at, layers = layers_at(args)
    rate, train = args[at + 1], args[at + 2]
    if not (train and rate > 0 and layers > 1):
        return None
    args[at + 1] = 0.0
    return lambda: func(*args)
