"""The model page's computing: models and tables below a folder, the least sure rows, what a threshold does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from caveat._estimators import (
    FILES,
    choose_by_truth,
    fingerprint,
    load_model,
    losses_of,
    uncertainty_of,
    unit_of,
)
from caveat._goal import Goal
from caveat._kinds import package_of
from caveat.cli._decide_command import decide_file
from caveat.cli._tabular_rows import answer_text, truth_text, why
from caveat.cli._tabular_tested import TABLES, Tested, ask
from caveat.errors import InvalidArgumentError

MOST_ROWS = 20_000
STEPS = 200
"""Parts into which the fraction deferred is divided: the slider moves by one."""
_LEAST_SURE, _MOST_CELLS = 25, 10
_DEPTH, _MOST_PLACES = 3, 200
_TABLES = (".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz", ".parquet", ".feather")


@dataclass(frozen=True)
class Choice:
    """What is to be opened: names of a model and of a table, as they were listed.

    Fields:
        measure: Name of the measure that rows are ranked by; the model's usual one if None.
        tolerance: Of numbers, the error from which an answer is wrong; without it errors are squared ones.
    """

    model: str
    data: str
    measure: str | None
    tolerance: float | None


@dataclass(frozen=True, eq=False)
class Places:
    """Models and tables by the names under which the page may ask for them; nothing else is opened."""

    models: dict[str, Path]
    tables: dict[str, Path]


def find_places(root: Path, model: Path | None = None, data: Path | None = None) -> Places:
    """Returns the models of tables, and tables, in a folder and the folders below it; first those that are named.

    Folders with a leading dot, links and what lies more than three folders deep are passed over.
    """
    models: dict[str, Path] = {} if model is None else {str(model): model}
    tables: dict[str, Path] = {} if data is None else {str(data): data}
    for here, folders, files in os.walk(root):
        place = Path(here)
        depth = len(place.relative_to(root).parts)
        is_model = FILES[1] in files
        of_tables = is_model and package_of(place) in (TABLES.package, None)  # of None loading says why
        if of_tables and depth and len(models) < _MOST_PLACES:
            models.setdefault(place.relative_to(root).as_posix(), place)
        folders[:] = sorted(name for name in folders if name[0] != "." and not is_model and depth < _DEPTH)
        for name in () if is_model else sorted(files):
            path = place / name
            if name[0] != "." and name.endswith(_TABLES) and not path.is_symlink() and len(tables) < _MOST_PLACES:
                tables.setdefault(path.relative_to(root).as_posix(), path)
    return Places(models, tables)


@dataclass(frozen=True)
class Saving:
    """What is to be saved: the choice, and the fraction of the rows that is deferred."""

    choice: Choice
    deferred: float


def open_model(places: Places, choice: Choice, advance: Callable[[float], None]) -> Tested:
    """Returns the labeled rows of the table and what the model predicts for them.

    Raises:
        CaveatError: A name that was not listed, no model, no table, or rows that do not fit it.
    """
    model, table = _find_chosen(places, choice)
    return ask(load_model(TABLES, model), table, MOST_ROWS, None, advance)


def fingerprint_of(places: Places, choice: Choice) -> tuple[str, int, int]:
    """Returns what tells whether the model or the table is another than when it was opened."""
    model, table = _find_chosen(places, choice)
    about = table.stat()
    return fingerprint(model), about.st_mtime_ns, about.st_size


def describe(tested: Tested, choice: Choice) -> dict[str, Any]:
    """Returns the least sure rows and why, and what every threshold would do, as plain numbers.

    Each entry of "curve" is what `caveat decide --budget` would choose for that fraction deferred.

    Raises:
        InvalidArgumentError: A measure or tolerance that is none.
    """
    model = tested.model
    measure = choice.measure or model.target.usual_measure
    judged = model.target.classifies or choice.tolerance is not None
    losses = losses_of(model, tested.pred, tested.truth, choice.tolerance)
    by = uncertainty_of(model, tested.pred, measure).cpu()
    curve: list[dict[str, Any]] = []
    for step in range(STEPS):
        goal = Goal(budget=step / STEPS, tolerance=choice.tolerance, measure=measure)
        policy = choose_by_truth(model, tested.pred, tested.truth, goal)[0].policy or {}
        answered = by <= policy["threshold"]
        loss = float(losses[answered].mean()) if bool(answered.any()) else None
        chosen = {"threshold": policy["threshold"], "coverage": policy["coverage"]}
        curve.append({"deferred": step / STEPS, **chosen, "loss": loss})
    little_known = measure == model.target.epistemic_measure
    return {
        "model": choice.model,
        "data": choice.data,
        "rows": len(tested.truth),
        "rows_in_file": tested.sample.total,
        "target": ", ".join(model.target.names),
        "classifies": model.target.classifies,
        "judged": judged,
        "measure": measure,
        "measures": [model.target.usual_measure, model.target.epistemic_measure],
        "unit": unit_of(model, measure),
        "parts_unit": "nats" if model.target.classifies else "standard deviations",
        "loss_all": float(losses.mean()),
        "curve": curve,
        "policy": model.policy,
        **_least_sure(tested, by, losses > 0 if judged else None, little_known=little_known),
    }


def save_policy(places: Places, saving: Saving, advance: Callable[[float], None]) -> dict[str, Any]:
    """Writes the threshold into the model, as `caveat decide --budget` does, and returns the policy.

    Raises:
        CaveatError: A name that was not listed, or a model or table that has become another.
    """
    choice = saving.choice
    model, table = _find_chosen(places, choice)
    goal = Goal(budget=saving.deferred, tolerance=choice.tolerance, measure=choice.measure)
    return decide_file(model, table, goal, most_rows=MOST_ROWS, advance=advance)


def _least_sure(tested: Tested, by: Tensor, wrong: Tensor | None, *, little_known: bool) -> dict[str, Any]:
    chosen = cast("list[int]", by.argsort(descending=True, stable=True)[:_LEAST_SURE].tolist())
    parts = tested.parts()
    names = tested.model.reader.schema.names[:_MOST_CELLS]
    rows: list[dict[str, Any]] = []
    for row in chosen:
        rows.append(
            {
                "line": int(tested.sample.lines[row]),
                "truth": truth_text(tested, row),
                "answer": answer_text(tested, row),
                "wrong": None if wrong is None else bool(wrong[row]),
                "uncertainty": float(by[row]),
                "epistemic": float(parts["epistemic"][row]),
                "aleatoric": float(parts["aleatoric"][row]),
                "why": why(tested, row, little_known=little_known),
                "cells": [str(tested.sample.columns[name][row]) for name in names],
            }
        )
    return {"columns": names, "least_sure": rows}


def _find_chosen(places: Places, choice: Choice) -> tuple[Path, Path]:
    return _find_listed(places.models, choice.model, "model"), _find_listed(places.tables, choice.data, "table")


def _find_listed(places: dict[str, Path], name: str, what: str) -> Path:
    if name in places:
        return places[name]
    raise InvalidArgumentError(
        f"The {what} must be one that the page lists.",
        got=repr(name[:200]),
        cause="it was moved, or lies outside the folder in which the command was started",
        fix=f"load the page again, or name the {what} on the command line: caveat playground MODEL DATA",
    )
