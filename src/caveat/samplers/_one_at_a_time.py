"""An ensemble whose members do not fit into memory together: one is loaded, evaluated and let go, then the next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, cast

from torch import Tensor, nn

from caveat._checks import require_model
from caveat._engine import OneByOne, P, P_co, Stream, Values, as_output
from caveat._inputs import as_inputs
from caveat._intercept import state_kept
from caveat._seeds import check_seed
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.predictive import Output
from caveat.samplers._members._as_eval import EvalNetwork, rows_of

Load = Callable[[], nn.Module]


@dataclass(frozen=True, eq=False, repr=False)
class OneAtATime(Generic[P_co]):
    """The sampler that ``one_at_a_time`` makes; see there. Draw i is member i, whatever the seed."""

    loads: tuple[Load, ...]
    output: Output[P_co]
    in_dims: Any = None

    __repr__ = in_a_line

    strata = None
    """Members are independent."""

    @property
    def size(self) -> int:
        """The number of members M."""
        return len(self.loads)

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Hold the batch alone, and the member that was evaluated last: see ``caveat.samplers.Sampler``."""
        check_seed(seed)
        held: dict[int, EvalNetwork] = {}

        def member(number: int) -> EvalNetwork:
            if number not in held:
                held.clear()  # before the next one is loaded
                with state_kept(()):  # making a network, whose weights are then loaded, draws random numbers
                    network = self.loads[number]()
                require_model(network)
                held[number] = EvalNetwork(network, self.output.read, self.in_dims)
            return held[number]

        def one(draw: int) -> Values:
            network = member(draw)
            inputs = as_inputs(x, network.device)
            kind = network.kind(inputs)
            inputs, numbers = rows_of(inputs, kind.probe, rows, network.device)
            return network.draw(inputs, numbers, kind, draw, seed, gradient)

        yield OneByOne(one, None)


def one_at_a_time(
    loads: Iterable[Load], *, output: Output[P] | dict[str, Output], in_dims: Any = None
) -> OneAtATime[P]:
    """A sampler of M networks of which one is in memory at a time, for ensembles larger than it. Draw i is member i.

    A prediction of a batch loads each member once, runs it as in eval mode, adds its values to the summary and lets it
    go. What a batch costs is M loads: pass as many rows at once as memory bears. Over machines,
    ``caveat.interop.ray.predict_draws`` loads on each worker only the members of its range.

    Args:
        loads: M functions without arguments, each of which returns a network, such as
            ``functools.partial(load, path)``. Networks that were loaded before and are kept elsewhere stay in memory.
        output: How to read what each returns, or a dict of outputs by name for several heads.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        A sampler of size M, whose predictions are those of ``caveat.ensemble`` of the same networks.

    Raises:
        InvalidArgumentError: No functions; while drawing, one that returns something other than a network.

    See "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", Lakshminarayanan, Pritzel and
    Blundell, 2017, https://arxiv.org/abs/1612.01474.

    Example:
        >>> import caveat, torch
        >>> from functools import partial
        >>> def load(seed):                                  # stands for a file that is read
        ...     torch.manual_seed(seed)
        ...     return nn.Linear(4, 3)
        >>> sampler = one_at_a_time([partial(load, seed) for seed in range(5)], output=caveat.Logits())
        >>> pred = caveat.predict(sampler, torch.zeros(2, 4))
        >>> pred.mean.shape, int(pred.count)
        (torch.Size([2, 3]), 5)
    """
    members = tuple(cast(Iterable[Any], loads)) if isinstance(loads, Iterable) else (loads,)
    odd = [one for one in members if isinstance(one, nn.Module) or not callable(one)]
    if odd or not members:
        raise InvalidArgumentError(
            "Members that are loaded one at a time are functions that return a network.",
            got=f"a {type(odd[0]).__name__}" if odd else "none",
            cause="networks or paths were passed" if odd else "an empty list",
            fix="one_at_a_time([functools.partial(load, path) for path in paths], output=...)",
        )
    return OneAtATime(members, as_output(output), in_dims)
