"""SWAG: draws from a normal distribution over the weights, fitted to the path of stochastic gradient descent.

See "A Simple Baseline for Bayesian Uncertainty in Deep Learning", Maddox et al., 2019.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, cast

import torch
from torch import Tensor, nn

from caveat._checks import require_integer, require_model, require_number
from caveat._engine import OneByOne, P, P_co, Stream, Values, as_output
from caveat._inputs import Inputs, as_inputs, map_tensors
from caveat._intercept import (
    FunctionMode,
    Network,
    normal_from_uniform,
    put_back,
    random_bits,
    uniform_from_bits,
)
from caveat._seeds import check_seed, draw_keys, site_key
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.predictive import Output
from caveat.samplers._members._as_eval import EvalNetwork, Kind, rows_of
from caveat.samplers._members._batch_statistics import Held, Statistics, Using, read_statistics
from caveat.samplers._members._training_rows import TrainingRows
from caveat.samplers._snapshots import copy_model, loaded
from caveat.samplers._swag_moments import SwagMoments

_RUNNING = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class _Strays(FunctionMode):
    """Gives torch's calls a draw's weights where they name a parameter that is held elsewhere too, as in a list."""

    def __init__(self, drawn: dict[int, Tensor]) -> None:
        super().__init__()
        self._drawn, self.met = drawn, False  # by the ids of their parameters

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*map_tensors(self._weight_of, args), **map_tensors(self._weight_of, kwargs or {}))

    def _weight_of(self, tensor: Tensor) -> Tensor:
        drawn = self._drawn.get(id(tensor), tensor)
        self.met = self.met or drawn is not tensor
        return drawn


@dataclass(frozen=True, eq=False, repr=False)
class Swag(Generic[P_co]):
    """The sampler that ``swag`` makes; see there. ``model`` is a private copy with the mean weights."""

    model: nn.Module
    output: Output[P_co]
    moments: SwagMoments
    scale: float
    batch_size: int
    _data: TrainingRows | None = field(repr=False)
    _network: EvalNetwork = field(repr=False)
    _held: Held = field(repr=False)
    _lock: Any = field(default_factory=threading.RLock, repr=False)
    _holds_all: list[Kind] = field(default_factory=list[Kind], repr=False)
    """Inputs on which the network reads its parameters from its modules alone."""

    __repr__ = in_a_line

    def __getstate__(self) -> dict[str, Any]:
        own = ("_lock", "_holds_all")  # a lock cannot be copied, and the copy's network is looked at anew
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock(), _holds_all=[])

    size = None
    """There is no end of weights."""
    strata = None
    """Draws are independent."""

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        check_seed(seed)
        network = self._network
        inputs = as_inputs(x, network.device)
        with self._lock, nullcontext() if self._data is None else Using(self._statistics(self._data, "mean weights")):
            kind = network.kind(inputs)
        inputs, numbers = rows_of(inputs, kind.probe, rows, network.device)

        def one(draw: int) -> Values:
            known = any(each is kind for each in self._holds_all)
            with self._weights(seed, draw, known) as strays, self._normalizing(seed, draw):
                values = network.draw(inputs, numbers, kind, draw, seed, gradient)
            if not known and not strays.met:
                self._holds_all.append(kind)
            return values

        yield OneByOne(one, len(numbers) if kind.separable else None)

    def weights(self, seed: int, draw: int) -> dict[str, Tensor]:
        """The parameters of a draw, by name.

        mean + sqrt(scale / 2) (sqrt(diagonal) z1 + D z2 / sqrt(K - 1)), where D holds the last K deviations.
        """
        moments, device = self.moments, self._network.device
        columns = len(next(iter(moments.deviations.values())))
        found = dict[str, Tensor]()
        shared = _normals(seed, draw, "the low-rank part", columns, device).double() if columns > 1 else None
        for name, parameter in self.model.named_parameters():
            if name not in moments.mean:
                continue
            mean = moments.mean[name].to(device)
            noise: Tensor = _normals(seed, draw, name, mean.numel(), device).double().reshape(mean.shape)
            moved: Tensor = moments.variance(name).to(device).sqrt() * noise
            if shared is not None:
                deviations = torch.stack([*moments.deviations[name]]).to(device, torch.float64)
                moved = moved + (shared @ deviations.flatten(1)).reshape(mean.shape) / (columns - 1) ** 0.5
            found[name] = (mean + (self.scale / 2) ** 0.5 * moved).to(parameter.dtype)
        return found

    @contextmanager
    def _weights(self, seed: int, draw: int, known: bool) -> Generator[_Strays]:
        """The private copy with a draw's weights; they are new tensors, so that a graph may hold them."""
        with self._lock:
            own: dict[str, Any] = dict(self.model.named_parameters())
            drawn = {id(own[name]): tensor for name, tensor in self.weights(seed, draw).items()}
            holders = [vars(module)["_parameters"] for module in self.model.modules()]
            kept = [(held, name, tensor) for held in holders for name, tensor in held.items() if id(tensor) in drawn]

            def restore() -> None:
                for held, name, parameter in kept:
                    held[name] = parameter

            strays = _Strays(drawn)
            with put_back(restore), nullcontext() if known else strays:
                for held, name, parameter in kept:
                    held[name] = drawn[id(parameter)]
                yield strays

    def _normalizing(self, seed: int, draw: int) -> AbstractContextManager[Any]:
        return nullcontext() if self._data is None else Using(self._statistics(self._data, (seed, draw)), unbiased=True)

    def _statistics(self, data: TrainingRows, weights: Hashable) -> Statistics:
        """Returns the statistics of all rows under the weights of now, which ``weights`` names."""

        def batches() -> Iterator[Inputs]:
            return map(data.take, cast(tuple[Tensor, ...], torch.arange(data.count).split(self.batch_size)))

        layers = tuple(map(id, self.model.buffers()))  # others once the copy is of another dtype
        key = weights, data.version, data.place, layers
        return self._held.get(key, lambda: read_statistics(self._network.probe, batches))


def swag(
    model: nn.Module,
    snapshots: SwagMoments | Iterable[Any],
    *,
    output: Output[P] | dict[str, Output],
    rank: int = 20,
    scale: float = 1.0,
    data: Any = None,
    batch_size: int = 256,
    in_dims: Any = None,
) -> Swag[P]:
    """A sampler of weights from the normal distribution that SWAG fits to one training run.

    Its mean is the mean of the snapshots, its covariance half their diagonal variance plus half a low-rank part of the
    last deviations. A draw's weights depend on (seed, i) alone. The network is copied, and stays as it is.

    Args:
        model: Network that was trained.
        snapshots: ``SwagMoments`` collected while training; or networks, state dicts or paths of checkpoints, in order.
        output: How to read what the network returns, or a dict of outputs by name for several heads.
        rank: Number of last deviations that make the low-rank part, where snapshots are given; 0 for none.
        scale: Factor of the covariance; 1 is the paper's.
        data: training inputs, for batch normalization: its statistics belong to weights, so each draw takes those of
            all rows under its own. Needed where the network has batch normalization. As for ``mc_batch_norm``.
        batch_size: Number of rows passed at once. It decides memory and time, not the result: with all rows at once
            a draw takes one pass over them, in several batches one more for each further layer that normalizes.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        An unbounded sampler.

    Raises:
        InvalidArgumentError: fewer than two snapshots, all of them equal or of another network, complex weights, a
            negative rank or scale, batch normalization and no data, or instance normalization with running statistics.

    See "A Simple Baseline for Bayesian Uncertainty in Deep Learning", Maddox et al., 2019,
    https://arxiv.org/abs/1902.02476.

    Example:
        >>> import caveat
        >>> network, moments = nn.Linear(4, 3), None
        >>> moments = SwagMoments(network, rank=5)
        >>> for epoch in range(10):
        ...     _ = nn.init.normal_(network.weight)            # stands for an epoch of training
        ...     moments.update()
        >>> caveat.predict(swag(network, moments, output=caveat.Logits()), torch.zeros(2, 4), n=20).mean.shape
        torch.Size([2, 3])
    """
    require_model(model)
    require_number(scale, "scale", "[0, inf)")
    require_integer(batch_size, "batch_size", 2)
    given = snapshots if isinstance(snapshots, SwagMoments) else _moments_of(model, snapshots, rank)
    given.check(model, varied=scale > 0)
    made, as_read = copy_model(model), as_output(output)
    moments = given.frozen(made)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name in moments.mean:
                parameter.copy_(moments.mean[name])
    running = EvalNetwork(Network(made).model, as_read.read, in_dims)  # compiled code would not see a draw's weights
    rows = None if data is None else TrainingRows(data, running.model, in_dims)
    if any(isinstance(module, _RUNNING) and module.track_running_stats for module in made.modules()):
        raise _invalid(
            "no layer may keep statistics of other weights than those drawn",
            "instance normalization with track_running_stats=True",
            "track_running_stats=False, its default",
        )
    normalizes = any(isinstance(module, _BATCH_NORMS) for module in made.modules())
    if normalizes and rows is None:
        raise _invalid(
            "batch normalization needs data, to take its statistics under the weights of each draw",
            "a network with batch normalization, and data=None",
            "swag(network, moments, data=training_inputs, output=...)",
        )
    if rows is not None and not normalizes:  # a layer of the user's own may call F.batch_norm
        few = rows.take(torch.arange(min(rows.count, 2)))
        rows = rows if read_statistics(running.probe, lambda: [few]) else None
    return Swag(made, as_read, moments, scale, batch_size, rows, running, Held())


def _moments_of(network: nn.Module, snapshots: Any, rank: int) -> SwagMoments:
    if not isinstance(snapshots, Iterable) or isinstance(cast(Any, snapshots), (nn.Module, dict, str)):
        kind = type(cast(object, snapshots)).__name__
        raise _invalid("snapshots are a list, or SwagMoments", kind, "pass a list of state dicts")
    moments = SwagMoments(network, rank=rank)
    for number, snapshot in enumerate(cast(Iterable[Any], snapshots)):
        moments.update(loaded(snapshot, network, number))
    return moments


def _invalid(rule: str, got: str, fix: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"For SWAG, {rule}.", got=got, cause="arguments in another order", fix=fix)


def _normals(seed: int, draw: int, name: str, count: int, device: torch.device) -> Tensor:
    """Returns (count,) float32 standard normal numbers for a draw and a name, the same on every device."""
    keys = draw_keys(seed, site_key(name, 0, "normal"), torch.tensor([draw], device=device))
    return normal_from_uniform(uniform_from_bits(random_bits(keys, count)))[0]
