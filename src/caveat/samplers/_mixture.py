"""Several samplers as one: an ensemble of MC-dropout networks, or of anything else that gives draws.

Draw i comes from component i mod K and is that component's draw i div K, under a seed of the component's own. So draws
of all components come in turn, and draw i still depends on (seed, i) alone.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any, Generic, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import P, P_co, Sampler, Stream, Values
from caveat._inputs import map_tensors
from caveat._seeds import check_seed, fold_in
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError, explain_no_network
from caveat.predictive import HeadOutputs, Output
from caveat.samplers._members._networks import check_same_values

# So much of all components' draws is held at once, and at least a few of each.
_PIECE_BYTES = 4 << 20
_LEAST, _MOST = 4, 512
_RULE = "A mixture is a list of samplers that read the networks' returns with the same output."


@dataclass(frozen=True, eq=False, repr=False)
class Mixture(Generic[P_co]):
    """The sampler that ``caveat.mixture`` makes; see there."""

    samplers: tuple[Sampler[P_co], ...]

    __repr__ = in_a_line

    @property
    def output(self) -> Output[P_co]:
        """How to read a draw of any component."""
        return self.samplers[0].output

    @property
    def size(self) -> int | None:
        """The number of draws while every component has one left; None where there is no end."""
        sizes = [sampler.size for sampler in self.samplers if sampler.size is not None]
        return len(self.samplers) * min(sizes) if sizes else None

    @property
    def strata(self) -> int | None:
        """The length of a block in which every component has whole blocks of its own."""
        blocks = [sampler.strata for sampler in self.samplers if sampler.strata is not None]
        return len(self.samplers) * math.lcm(*blocks) if blocks else None

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """The networks of all components."""
        found = [model for sampler in self.samplers for model in _models_of(sampler)]
        return tuple({id(model): model for model in found}.values())

    @property
    def model(self) -> nn.Module | None:
        """The first network, which shows what inputs look like."""
        return next(iter(self.models), None)

    def seed_of(self, component: int, seed: int) -> int:
        """The seed that a component draws with: networks of equal layers must not share their masks."""
        return fold_in(check_seed(seed), "component", component)

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Hold every component on ``x``: see ``caveat.samplers.Sampler``."""
        with ExitStack() as stack:
            streams = [
                stack.enter_context(sampler.bind(x, self.seed_of(number, seed), rows=rows, gradient=gradient))
                for number, sampler in enumerate(self.samplers)
            ]
            yield _BoundMixture(streams)


class _BoundMixture:
    """The stream of a mixture: its components' draws in turn."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        found = {stream.rows for stream in streams}
        self.rows: int | None = found.pop() if len(found) == 1 else None
        self._at_once: int | None = None

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order."""
        parts = len(self._streams)
        start = draws.start
        while start < draws.stop:
            length = parts * (self._at_once or _LEAST)
            piece = self._piece(range(start, min(start + length, draws.stop)))
            start = min(start + length, draws.stop)
            if self._at_once is None:
                self._at_once = _fitting(piece, parts)
            yield piece

    def _piece(self, draws: range) -> Values:
        """The draws of each component one after another, then put in order."""
        parts = len(self._streams)
        gathered, numbers = list[Values](), list[int]()
        for component, stream in enumerate(self._streams):
            own = [draw for draw in draws if draw % parts == component]
            if own:
                gathered += _copies(stream(range(own[0] // parts, own[-1] // parts + 1)))
                numbers += own
        check_same_values([map_tensors(lambda value: value[0], values) for values in gathered], "Component's piece")
        order = torch.tensor(numbers).argsort()

        def joined(*tensors: Tensor) -> Tensor:
            return torch.cat(tensors).index_select(0, order.to(tensors[0].device))

        return cast(Values, pytree.tree_map(joined, *gathered))


def mixture(samplers: Iterable[Sampler[P]]) -> Mixture[P]:
    """Several samplers as one, with equal weights, such as an ensemble of MC-dropout networks.

    Draw i is draw i div K of component i mod K, so any number of draws has each component's share to one draw.
    ``decompose_mixture`` tells how much of the uncertainty is within the components and how much between them.

    Args:
        samplers: K samplers with equal outputs. Mixtures may be mixed again.

    Returns:
        An unbounded sampler if all components are; else one of K times the smallest size, so that weights stay equal.

    Raises:
        InvalidArgumentError: no samplers, something other than samplers, or outputs that differ.
        OutputMismatchError: at the first draws, if the components' values differ in shape.

    See "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", Lakshminarayanan, Pritzel and
    Blundell, 2017, https://arxiv.org/abs/1612.01474, for the equal weights.

    Example:
        >>> import caveat, torch
        >>> networks = [nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3)) for _ in range(3)]
        >>> sampler = mixture([caveat.mc_dropout(network, output=caveat.Logits()) for network in networks])
        >>> caveat.predict(sampler, torch.zeros(2, 4), n=30).mean.shape
        torch.Size([2, 3])
    """
    if isinstance(cast(Any, samplers), Sampler):
        raise _invalid("one sampler", "a single sampler was passed", "pass a list: [sampler_a, sampler_b]")
    try:
        parts = tuple(cast(Iterable[Any], samplers))
    except TypeError:
        raise _invalid(type(samplers).__name__, "something other than a list", "pass [a, b]") from None
    if not parts:
        raise _invalid("an empty list", "a filter that left nothing", "pass at least one sampler")
    for number, part in enumerate(parts):
        if not isinstance(part, Sampler) or isinstance(part, type):
            if isinstance(part, (str, PathLike, Mapping)):
                raise InvalidArgumentError(explain_no_network(cast(object, part), _RULE))
            cause = "a network was passed in place of a sampler"
            fix = "caveat.mc_dropout(network, output=...) for each, or caveat.ensemble(networks, output=...)"
            raise _invalid(f"{type(part).__name__} as component {number}", cause, fix)
        if not _same_output(cast(Any, part).output, parts[0].output):
            raise _invalid(
                f"{parts[0].output!r} for component 0 and {part.output!r} for component {number}",
                "components that were made in different places",
                "use the same output= for every component",
            )
    return Mixture(parts)


def _models_of(sampler: Sampler) -> tuple[nn.Module, ...]:
    several = getattr(sampler, "models", None) or (getattr(sampler, "model", None),)
    return tuple(model for model in cast(Iterable[Any], several) if isinstance(model, nn.Module))


def _same_output(a: Output, b: Output) -> bool:
    if isinstance(a, HeadOutputs) and isinstance(b, HeadOutputs):
        heads = a.outputs.keys() == b.outputs.keys() and a.select == b.select
        return heads and all(_same_output(a.outputs[name], b.outputs[name]) for name in a.outputs)
    return a == b


def _copies(pieces: Iterable[Values]) -> list[Values]:
    """Pieces, copied where the next may be written over the last."""
    found = list[Values]()
    for piece in pieces:
        found.append(map_tensors(lambda value: value if value.requires_grad else value.clone(), piece))
    return found


def _fitting(piece: Values, parts: int) -> int:
    """The number of draws of each component to hold at once."""
    leaves: list[Tensor] = pytree.tree_leaves(piece)
    one = sum(leaf[0].numel() * leaf.element_size() for leaf in leaves)
    return max(_LEAST, min(_MOST, _PIECE_BYTES // max(one * parts, 1)))


def _invalid(got: str, cause: str, fix: str) -> InvalidArgumentError:
    return InvalidArgumentError(_RULE, got=got, cause=cause, fix=fix)
