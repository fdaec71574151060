"""Deep ensemble: each draw is one of several networks that were trained apart.

See "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", Lakshminarayanan, Pritzel and
Blundell, 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, cast

import torch
from torch import Tensor, nn

from caveat._checks import require_choice
from caveat._engine import (
    BACKENDS,
    Backend,
    P,
    P_co,
    Program,
    Values,
    as_output,
    gathered,
    is_out_of_memory,
    one_by_one,
    stacked,
)
from caveat._inputs import Inputs, as_inputs, map_tensors, structure_of
from caveat._table_text import in_a_line
from caveat.predictive import Output
from caveat.samplers._members._as_eval import rows_of
from caveat.samplers._members._networks import check_networks
from caveat.samplers._members._prepare import Members, Prepared
from caveat.samplers._members._stack import tensors_of

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Generic[P_co]):
    """The sampler that ``caveat.ensemble`` makes; see there. Draw i is member i, whatever the seed."""

    models: tuple[nn.Module, ...]
    output: Output[P_co]
    backend: Backend = None
    in_dims: Any = None
    _members: list[Members] = field(default_factory=list[Members], repr=False)

    __repr__ = in_a_line

    strata = None
    """Members are independent."""

    @property
    def size(self) -> int:
        """The number of members M."""
        return len(self.models)

    @property
    def model(self) -> nn.Module:
        """The first member, which shows what inputs look like."""
        return self.models[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what was recorded of the members: it is found again where the copy is used."""
        return {**vars(self), "_members": list[Members]()}

    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> BoundEnsemble:
        """Holds what is needed to evaluate the members on ``x``: see ``caveat.samplers.Sampler``."""
        members = self._members[0] if self._members and self._members[0].watch.same_structure() else self._new()
        device = members.watch.device
        if type(x) is Tensor and x.device == device and x.numel() > 0:
            inputs: Inputs = (x,), {}
            key: Any = (x.shape, x.dtype)
        else:
            inputs = as_inputs(x, device)
            found = structure_of(inputs)
            key = (found.around, tuple((tuple(leaf.data.shape), leaf.data.dtype) for leaf in found.leaves))
        kind = "cpu" if device == _CPU else device.type  # the name of a device is made anew each time
        if torch.is_autocast_enabled(kind):
            key = (key, torch.get_autocast_dtype(kind))
        prepared = members.prepared.get(key)
        whole = not gradient and rows is None
        reads = prepared is None or (whole and prepared.programs)  # calls of the networks need no look at values
        if reads and not members.watch.same_values() and not members.take_values():
            members, prepared = self._new(), None
        if prepared is None:
            prepared = members.prepare(key, inputs)
        as_program = bool(prepared.programs) and whole and not members.watch.hooked()
        if as_program and members.stack is not None and members.stack.stamp != prepared.stamp:
            prepared.refresh(members.stack.stamp)
        return BoundEnsemble(members, prepared, inputs, rows, seed, gradient, as_program)

    def _new(self) -> Members:
        """The members of now, of which nothing is known."""
        members = Members(self.models, self.output.read, self.backend, self.in_dims)
        self._members[:] = [members]
        return members


def ensemble(
    models: Iterable[nn.Module],
    *,
    output: Output[P] | dict[str, Output],
    in_dims: Any = None,
    backend: Backend = None,
) -> Ensemble[P]:
    """A sampler of M networks that were trained apart: a deep ensemble. Draw i is member i.

    Every member runs as in eval mode, whatever mode it is in; none is changed. Members of one architecture are
    evaluated by a recorded program: all at once where there is little to compute, as for small networks on few rows,
    else one after the other, on as many rows at a time as stay in the cache. Two members of the same weights give a
    warning at the first batch.

    Args:
        models: M networks, or what ``caveat.fit_ensemble`` returns. They may differ in architecture.
        output: How to read what each returns, or a dict of outputs by name for several heads.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.
        backend: "vectorized" (each operation is one of all members) or "loop" (member after member);
            chosen by a rule on sizes if not given.

    Returns:
        A sampler of size M: ``caveat.predict(sampler, x)`` uses all of them. For networks whose
        dropout is to stay on, see ``caveat.mixture``.

    Raises:
        InvalidArgumentError: no networks, something other than networks, one of them twice, or on several devices.
        OutputMismatchError: at the first batch, if a member's values have another shape; it says which.

    See "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", Lakshminarayanan, Pritzel and
    Blundell, 2017, https://arxiv.org/abs/1612.01474.

    Example:
        >>> import caveat, torch
        >>> networks = [nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)) for _ in range(5)]
        >>> pred = caveat.predict(ensemble(networks, output=caveat.Logits()), torch.zeros(2, 4))
        >>> pred.mean.shape, int(pred.count)
        (torch.Size([2, 3]), 5)
    """
    members = check_networks(models)
    require_choice(backend, "backend", BACKENDS, optional=True)
    return Ensemble(members, as_output(output), backend, in_dims)


class BoundEnsemble:
    """The stream of some networks on one batch; its own context, since nothing has to be put back."""

    def __init__(
        self,
        members: Members,
        prepared: Prepared,
        inputs: Inputs,
        rows: Tensor | None,
        seed: int,
        gradient: bool,
        as_program: bool,
    ) -> None:
        self._members, self._prepared, self._inputs, self._chosen = members, prepared, inputs, rows
        self._seed, self._gradient, self._as_program = seed, gradient, as_program
        self._values: Values | None = None
        self._own_pieces: list[tuple[Inputs, Tensor]] | None = None

    @property
    def rows(self) -> int | None:
        """The number of rows that can be asked for apart from the others."""
        if not self._prepared.separable:
            return None
        axes = self._prepared.kinds[0].probe.axes
        assert axes is not None
        return len(self._chosen) if self._chosen is not None else axes.count(self._inputs)

    def __enter__(self) -> BoundEnsemble:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._values = self._own_pieces = None

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive members, in order."""
        if self._values is None and self._as_program:
            self._values = self._played()
        values = self._values
        if values is None:
            return self._one_by_one(draws)
        if len(draws) == len(self._members.models):
            self._values = None  # handed over whole: the next call makes new ones
            return iter((values,))
        return iter((map_tensors(lambda value: value[draws.start : draws.stop].clone(), values),))

    def whole(self, draws: range) -> Values | None:
        """All these members' values, in memory that nothing else writes on."""
        if self._as_program and len(draws) == len(self._members.models):
            values = self._played()
            if values is not None:
                programs = self._prepared.programs
                new = len(programs) > 1 or programs[0].gives_new_memory  # values that are put together are new
                return values if new else map_tensors(torch.clone, values)
        return gathered(self(draws), len(draws), new=True)[0]

    def _played(self) -> Values | None:
        """The values of all members; None where that needs too much memory: one by one, rows can be halved."""
        prepared = self._prepared
        try:
            if prepared.rows_at_once is None:
                return _run(prepared.programs[0], self._inputs)
            *pieces, last = prepared.pieces(self._inputs)
            parts = [_run(prepared.programs[0], piece) for piece in pieces]
            return prepared.join([*parts, _run(prepared.programs[-1], last)], lead=1)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self._as_program = False
        return None

    def _one_by_one(self, draws: range) -> Iterator[Values]:
        plain = self._members.plain(self._prepared)
        pieces = self._plainly(draws) if plain else one_by_one(self._alone, draws)
        if len(draws) > 1:
            return pieces
        return (map_tensors(torch.clone, piece) for piece in pieces)  # a network may return its input, or a parameter

    def _alone(self, draw: int) -> Values:
        member, kind = self._members.networks[draw], self._prepared.kinds[draw]
        parts = [member.draw(*piece, kind, draw, self._seed, self._gradient) for piece in self._pieces()]
        return self._prepared.join(parts)

    def _pieces(self) -> list[tuple[Inputs, Tensor]]:
        """The rows that were asked for, in pieces, and their numbers; whole where the graph is kept anyway."""
        if self._own_pieces is None:
            found = self._prepared.kinds[0].probe
            inputs, numbers = rows_of(self._inputs, found, self._chosen, self._members.device)
            pieces = [inputs] if self._gradient else self._prepared.pieces(inputs)
            size = self._prepared.rows_at_once if len(pieces) > 1 else None
            parts = cast(tuple[Tensor, ...], numbers.split(size or len(numbers)))
            self._own_pieces = list(zip(pieces, parts, strict=True))
        return self._own_pieces

    def _plainly(self, draws: range) -> Iterator[Values]:
        """Plain calls, several together: switching gradients for each would cost a small network dearly."""
        pieces = [inputs for inputs, _ in self._pieces()]
        models, read, at_once = self._members.models, self._members.read, self._prepared.at_once
        for start in range(draws.start, draws.stop, at_once):
            part = range(start, min(start + at_once, draws.stop))
            try:
                with torch.set_grad_enabled(self._gradient):
                    values = [
                        self._prepared.join([read(models[draw](*args, **kwargs)) for args, kwargs in pieces])
                        for draw in part
                    ]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                values = None
            if values is None:  # rows are halved, member by member
                yield from one_by_one(self._alone, part)
            else:
                yield stacked(values)


def _run(program: Program, inputs: Inputs) -> Values:
    """The values of a program; one tensor, as most inputs are, needs no look through a tree."""
    args, kwargs = inputs
    if len(args) == 1 and not kwargs and type(args[0]) is Tensor and args[0].is_contiguous():
        return program.run(args[0].detach() if args[0].requires_grad else args[0])
    return program.run(*tensors_of(inputs))


def deterministic(model: nn.Module, *, output: Output[P] | dict[str, Output], in_dims: Any = None) -> Ensemble[P]:
    """A sampler of one function: the network as it is in eval mode. Epistemic uncertainty is 0.

    Args:
        model: Any network; one with dropout runs without.
        output: How to read what it returns, or a dict of outputs by name for several heads.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        A sampler of size 1.

    Raises:
        InvalidArgumentError: not a network.

    Example:
        >>> import caveat, torch
        >>> network = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> pred = caveat.predict(deterministic(network, output=caveat.Logits()), torch.zeros(2, 4))
        >>> int(pred.count), float(caveat.mutual_information(pred).max())
        (1, 0.0)
    """
    return ensemble([model], output=output, in_dims=in_dims)
