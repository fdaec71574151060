"""Monte-Carlo batch normalization: each draw normalizes with the statistics of one training mini-batch.

See "Bayesian Uncertainty Estimation for Batch Normalized Deep Networks", Teye, Azizpour and Smith, 2018.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor, nn

from caveat._checks import require_model
from caveat._engine import OneByOne, P, P_co, Stream, Values, as_output
from caveat._inputs import Inputs, as_inputs
from caveat._intercept import Network
from caveat._seeds import check_seed, generator_of
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError, NothingRandomError
from caveat.predictive import Output
from caveat.samplers._members._as_eval import EvalNetwork, rows_of
from caveat.samplers._members._batch_statistics import Held, Statistics, Using, read_statistics
from caveat.samplers._members._training_rows import TrainingRows

_USUAL_BATCH = 32


@dataclass(frozen=True, eq=False, repr=False)
class MCBatchNorm(Generic[P_co]):
    """The sampler that ``mc_batch_norm`` makes; see there."""

    model: nn.Module
    output: Output[P_co]
    batch_size: int
    _data: TrainingRows = field(repr=False)
    _network: EvalNetwork = field(repr=False)
    _held: Held = field(repr=False)

    __repr__ = in_a_line

    size = None
    """There is no end of mini-batches worth counting."""
    strata = None
    """Mini-batches are chosen independently."""

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        check_seed(seed)
        network = self._network
        inputs = as_inputs(x, network.device)
        with Using(self._statistics(seed, 0)):
            kind = network.kind(inputs)
        inputs, numbers = rows_of(inputs, kind.probe, rows, network.device)

        def one(draw: int) -> Values:
            with Using(self._statistics(seed, draw)):
                return network.draw(inputs, numbers, kind, draw, seed, gradient)

        yield OneByOne(one, len(numbers) if kind.separable else None)

    def _statistics(self, seed: int, draw: int) -> Statistics:
        """Returns the statistics of the mini-batch of a draw."""

        def mini_batch() -> list[Inputs]:
            order = torch.randperm(self._data.count, generator=generator_of(seed, draw, "mini-batch"))
            return [self._data.take(order[: self.batch_size])]

        key = seed, draw, self._data.version
        return self._held.get(key, lambda: read_statistics(self._network.probe, mini_batch))


def mc_batch_norm(
    model: nn.Module,
    data: Any,
    *,
    output: Output[P] | dict[str, Output],
    batch_size: int | None = None,
    in_dims: Any = None,
) -> MCBatchNorm[P]:
    """A sampler of any network with batch normalization: draw i uses the statistics of training mini-batch i.

    The network is not changed: running statistics, flags and everything else stay. All else behaves as in eval mode,
    and rows do not influence each other: the statistics are the training mini-batch's, never the batch's at hand.

    Args:
        model: Any network that calls ``F.batch_norm``, as ``nn.BatchNorm1d/2d/3d`` and ``nn.SyncBatchNorm`` do.
        data: inputs of N training rows: a tensor, a tuple of arguments, a dict of keywords; or a dataset or
            ``DataLoader`` of (inputs, target) examples with a length.
        output: How to read what the network returns, or a dict of outputs by name for several heads.
        batch_size: Number of rows of a mini-batch, best as in training: the smaller, the larger the uncertainty.
            32 if not given, or half of the data where that is less.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        An unbounded sampler. Which rows mini-batch i has depends on (seed, i) alone. For ``draws(gradient=True)`` the
        statistics are constants: gradients of parameters leave out the way through them.

    Raises:
        NothingRandomError: the network calls no batch normalization.
        InvalidArgumentError: not a network; batch_size below 2, or not below the number of rows; data without rows.

    See "Bayesian Uncertainty Estimation for Batch Normalized Deep Networks", Teye, Azizpour and Smith, 2018,
    https://arxiv.org/abs/1802.06455.

    Example:
        >>> import caveat
        >>> network = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
        >>> sampler = mc_batch_norm(network, torch.randn(100, 4), output=caveat.Mean(), batch_size=16)
        >>> caveat.predict(sampler, torch.zeros(2, 4), n=20).mean.shape
        torch.Size([2, 1])
    """
    require_model(model)
    as_read = as_output(output)
    running = EvalNetwork(Network(model).model, as_read.read, in_dims)  # compiled code does not see a mode's statistics
    rows = TrainingRows(data, running.model, in_dims)
    size = min(_USUAL_BATCH, rows.count // 2) if batch_size is None else batch_size
    if not 2 <= size < rows.count:
        rule = "batch_size must be at least 2 and below the number of training rows, or all draws are the same."
        raise _invalid(rule, f"batch_size={size} of {rows.count} rows", "pass more data, or batch_size=32")
    if not read_statistics(running.probe, lambda: [rows.take(torch.arange(size))]):
        raise NothingRandomError(
            "Monte-Carlo batch normalization needs batch normalization in the network.",
            got=f"a {type(model).__name__} that never calls F.batch_norm",
            cause="layer or group normalization, or batch normalization folded into convolutions for speed",
            fix="caveat.mc_dropout for a network with dropout, caveat.ensemble for several networks",
        )
    return MCBatchNorm(model, as_read, size, rows, running, Held(model))


def _invalid(rule: str, got: str, fix: str) -> InvalidArgumentError:
    return InvalidArgumentError(rule, got=got, cause="arguments in another order, or a very small set", fix=fix)
