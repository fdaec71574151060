"""The verbs: predict, predict batch by batch, and the draws themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from numbers import Integral
from typing import Any, Literal, TypedDict, Unpack, cast, overload

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._adaptive import Measure, Stopping, adaptive
from caveat._engine._collect import buffered, draws_in, gathered, summarized
from caveat._engine._loaded import inputs_of
from caveat._engine._misuse import check_loader_passed, check_passed, check_sampler_passed
from caveat._engine._sampler import P, Sampler, Values
from caveat._intercept import interruptible
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError, InvalidDataError
from caveat.predictive import Bernoulli, Categorical, Gaussian, Heads

_DEFAULT_DRAWS = 100
_MISUSE = (TypeError, AttributeError, RuntimeError, ValueError)
"""What a call fails with where something else was passed in place of a sampler or a batch."""


@interruptible
def predict(
    sampler: Sampler[P],
    x: Any,
    n: int | Literal["auto"] | None = None,
    *,
    seed: int = 0,
    keep: bool = False,
    tolerance: float = 0.01,
    measure: Measure | None = None,
    min_draws: int = 32,
    max_draws: int = 4096,
) -> P:
    """Draws ``n`` functions, evaluates them on ``x``, and keeps the summary.

    Draw i depends on (seed, i) alone, so ``predict(x)`` of a row is the same in any batch, and predictions with the
    same seed are of the same functions. Memory does not grow with n unless the draws are kept.

    Args:
        sampler: Source of the functions, such as ``caveat.mc_dropout(...)``.
        x: a batch of B rows: a tensor, a tuple of arguments, or a dict of keyword arguments.
        n: Number of draws (100, or all that the sampler has, if not given); "auto" draws until each row's Monte-Carlo
            standard error is under ``tolerance``, and ``pred.count`` says how many each took.
        seed: Random seed for the draws.
        keep: keep the draws too, for quantiles of the mixture and the like.
        tolerance: Largest standard error for "auto", in the unit of the mean (or of ``measure``).
        measure: Function of a predictive whose standard error counts for "auto", in place of the mean's.
        min_draws: Smallest number of draws of a row for "auto".
        max_draws: Largest number of draws of a row for "auto".

    Returns:
        A predictive: ``Categorical``, ``Bernoulli``, ``Gaussian``, or ``Heads``.

    Raises:
        InvalidArgumentError: n is not a positive integer or "auto", or more than the sampler has.
        NothingRandomError: nothing varies in what is read.
        NotFiniteError: NaN in what the network returned.
        OutputMismatchError: it cannot be read as declared.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
        >>> pred = caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), torch.zeros(2, 4), n=50)
        >>> pred.mean.shape, int(pred.count)
        (torch.Size([2, 1]), 50)
    """
    if type(seed) is not int:  # a plain integer needs no look
        check_seed(seed)
    try:
        if n == "auto":
            stopping = _stopping(tolerance, measure, min_draws, max_draws, keep, sampler)
            return cast(P, adaptive(sampler, x, seed, stopping))
        count = check_draws(n, sampler)
        with sampler.bind(x, seed) as stream:
            output, block = sampler.output, sampler.strata
            apart = None if keep or block is not None else getattr(stream, "apart", None)
            by_rows = getattr(output, "by_rows", None)
            if apart is None or stream.rows is None or by_rows is None:
                pieces = iter(stream(range(count)))
                first = [] if keep or block is not None else [*islice(pieces, 1)]
                if first and _is_all(first[0], count):
                    pred = output.summarize(first[0], keep=False)
                    deque(pieces, 0)  # a generator puts back its modes at its end, which must come before the binding's
                    return pred
                return cast(P, summarized(_again(first, pieces), output, count, keep=keep, block=block))
        return _predict_apart(sampler, x, seed, count, apart, by_rows(stream.rows), stream.rows)
    except _MISUSE as error:
        check_passed(sampler, x, error)
        raise


class PredictSettings(TypedDict, total=False):
    """The other arguments of ``predict``."""

    seed: int
    keep: bool
    tolerance: float
    measure: Measure | None
    min_draws: int
    max_draws: int


def predict_batches(
    sampler: Sampler[P],
    loader: Iterable[Any],
    n: int | Literal["auto"] | None = None,
    *,
    inputs: Callable[[Any], Any] | None = None,
    **settings: Unpack[PredictSettings],
) -> Iterator[P]:
    """``predict`` for each batch of a loader, in order and in flat memory.

    The same functions are drawn for every batch, so results do not depend on how the rows are batched.

    Args:
        sampler: Source of the functions.
        loader: an iterable of batches, such as a ``DataLoader``.
        n: Number of draws, as for ``predict``.
        inputs: Function that takes from a batch what the network gets. If not given, the network gets the batch; of a
            list (which ``DataLoader`` makes of a dataset of pairs), or of a tuple longer than ``forward`` takes, the
            leading items that ``forward`` needs, so that labels stay out.
        settings: Other arguments of ``predict``.

    Yields:
        A predictive for each batch.

    Raises:
        InvalidArgumentError: not a sampler or a loader, or items of which it cannot be known whether they are labels.
        InvalidDataError: the loader raised; its error is the cause, and the batches before it have been given.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
        >>> sampler = caveat.mc_dropout(model, output=caveat.Mean())
        >>> [pred.mean.shape[0] for pred in caveat.predict_batches(sampler, torch.zeros(7, 4).split(3), n=10)]
        [3, 3, 1]
    """
    check_sampler_passed(sampler, loader)
    check_loader_passed(loader)
    if n != "auto":
        check_draws(n, sampler)
    model: Any = getattr(sampler, "model", None)
    return _predict_batches(sampler, loader, n, inputs or (lambda batch: inputs_of(batch, model)), settings)


def _is_all(piece: Values, count: int) -> bool:
    """Returns whether this piece is all draws, as of a small network, so that it needs no buffer."""
    return isinstance(piece, Tensor) and piece.shape[:1] == (count,) and not piece.requires_grad


def _again(first: list[Values], rest: Iterator[Values]) -> Iterator[Values]:
    """All pieces, those that were looked at first; none is held here while the next is made."""
    while first:
        yield first.pop()
    yield from rest


def _predict_apart(sampler: Sampler[P], x: Any, seed: int, count: int, apart: int, summary: Any, rows: int) -> P:
    """``predict`` of some rows after the others: so many scores that all draws of all rows are never held."""
    for start in range(0, rows, apart):
        with sampler.bind(x, seed, rows=torch.arange(start, min(start + apart, rows))) as stream:
            known = 0
            for draws in buffered(stream(range(count)), count, whole=False):
                summary.add(start, known, cast(Tensor, draws))
                known += draws_in(draws)
                del draws  # before the next are made
    return summary.of_draws(count)


def _predict_batches(
    sampler: Sampler[P], loader: Iterable[Any], n: Any, inputs: Callable[[Any], Any], settings: PredictSettings
) -> Iterator[P]:
    batches, number = iter(loader), 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:
            raise InvalidDataError(
                "A loader must give every batch.",
                got=f"{type(error).__name__} while loading batch {number}: {error}",
                cause="a corrupt file or a transform that fails on some rows",
                fix=f"mend the dataset; the {number} batches before it were given and are right",
            ) from error
        yield predict(sampler, inputs(batch), n, **settings)
        number += 1


@overload
def draws(
    sampler: Sampler[Categorical | Bernoulli | Gaussian],
    x: Any,
    n: int | None = None,
    *,
    seed: int = 0,
    gradient: bool = False,
) -> Tensor: ...
@overload
def draws(
    sampler: Sampler[Heads], x: Any, n: int | None = None, *, seed: int = 0, gradient: bool = False
) -> dict[str, Any]: ...
@overload
def draws(sampler: Sampler, x: Any, n: int | None = None, *, seed: int = 0, gradient: bool = False) -> Any: ...
@interruptible
def draws(sampler: Sampler, x: Any, n: int | None = None, *, seed: int = 0, gradient: bool = False) -> Any:
    """The outputs of the functions that ``predict`` with the same seed summarizes.

    Args:
        sampler: Source of the functions.
        x: a batch, as for ``predict``.
        n: Number of draws S.
        seed: Random seed for the draws.
        gradient: keep the graph for autograd, so that the draws can be differentiated.

    Returns:
        (S, B, ...), as the network returned them but for the class axis, which comes last; a dict of such for a
        network with several heads.

    Raises:
        InvalidArgumentError, NothingRandomError, OutputMismatchError: as ``predict``.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> caveat.draws(caveat.mc_dropout(model, output=caveat.Logits()), torch.zeros(2, 4), n=5).shape
        torch.Size([5, 2, 3])
    """
    try:
        count = check_draws(n, sampler)
        with sampler.bind(x, check_seed(seed), gradient=gradient) as stream:
            if gradient:
                return pytree.tree_map(lambda *parts: torch.cat(parts), *list(stream(range(count))))
            at_once = getattr(stream, "whole", None)
            if at_once is not None:
                return at_once(range(count))
            whole, at = gathered(stream(range(count)), count, new=False)
    except _MISUSE as error:
        check_passed(sampler, x, error)
        raise
    if at != count:
        raise InvalidArgumentError(
            "A stream must give every draw that it is asked for.",
            got=f"{at} of {count} draws",
            cause="a sampler whose stream stops early",
            fix="hold the sampler to caveat.testing.check_sampler",
        )
    return whole


def check_draws(n: Any, sampler: Sampler) -> int:
    """``n`` if it is a number of draws that ``sampler`` has, or its default."""
    if n is None:
        return sampler.size or _DEFAULT_DRAWS
    if isinstance(n, bool) or not isinstance(n, Integral) or int(n) < 1:
        raise InvalidArgumentError(
            'n must be a positive integer, or "auto".',
            got=f"n={n!r}",
            cause="a count that was computed and came out as zero, or a float",
            fix="pass n=100, or n='auto' with a tolerance",
        )
    n = int(n)
    if sampler.size is not None and n > sampler.size:
        raise InvalidArgumentError(
            "n must be at most the number of functions that the sampler has.",
            got=f"n={n} of {sampler.size}",
            cause="a number of dropout draws passed to an ensemble",
            fix=f"leave n out to use all {sampler.size}",
        )
    return n


def _stopping(
    tolerance: float, measure: Measure | None, least: int, most: int, keep: bool, sampler: Sampler
) -> Stopping:
    problem = None
    if not tolerance > 0:
        problem = ("tolerance must be above 0.", f"tolerance={tolerance!r}", "pass tolerance=0.01")
    elif not 2 <= least <= most:
        rule = "min_draws and max_draws must keep 2 <= min_draws <= max_draws."
        problem = (rule, f"{least} and {most}", "leave them out")
    elif keep:
        problem = ("keep=True needs a fixed n.", "keep=True with n='auto'", "pass an integer n")
    elif sampler.size is not None:
        problem = ('n="auto" needs an unbounded sampler.', f"a sampler of {sampler.size} functions", "leave n out")
    if problem is not None:
        rule, got, fix = problem
        raise InvalidArgumentError(rule, got=got, fix=fix)
    return Stopping(tolerance, measure, least, most)
