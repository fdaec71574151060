"""Whether a run draws from the random states of the process, told by its operators and not by the states alone.

That a state has moved does not say who moved it: another thread may have made or trained a network meanwhile. Putting
it back where the run drew nothing would give that thread the same numbers twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch

from caveat._intercept._guard import DispatchMode, put_back
from caveat._intercept._random_states import TURN, RandomStates, draw_of_each, read_random_states, set_random_states

_R = TypeVar("_R")
_RECURRENT = ("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu", "aten::_cudnn_rnn")
"""Not taken apart into operators, one of them random: in inference mode, and on CUDA."""


class OwnDraws:
    """Runs, one after another, each of which leaves the random states as they were before it.

    What a run has left is what the next one begins with, so the states are read once between two runs.
    """

    def __init__(self, devices: set[torch.device]) -> None:
        self._devices = devices
        self._now: RandomStates | None = None

    def run(self, run: Callable[[], _R]) -> tuple[_R, bool]:
        """Returns what running gives, and whether it draws from the random states, which are then as before."""
        with TURN:  # what it draws must not reach the numbers of another thread, which has seeded the states
            return self._run(run)

    def _run(self, run: Callable[[], _R]) -> tuple[_R, bool]:
        before, drew = self._now or read_random_states(self._devices), True
        self._now = None

        def restore() -> None:
            if drew and read_random_states(self._devices).moved_from(before):
                set_random_states(before)

        with put_back(restore):
            result = run()
            after = read_random_states(self._devices)
            moved = after.moved_from(before)
            drew = moved and _draws_itself(run, self._devices)
        self._now = None if moved else after
        return result, drew


def draws_random_numbers(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Returns whether this call of an operator of torch's draws random numbers."""
    if torch.Tag.nondeterministic_seeded not in operator.tags and operator._schema.name not in _RECURRENT:
        return False
    trains = (argument(operator, args, kwargs, name) for name in ("train", "training"))
    return rate_of(operator, args, kwargs) != 0 and not any(flag is False for flag in trains)


def rate_of(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> float | None:
    """The fraction that is left out, where an operator's arguments say it."""
    name = str(operator)
    for said in ("dropout_p", "dropout"):
        if isinstance(value := argument(operator, args, kwargs, said), float):
            return value
    value = argument(operator, args, kwargs, "p")
    if not isinstance(value, float):
        return None
    if "bernoulli" in name:
        return 1 - value
    return value if "dropout" in name else None


def argument(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    """The value of an operator's argument by its name; None if it has none of that name."""
    if name in kwargs:
        return kwargs[name]
    for at, parameter in enumerate(operator._schema.arguments):
        if parameter.name == name:
            return args[at] if at < len(args) else parameter.default_value  # torch leaves defaults out
    return None


def _draws_itself(run: Callable[[], Any], devices: set[torch.device]) -> bool:
    """Returns whether running this draws from the random states or sets them, rather than another thread meanwhile.

    Of torch's numbers this thread's operators tell, but for what operators of other libraries do inside. Python's and
    NumPy's states say not who moved them; what draws from them moves them in every run.
    """
    for _ in range(2):
        before, watch = read_random_states(devices), _Watch()
        try:
            with watch:
                run()
        except Exception:  # it did not fail without the watch: what it does is not known
            return True
        if watch.drew:
            return True
        told = 3 if watch.foreign else 2
        if read_random_states(devices).parts()[:told] == before.parts()[:told]:
            return _sets_itself(run, devices)
    return True


def _sets_itself(run: Callable[[], Any], devices: set[torch.device]) -> bool:
    """Returns whether running this ends in the same states as before, from others too, as after a ``manual_seed``.

    Or does it seed torch anew, as ``torch.seed()`` does, which is another seed each time?
    """
    ended = read_random_states(devices)
    others: RandomStates | None = None

    def restore() -> None:
        if others is None or not read_random_states(devices).moved_from(others):
            set_random_states(ended)

    with put_back(restore):
        draw_of_each(devices)
        others, seed = read_random_states(devices), torch.initial_seed()
        run()
        seeds_anew = torch.initial_seed() != seed
        now = read_random_states(devices)
    moved = zip(ended.parts(), others.parts(), now.parts(), strict=True)
    return seeds_anew or any(at_end == at_last != between for at_end, between, at_last in moved)


class _Watch(DispatchMode):
    """Notes whether this thread runs an operator that draws, or one of another library, which may draw inside."""

    drew = foreign = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.foreign = self.foreign or func.namespace != "aten"
        self.drew = self.drew or draws_random_numbers(func, args, kwargs or {})
        return cast("Callable[..., Any]", func)(*args, **(kwargs or {}))
