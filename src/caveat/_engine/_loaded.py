"""What of a loader goes into a network: which rows of its dataset, and what of a batch, by ``forward``'s arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from operator import index
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Subset

from caveat._intercept import seeded
from caveat.errors import InvalidArgumentError

_WHOLE = "pass (x,) where the named tuple is one argument; of a loader's batches: inputs=lambda batch: (batch,)"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def inputs_of(batch: Any, model: nn.Module | None) -> Any:
    """Returns the inputs in a batch: of a list the items that ``forward`` needs, so that labels stay out.

    One item behind these is taken for the labels. A tuple with no more items than ``forward`` takes, and anything else,
    is passed as it is.

    Raises:
        InvalidArgumentError: several items behind, or behind none that ``forward`` needs, of which it could take some:
            which are labels cannot be known.
    """
    parameters = None if model is None else _positional(model)
    if parameters is None or type(batch) not in (list, tuple):
        return batch
    items = tuple(cast(Sequence[Any], batch))
    needed = sum(p.default is inspect.Parameter.empty for p in parameters)
    if len(items) <= max(needed, 1) or (isinstance(batch, tuple) and len(items) <= len(parameters)):
        return items
    optional = [p.name for p in parameters[needed : len(items)] if p.default is None or isinstance(p.default, Tensor)]
    if optional and not 0 < needed == len(items) - 1:
        raise InvalidArgumentError(
            "Which items of a loader's batch are inputs must be known.",
            got=f"{len(items)} items, and {type(model).__name__}.forward needs {needed} and may take "
            f"{', '.join(optional)} besides",
            cause="labels, or optional inputs, behind the inputs",
            fix="predict_batches(sampler, loader, inputs=lambda batch: batch[0]), or tuple(batch[:2]) for two "
            "inputs",
        )
    return items[: max(needed, 1)]


def rows_of_loader(loader: DataLoader[Any]) -> Any:
    """Returns the dataset of a ``DataLoader``, or the part of it that its sampler is restricted to.

    Raises:
        InvalidArgumentError: A sampler that repeats rows, or leaves out others each time.
    """
    dataset = cast(Any, loader.dataset)
    if isinstance(dataset, IterableDataset):
        return cast(Any, dataset)
    batches = cast(Any, loader.batch_sampler)
    # The usual batches may leave out a last one that is not full; its rows are read all the same.
    own = batches is not None and type(batches) is not BatchSampler
    sampler = batches if own else cast(Any, loader if batches is None else batches).sampler
    rows, again = _rows_of_two_epochs(sampler, own, len(dataset))
    if len(set(rows)) == len(rows) and set(rows) == set(again):
        return dataset if len(rows) == len(dataset) else Subset(dataset, sorted(rows))
    raise InvalidArgumentError(
        "A DataLoader must be of all rows of its dataset, or of the same part each time: each row is taken once.",
        got=f"a {type(sampler).__name__} that repeats rows, or leaves out others each time",
        cause="rows weighted or drawn by the sampler, which would have no effect",
        fix="pass the rows that you mean, torch.utils.data.Subset(dataset, indices), and weigh classes in the loss",
    )


def _rows_of_two_epochs(sampler: Any, batched: bool, most: int) -> tuple[list[int], list[int]]:
    """Returns the rows that a sampler gives twice, up to one more than there are; its generators stay as they are."""
    generators = [value for value in getattr(sampler, "__dict__", {}).values() if isinstance(value, torch.Generator)]
    before = [generator.get_state() for generator in generators]

    def rows() -> list[int]:
        given: Iterable[Any] = chain.from_iterable(sampler) if batched else sampler
        return [index(row) for row in islice(given, most + 1)]

    try:
        with seeded(0):
            return rows(), rows()
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


def check_fits(x: Any, model: nn.Module) -> None:
    """Raise ``InvalidArgumentError`` if ``forward`` cannot be called with ``x``, by its signature."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # such as compiled code
        return
    keywords = dict(cast(Mapping[str, Any], x)) if isinstance(x, Mapping) else {}
    several = isinstance(x, (tuple, list)) and not isinstance(x, PackedSequence)
    arguments = tuple(cast(Sequence[Any], x)) if several else () if keywords else (cast(Any, x),)
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        names = list(signature.parameters)
        taken = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise InvalidArgumentError(
            "The inputs must fit the arguments of the network's forward.",
            got=f"{_described(x, several, keywords)}, and {type(model).__name__}.forward({taken}): {error}",
            cause="labels beside the inputs, as loaders give them; or an input that was left out",
            fix=_way_out(names, arguments, keywords) if not hasattr(cast(object, x), "_fields") else _WHOLE,
        ) from None


def _positional(model: nn.Module) -> list[inspect.Parameter] | None:
    """Returns the positional parameters of ``forward``; None where they are not to be known."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    return [p for p in parameters if p.kind in _POSITIONAL]


def _described(x: Any, several: bool, keywords: Mapping[str, Any]) -> str:
    if keywords:
        return f"a dict of {', '.join(map(repr, keywords))}"
    return f"a {type(x).__name__} of {len(x)} items" if several else f"one {type(x).__name__}"


def _way_out(names: Sequence[str], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    fitting = [name for name in keywords if name in names]
    if fitting and len(fitting) < len(keywords):
        chosen = f"{{name: batch[name] for name in {tuple(fitting)!r}}}"
    elif keywords and not fitting:
        chosen = f"batch[{next(iter(keywords))!r}]"
    elif len(arguments) > 1:
        chosen = "batch[0]"
    else:
        return f"pass every argument: a tuple ({', '.join(names)}), or a dict of them"
    of_loader = f"predict_batches(sampler, loader, inputs=lambda batch: {chosen})"
    return f"pass the inputs alone; of a loader's batches: {of_loader}"
