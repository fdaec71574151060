"""Training data as tensors in memory: every row once, checked, beside each other for all runs of a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, TensorDataset

from caveat._arrays import masked_as_nan
from caveat._checks import describe
from caveat._engine import rows_of_loader
from caveat._intercept import in_turn
from caveat._seeds import fold_in
from caveat.errors import InvalidArgumentError, NotFiniteError, explain

_READ_ROWS = 256


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a data set: the tensors of the inputs (args, kwargs) and of the targets, each with the rows first."""

    leaves: tuple[Tensor, ...]
    spec: pytree.TreeSpec
    rows: int

    @classmethod
    def of(cls, inputs: Any, targets: Any) -> Table:
        """The table of these trees of tensors."""
        leaves, spec = pytree.tree_flatten((inputs, targets))
        return cls(tuple(leaves), spec, len(leaves[0]))

    @property
    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The inputs as (args, kwargs)."""
        return self.whole(self.leaves)[0]

    @property
    def targets(self) -> Any:
        """The targets."""
        return self.whole(self.leaves)[1]

    def whole(self, leaves: Sequence[Any]) -> tuple[Any, Any]:
        """Inputs and targets, of one thing for each tensor."""
        if self.spec == _PLAIN:  # the common case, and unflattening takes longer than a small layer
            return ((leaves[0],), {}), leaves[1]
        return pytree.tree_unflatten(leaves, self.spec)

    def take(self, index: Tensor) -> list[Tensor]:
        """The rows ``index`` (any shape) of each tensor: (*index.shape, ...)."""
        flat = index.reshape(-1)
        return [leaf.index_select(0, flat).view(*index.shape, *leaf.shape[1:]) for leaf in self.leaves]

    def to(self, device: torch.device, dtype: torch.dtype) -> Table:
        """The same rows on ``device``, floating-point numbers in ``dtype``."""
        leaves = [leaf.to(device, dtype if leaf.is_floating_point() else leaf.dtype) for leaf in self.leaves]
        return Table(tuple(leaves), self.spec, self.rows)


_PLAIN = pytree.tree_flatten((((0,), {}), 0))[1]


def as_table(data: Any, name: str = "data") -> Table:
    """(inputs, targets), a ``Dataset`` or a ``DataLoader`` as a table; the latter two are read once, in order.

    Raises:
        InvalidArgumentError: neither of these, no rows, or inputs and targets of different length.
        NotFiniteError: NaN or infinity in the inputs.
    """
    pair = _pair(data, name)
    inputs, targets = map_leaves(_tensor, pair[0]), map_leaves(_tensor, pair[1])
    leaves = [leaf for leaf in pytree.tree_leaves((inputs, targets)) if isinstance(leaf, Tensor)]
    lengths = {leaf.shape[0] if leaf.dim() else -1 for leaf in leaves}
    if len(lengths) != 1 or min(lengths) < 1 or not pytree.tree_leaves(inputs) or not pytree.tree_leaves(targets):
        raise InvalidArgumentError(_unequal(name, leaves))
    table = Table.of(_arguments(inputs), targets)
    for leaf in pytree.tree_leaves(table.inputs):
        row = first_not_finite(leaf)
        if row is not None:
            raise NotFiniteError(_not_finite(f"The inputs of {name}", row))
    return table


def joined(tables: Sequence[Table]) -> tuple[Table, list[int]]:
    """One table of the rows of all (each distinct table once), and where each of them starts."""
    distinct = list({id(table): table for table in tables}.values())
    starts: dict[int, int] = {}
    for table in distinct:
        starts[id(table)] = sum(other.rows for other in distinct[: len(starts)])
    if len(distinct) == 1:
        return distinct[0], [0] * len(tables)
    leaves = tuple(torch.cat(parts) for parts in zip(*(table.leaves for table in distinct), strict=True))
    whole = Table(leaves, distinct[0].spec, sum(table.rows for table in distinct))
    return whole, [starts[id(table)] for table in tables]


def first_not_finite(leaf: Tensor) -> int | None:
    """The first row that holds NaN or infinity, or None."""
    if not leaf.is_floating_point():
        return None
    bad = ~torch.isfinite(leaf).reshape(leaf.shape[0], -1).all(1)
    return int(bad.nonzero()[0]) if bool(bad.any()) else None


def map_leaves(function: Any, tree: Any) -> Any:
    """``tree`` with ``function`` of every leaf."""
    return pytree.tree_map(function, tree)


def _pair(data: Any, name: str) -> tuple[Any, Any]:
    if isinstance(data, TensorDataset) and len(data.tensors) >= 2:
        *inputs, targets = data.tensors
        return (inputs[0] if len(inputs) == 1 else tuple(inputs)), targets
    if isinstance(data, DataLoader):
        loader = cast("DataLoader[Any]", data)
        data = _read_once(rows_of_loader(loader), loader.collate_fn, name)
    elif isinstance(data, Dataset):
        data = _read_once(cast(Any, data), None, name)
    pair = list(cast(Sequence[Any], data)) if isinstance(data, (tuple, list)) else []
    if len(pair) == 2:
        return pair[0], pair[1]
    raise InvalidArgumentError(
        f"{name} must be (inputs, targets), a Dataset or a DataLoader whose items are such pairs.",
        got=type(cast(Any, data)).__name__,
        cause="only the inputs were passed, or the items of the data set are not pairs",
        fix="pass (x, y); for a network with several inputs ((x, mask), y) or ({'x': x, 'mask': mask}, y)",
    )


def _read_once(rows: Any, collate: Any, name: str) -> Any:
    """All batches as one, of random numbers of their own: what a dataset draws does not depend on what ran before."""
    with in_turn(fold_in(0, "rows of a dataset", 0)):
        batches = [*DataLoader(rows, batch_size=_READ_ROWS, collate_fn=collate)]
    if not batches:
        raise InvalidArgumentError(_unequal(name, []))
    try:
        return pytree.tree_map(lambda *leaves: torch.cat(leaves), *batches)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"The batches of {name} must be tensors that fit together: all rows are held in memory.",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            cause="sequences that each batch pads to the longest of its own, or items that are no tensors",
            fix="pad all rows to one length, and pass the lengths or a mask beside them",
        ) from error


def _tensor(leaf: Any) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf.detach()
    if isinstance(leaf, np.ndarray):
        return torch.as_tensor(masked_as_nan(leaf))
    raise InvalidArgumentError(
        "Inputs and targets must be tensors or NumPy arrays, or tuples or dicts of them.",
        got=type(leaf).__name__,
        cause="a list of numbers or a data frame",
        fix="torch.as_tensor(values), or frame.to_numpy()",
    )


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(cast(Mapping[str, Any], inputs))
    if isinstance(inputs, (tuple, list)):
        return tuple(cast(Sequence[Any], inputs)), {}
    return (inputs,), {}


def _unequal(name: str, leaves: Sequence[Tensor]) -> str:
    return explain(
        f"Every tensor of {name} must have the same number of rows on its first axis, at least one.",
        got=", ".join(describe(leaf) for leaf in leaves) or "no tensor",
        cause="targets of another split than the inputs, or an empty split",
        fix="check x.shape[0] == y.shape[0]; a tuple of inputs is ((x1, x2), y)",
    )


def _not_finite(what: str, row: int) -> str:
    return explain(
        f"{what} must be finite numbers.",
        got=f"NaN or infinity in row {row}",
        cause="missing values, or a feature that was divided by a standard deviation of 0",
        fix="impute or leave out these rows: keep = torch.isfinite(x).all(1)",
    )
