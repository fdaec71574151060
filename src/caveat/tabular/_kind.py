"""The kind "tables": what its folder holds of the reader, how that is read, and its lines of the card."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

from torch import Tensor, nn

from caveat._estimators import (
    OF_READER,
    CardLines,
    Classes,
    Kind,
    Model,
    Stored,
    plain_text,
    require,
    restore_networks,
    under,
)
from caveat._tables import FIRST, PLAIN, CategoryColumn, Column, DateColumn, Dress, Schema, TableReader, Trees
from caveat.tabular._network import Shape, TableNetwork
from caveat.tabular._settings import Settings, check_settings, complete, networks_of
from caveat.tabular._training import learn

_MOST_SHOWN = 8
_METHODS = {
    "ensemble": "an ensemble of networks, each with dropout on while drawing",
    "mc_dropout": "one network with dropout on while drawing",
    "concrete_dropout": "one network with learned rates of dropout",
    "sngp": "one network with a Gaussian process as its last layer",
}


@dataclass(frozen=True)
class _StoredReader:
    """What the manifest says of the columns, and of how text writes the targets."""

    schema: tuple[Column, ...]
    targets: tuple[Dress, ...]


def _state(model: Model) -> _StoredReader:
    return _StoredReader(model.reader.schema.columns, model.reader.targets)


def _restore(stored: Stored) -> tuple[TableReader, tuple[nn.Module, ...]]:
    about: _StoredReader = stored.reader
    schema = Schema(about.schema)
    _check_schema(schema)
    _check_shape(stored, schema)
    trees = _restore_trees(stored, schema)
    require(len(about.targets) in (0, stored.target.count), "targets must be one for each number")
    networks = restore_networks(partial(TableNetwork, stored.shape), stored)
    for network in networks:
        cast(TableNetwork, network).let_prior_vary()
    return TableReader(schema, about.targets, trees), networks


def _tensors(model: Model) -> dict[str, Tensor]:
    trees = model.reader.trees
    return {} if trees is None else trees.tensors()


def _restore_trees(stored: Stored, schema: Schema) -> Trees | None:
    shape, arrays = cast(Shape, stored.shape), under(stored.tensors, OF_READER)
    if not shape.scores and not arrays:
        return None
    scores = 1 if isinstance(stored.target, Classes) and stored.target.count == 2 else stored.target.count
    require(shape.scores == scores, "network.scores: not those of the target")
    return Trees.restore(arrays, len(schema.numbers) + len(schema.categories), scores)


def _check_schema(schema: Schema) -> None:
    require(len(schema.columns) > 0, "schema: there must be a column")
    require(len(set(schema.names)) == len(schema.names), "schema: a column is there twice")
    for column in schema.columns:
        if isinstance(column, DateColumn):
            require(len(column.parts) > 0, f"column {column.name!r} has no parts")
    for column in schema.numbers:
        place = f"column {column.name!r}"
        require(column.kind == "number", f"{place}: its kind must be number")
        require(column.scale > 0 and column.low <= column.high and column.missing >= 0, f"{place} is out of range")
        compared = (column.quantiles, column.shares)
        require(all(list(values) == sorted(values) for values in compared), f"{place}: quantiles must rise")
        require(len(column.quantiles) == len(column.shares), f"{place}: each quantile must have its fraction")
        require(all(0 <= share <= 1 for share in column.shares), f"{place}: fractions must be from 0 to 1")
    for column in schema.categories:
        place = f"column {column.name!r}"
        require(len(set(column.categories)) == len(column.categories), f"{place}: a category is there twice")
        require(len(column.counts) == len(column.categories), f"{place}: each category must have its count")
        require(min(column.counts, default=0) >= 0 and column.missing >= 0, f"{place}: a count is negative")


def _check_shape(stored: Stored, schema: Schema) -> None:
    shape = cast(Shape, stored.shape)
    require(shape.method == stored.settings.method, "network.method is not that of the settings")
    require(0 <= shape.depth <= len(stored.tensors) and shape.embedding >= 1, "network: odd sizes")
    require(len(shape.pieces) == len(schema.numbers) and min(shape.pieces, default=0) >= 0, "network.pieces: wrong")
    sizes = [FIRST + len(column.categories) for column in schema.categories]
    require(list(shape.categories) == sizes, "network.categories are not those of the schema")


def _describe(model: Model) -> CardLines:
    method, count, draws = model.settings.method, len(model.networks), model.settings.draws
    trees = 0 if model.reader.trees is None else len(model.reader.trees.root)
    boosted = (f"The networks also get what {trees:,} boosted trees say of a row.",) if trees else ()
    if trees and not model.target.classifies:
        parts = ", ".join(f"{share:.0%}" for share in cast("list[float]", model.networks[0].share.tolist()))
        boosted = (f"The mean is by {parts} that of {trees:,} boosted trees, and else that of the networks.",)
    return CardLines(
        method=(f"Method: {_METHODS[method]} ({count} trained, {draws} draws).", *boosted),
        inputs=(
            "## Columns it expects",
            "",
            "| column | holds | in training |",
            "| --- | --- | --- |",
            *(_row(column) for column in model.reader.schema.columns),
            "",
        ),
        limits=(
            "Where a category was never seen, a value is missing that never was, or a number is outside the range",
            "above, epistemic uncertainty rises; the mean stays that of the nearest known value. Odd combinations of",
            "common values are noticed only as far as the networks disagree.",
        ),
    )


def _row(column: Column) -> str:
    name = plain_text(column.name)
    if isinstance(column, DateColumn):
        first, last = column.parts[0].low, column.parts[0].high
        order = {"dmy": ", the day first", "mdy": ", the month first"}.get(column.order, "")
        return f"| {name} | dates{order} | days {first:.0f} to {last:.0f} since 1970 |"
    if isinstance(column, CategoryColumn):
        shown = plain_text(", ".join(column.categories[:_MOST_SHOWN]))
        more = len(column.categories) - _MOST_SHOWN
        rest = f" and {more:,} more" if more > 0 else ""
        return f"| {name} | categories | {shown}{rest}; {column.missing:,} missing |"
    dress = "" if column.dress == PLAIN else plain_text(f" ({column.dress})")
    return f"| {name} | numbers{dress} | {column.low:.6g} to {column.high:.6g}; {column.missing:,} missing |"


KIND = Kind(
    package="tabular",
    format=("caveat-table", 3),
    row="row",
    rows="rows",
    settings=Settings,
    shape=Shape,
    check=check_settings,
    networks=networks_of,
    complete=complete,
    learn=learn,
    stored=_StoredReader,
    state=_state,
    restore=_restore,
    describe=_describe,
    sampler=TableNetwork.sampler,
    tensors=_tensors,
    other_means=TableNetwork.other_means,
    folds=True,
)
