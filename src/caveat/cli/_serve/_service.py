"""One request answered: checked, put into the queue, computed, noted; and what answers are written in."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request, Response

from caveat._plain import encode_json
from caveat.cli._predict_command import check_request
from caveat.cli._serve._batches import Batches
from caveat.cli._serve._computing import Answer
from caveat.cli._serve._inputs import inputs_of
from caveat.cli._serve._models import Models
from caveat.cli._serve._served import Served, Settings
from caveat.cli._serve._watching import Watch
from caveat.errors import BusyError, CaveatError

_FEW_ROWS = 64
LOG = "caveat.log"
"""Where a request's scope holds what its line of the log says besides."""


@dataclass(frozen=True, eq=False)
class Service:
    """What routes stand on."""

    settings: Settings
    models: Models
    batches: Batches
    watch: Watch


def find_model(service: Service, name: str | None) -> Served:
    """Returns the model of a name; the only one if no name is given.

    Raises:
        HTTPException: 404.
    """
    models = service.models
    if name is None and len(models) == 1:
        return next(iter(models.values()))
    if name is None or name not in models:
        known = ", ".join(models) or "none"
        rule = "Of several models one must be named" if name is None else f"There is no model {name[:60]!r}"
        raise HTTPException(404, f"{rule}; there are: {known}. POST to /models/NAME/predict.")
    return models[name]


async def answer(
    service: Service,
    request: Request,
    served: Served,
    columns: dict[str, Any],
    count: int,
    *,
    draws: int | None = None,
    level: float = 0.9,
    budget_ms: float | None = None,
) -> Answer:
    """Returns what the model says of ``count`` rows that are given as columns.

    Raises:
        HTTPException: 422 for what does not fit, 413 for too many rows, 503 where too many wait.
    """
    settings, started = service.settings, time.monotonic()
    if count > settings.rows:
        raise HTTPException(413, f"A request has at most {settings.rows:,} rows; got {count:,}.")
    _check_budget(service, served, count, budget_ms)
    try:
        check_request(served.model, draws, level)
        n = served.model.settings.draws if draws is None else draws
        if n > max(settings.draws, served.model.settings.draws):
            raise HTTPException(422, f"draws must be at most {settings.draws:,}; got {n}.")
        few = count <= _FEW_ROWS and served.package == "tabular"
        inputs = inputs_of(served, columns) if few else await asyncio.to_thread(inputs_of, served, columns)
        until = None if budget_ms is None else started + budget_ms / 1000
        found = await service.batches.ask(served, inputs, count, draws=n, level=level, until=until)
    except BusyError as error:
        raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
    except CaveatError as error:
        raise HTTPException(422, _in_a_line(error)) from error
    service.watch.see_answer(served, found)
    _note(service, request, served, columns, found)
    return found


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns a response in JSON."""
    return Response(encode_json(value), status, headers, "application/json")


def _check_budget(service: Service, served: Served, count: int, budget_ms: float | None) -> None:
    if budget_ms is None:
        return
    if served.package == "image":
        raise HTTPException(422, "budget_ms has no meaning for pictures.")
    if not 0 < budget_ms <= 3_600_000:
        raise HTTPException(422, f"budget_ms must be above 0 and at most an hour; got {budget_ms:g}.")
    if count > service.settings.batch_rows:
        most = service.settings.batch_rows
        raise HTTPException(422, f"With budget_ms a request has at most {most} rows, which are computed at once.")


def _note(service: Service, request: Request, served: Served, columns: dict[str, Any], found: Answer) -> None:
    """Puts into the request's line of the log what was answered; no contents, unless the settings say so."""
    referred = sum(row["decision"] != "answer" for row in found.rows)
    entry = request.scope.setdefault(LOG, {})
    entry |= {"model": served.name, "version": served.version, "rows": len(found.rows), "draws": found.draws}
    entry |= {"referred": referred, "batch_rows": found.batch}
    known = [value for value in found.uncertainty if value is not None]
    if known:
        entry["mean_uncertainty"] = sum(known) / len(known)
    if service.settings.log_rows:
        entry["input"] = {name: [str(value)[:200] for value in values] for name, values in columns.items()}
        entry["answers"] = found.rows


def _in_a_line(error: CaveatError) -> str:
    """Returns an error's text in a line, with the names that requests have for what options are called."""
    text = " ".join(line.strip() for line in str(error).splitlines())
    return text.replace("--level", "level").replace("--draws", "draws")
