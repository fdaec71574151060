"""Promise 2: nothing else moves, after success, after an error in a forward pass, and after Ctrl-C in one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from caveat._engine import Sampler, draws, predict
from caveat.testing._compare import require
from caveat.testing._fingerprint import Fingerprint, fingerprint


class _Trouble(Exception):
    """What a forward pass of the kit's raises."""


def check_state_untouched(sampler: Sampler, x: Any, *, count: int, seed: int, networks: list[nn.Module]) -> None:
    """Networks, inputs, random states and torch itself are as before: after success, an error, and Ctrl-C.

    Parameters and buffers keep their identity, memory and values; modules keep their flags, hooks and
    attributes; torch's, NumPy's and Python's random states stay; ``nn.Module`` is left as it was. The error
    and the ``KeyboardInterrupt`` are raised by a hook, early, midway and late in the passes of a call.
    """
    before = fingerprint(networks, x)
    predict(sampler, x, count, seed=seed)
    require_unmoved(before, fingerprint(networks, x), "predict")
    draws(sampler, x, count, seed=seed)
    require_unmoved(before, fingerprint(networks, x), "draws")
    with _trouble_at(networks, None, _Trouble) as calls:
        predict(sampler, x, count, seed=seed)  # hooks are new to the sampler, which may look at the network once more
        calls[0] = 0
        predict(sampler, x, count, seed=seed)
    for kind, name in ((_Trouble, "an error"), (KeyboardInterrupt, "a KeyboardInterrupt")):
        for call in sorted({1, max(calls[0] // 2, 1), calls[0]} - {0}) if calls[0] else ():
            _check_after(sampler, x, count, seed, networks, call, kind, name)


def _check_after(
    sampler: Sampler,
    x: Any,
    count: int,
    seed: int,
    networks: list[nn.Module],
    call: int,
    kind: type[BaseException],
    name: str,
) -> None:
    came_out = False
    with _trouble_at(networks, call, kind):
        before = fingerprint(networks, x)
        try:
            predict(sampler, x, count, seed=seed)
        except BaseException as error:
            if not _is_from(error, kind):
                raise
            came_out = True
        require_unmoved(before, fingerprint(networks, x), f"{name} in module call {call} of a predict")
    message = f"What a forward pass raises reaches the caller. But {name} in module call {call} did not."
    require(came_out, message)


def _is_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def require_unmoved(before: Fingerprint, after: Fingerprint, what: str) -> None:
    """Raise ``AssertionError`` unless two fingerprints are the same; ``what`` happened between them."""
    moved = before.differences(after)
    listed = "; ".join(moved[:5]) + (f"; and {len(moved) - 5} more" if len(moved) > 5 else "")
    message = f"Nothing else moves: after {what} all is as before. But these are not: {listed}."
    require(not moved, message)


@contextmanager
def _trouble_at(
    networks: list[nn.Module], call: int | None, kind: type[BaseException]
) -> Generator[list[int]]:
    """From module call number ``call`` on, every call of a module raises; calls are counted either way."""
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1
        if call is not None and calls[0] >= call:
            raise kind("raised on purpose")

    parts = {id(part): part for network in networks for part in network.modules()}
    hooks = [part.register_forward_pre_hook(count) for part in parts.values()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def networks_of(sampler: Sampler, modules: Sequence[nn.Module]) -> list[nn.Module]:
    """The networks given, or else the sampler's own ``model`` or ``models``."""
    if modules:
        return list(modules)
    found = getattr(sampler, "model", None) or getattr(sampler, "models", ())
    several: tuple[Any, ...] = (found,) if isinstance(found, nn.Module) else tuple(found)
    return [part for part in several if isinstance(part, nn.Module)]
