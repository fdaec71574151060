"""Prediction of the rows of a Ray dataset: a pool of actors, each with the model loaded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from caveat._checks import require_integer
from caveat._engine import Sampler, check_draws, check_sampler_passed
from caveat._engine import predict as predict_draws
from caveat._estimators import Model, highest_level, load_model, predict_from, prediction_rows
from caveat._extras import require
from caveat._kinds import find_kind
from caveat._seeds import check_seed
from caveat._tables import Chunk, as_columns, count_rows
from caveat.errors import InvalidArgumentError, InvalidDataError
from caveat.interop.ray._session import connect, map_by_actors, workers_of
from caveat.measures import decompose
from caveat.predictive import Heads, Predictive

Inputs = Callable[[dict[str, Any]], Any]
"""``inputs(batch)``: from arrays (B, ...) by name to what the network gets."""


def predict(
    dataset: Any,
    model: Sampler | str | Path,
    *,
    inputs: Inputs | None = None,
    draws: int | None = None,
    seed: int = 0,
    level: float = 0.9,
    keep: Sequence[str] = (),
    workers: int | None = None,
    batch_size: int = 8192,
) -> Any:
    """Predicts every row of a Ray dataset by a pool of actors, each of which loads the model once.

    Draw i depends on (seed, i) alone, so all actors draw the same functions, and how the rows are split into blocks
    changes nothing. An actor that dies is started again by Ray Data, and its rows are done again: each row comes out
    once. Rows come in the order in which they are done; ``keep`` a column that tells them apart.

    Args:
        dataset: A ``ray.data.Dataset``.
        model: The folder of a model for tables that every machine can read, or a sampler.
        inputs: With a sampler: a function from a batch, a dict of arrays (B, ...) by column, to the network's inputs.
        draws: Number of draws; the model's own, or the sampler's default, if None.
        seed: Random seed of a sampler's draws; a folder has its own.
        level: Level of a folder's intervals or sets of classes.
        keep: Columns to pass through, such as an identifier.
        workers: Most actors; one per core of the cluster if None. One block of the dataset keeps one busy.
        batch_size: Rows that an actor predicts at a time.

    Returns:
        A lazy ``ray.data.Dataset`` of as many rows. Of a folder it has the columns that ``caveat predict`` writes but
        for ``row``, the place in a file; of a sampler ``mean`` (C or D) and ``total``, ``aleatoric`` and ``epistemic``
        as ``caveat.decompose`` gives them: nats, or variances (D); of several heads each begins with the head's name.

    Raises:
        MissingExtraError: Ray is not installed.
        InvalidModelError: The folder is no model of a table.
        InvalidArgumentError: Neither folder nor sampler, a sampler without ``inputs``, or a number out of range.
    """
    check_seed(seed)
    require_integer(batch_size, "batch_size", 1, fix="batch_size=8192")
    if isinstance(model, (str, Path)):
        if inputs is not None:
            raise InvalidArgumentError("inputs is for a sampler: a model folder reads the columns itself.")
        _check_asked(load_model(find_kind("tabular"), Path(model)), draws, level)
        folder = str(Path(model).resolve())
        make: type = FolderPredictor
        settings = {"folder": folder, "draws": draws, "level": level, "keep": list(keep)}
        format = "pyarrow"
    else:
        check_sampler_passed(model, dataset)
        if inputs is None:
            raise InvalidArgumentError(
                "With a sampler, inputs must say which part of a batch goes into the network.",
                got=f"a {type(model).__name__} and no inputs",
                fix='inputs=lambda batch: torch.from_numpy(batch["x"])',
            )
        n = check_draws(draws, model)
        make, format = SamplerPredictor, "numpy"
        settings = {"sampler": model, "inputs": inputs, "n": n, "seed": seed, "keep": list(keep)}
    pool = (1, workers_of(connect(), workers))  # a dataset may have fewer blocks than there are workers
    return map_by_actors(dataset, make, settings, pool, batch_size=batch_size, batch_format=format)


class FolderPredictor:
    """An actor with the model of a folder: from an Arrow table to one of predictions."""

    def __init__(self, folder: str, draws: int | None, level: float, keep: list[str]) -> None:
        self.model = load_model(find_kind("tabular"), Path(folder))
        self.draws, self.level, self.keep = draws, level, keep

    def __call__(self, batch: Any) -> Any:
        """Returns the predictions of the rows of a batch."""
        arrow: Any = require("pyarrow", "ray")
        columns = as_columns(batch)
        chunk = Chunk(columns, np.arange(1, count_rows(columns) + 1), "a batch of the dataset", 1.0)
        _check_keep(self.keep, columns)
        pred = predict_from(self.model, self.model.reader.read(chunk), self.draws)
        rows = prediction_rows(self.model, pred, 1, self.level, {name: columns[name] for name in self.keep})
        return arrow.Table.from_pylist(rows).drop_columns(["row"])


class SamplerPredictor:
    """An actor with a sampler: from arrays by name to those of the predictive."""

    def __init__(self, sampler: Sampler, inputs: Inputs, n: int, seed: int, keep: list[str]) -> None:
        self.sampler, self.inputs, self.n, self.seed, self.keep = sampler, inputs, n, seed, keep

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns the mean and the parts of the uncertainty of the rows of a batch."""
        _check_keep(self.keep, batch)
        pred = predict_draws(self.sampler, self.inputs(batch), self.n, seed=self.seed)
        return {name: batch[name] for name in self.keep} | _arrays_of(pred)


def _arrays_of(pred: Predictive, prefix: str = "") -> dict[str, Any]:
    """Returns the mean and the parts of the uncertainty by name; of several heads by "head name"."""
    if isinstance(pred, Heads):
        heads = [_arrays_of(head, f"{prefix}{name} ") for name, head in pred.items()]
        return {name: array for head in heads for name, array in head.items()}
    found: dict[str, Tensor] = {"mean": pred.mean, **decompose(pred)}
    return {f"{prefix}{name}": tensor.cpu().numpy() for name, tensor in found.items()}


def _check_asked(model: Model, draws: int | None, level: float) -> None:
    require_integer(draws, "draws", 2, optional=True)
    highest = 1.0 if model.target.classifies else highest_level(model.calibration.rows)
    if not (0 < level < 1 and level <= highest):
        raise InvalidArgumentError(
            "level must lie between 0 and 1, and be one that the model's held-out rows can support.",
            got=f"level={level!r}; {model.calibration.rows} rows support levels up to {highest:.4g}",
            fix="level=0.9",
        )


def _check_keep(keep: Sequence[str], columns: Mapping[str, Any]) -> None:
    missing = [name for name in keep if name not in columns]
    if missing:
        raise InvalidDataError(
            "keep must name columns of the dataset.",
            got=f"no column {missing[0]!r} among {', '.join(map(repr, list(columns)[:10]))}",
            cause="a typo",
            fix="dataset.schema() lists them",
        )
