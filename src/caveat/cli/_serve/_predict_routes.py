"""`POST /predict`: rows as JSON in, for each what `caveat predict` writes out."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, HTTPException, Request, Response

from caveat._plain import parse_json
from caveat._tables import Spelling
from caveat.cli._serve._inputs import columns_of, describe_inputs, example_row, input_names
from caveat.cli._serve._service import Service, answer, find_model, reply

_OPTIONS = {"rows", "draws", "level", "budget_ms"}


def predict_routes(service: Service) -> APIRouter:
    """Returns the routes that take rows as JSON, documented by an example of the first model."""
    router = APIRouter(tags=["predict"])
    documented: Any = {"openapi_extra": {"requestBody": _body(service)}, "responses": {200: _OK, **ERROR_RESPONSES}}

    @router.post("/predict", summary="Predict with the only model", **documented)
    async def predict(request: Request) -> Response:
        return await _predict(service, request, None)

    async def predict_with(request: Request) -> Response:
        return await _predict(service, request, request.path_params["name"])

    named: Any = documented | {"openapi_extra": {"requestBody": _body(service), "parameters": [describe_name(service)]}}
    router.post("/models/{name}/predict", summary="Predict with one of several models", **named)(predict_with)

    @router.get("/models", summary="The models, their inputs and what they answer")
    async def models() -> Response:
        return reply({"models": [_describe(service, name) for name in service.models]})

    return router


async def _predict(service: Service, request: Request, name: str | None) -> Response:
    served = find_model(service, name)
    asked = parse_object(await request.body())
    unknown = sorted(set(asked) - _OPTIONS)
    if unknown:
        raise HTTPException(422, f"A request has rows, draws, level and budget_ms; got {unknown[0][:60]!r}.")
    rows: Any = asked.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in cast("list[Any]", rows)):
        raise HTTPException(422, 'rows must be a list of objects, at least one: {"rows": [{"column": value}]}.')
    given = cast("list[dict[str, Any]]", rows)
    if len(given) > service.settings.rows:
        raise HTTPException(413, f"A request has at most {service.settings.rows:,} rows; got {len(given):,}.")
    names = input_names(served)
    _check_keys(names, given)
    options = read_options(asked)
    found = await answer(service, request, served, columns_of(names, given), len(given), **options)
    return reply({"model": served.name, "version": served.version, "draws": found.draws, "rows": found.rows})


def describe_name(service: Service) -> dict[str, Any]:
    """Returns what the documentation says of a model's name in a path."""
    schema = {"type": "string", **({"enum": list(service.models)} if service.models else {})}
    return {"name": "name", "in": "path", "required": True, "schema": schema}


def parse_object(body: bytes) -> dict[str, Any]:
    """Returns the object that a body is in JSON.

    Raises:
        HTTPException: 400.
    """
    try:
        found = parse_json(body)
    except ValueError as error:
        raise HTTPException(400, f"The body must be JSON: {str(error)[:200]}.") from error
    if not isinstance(found, dict):
        raise HTTPException(400, "The body must be an object in JSON.")
    return cast("dict[str, Any]", found)


def read_options(given: dict[str, Any]) -> dict[str, Any]:
    """Returns ``draws``, ``level`` and ``budget_ms`` as far as they are given.

    Raises:
        HTTPException: 422 for what is no number.
    """
    options: dict[str, Any] = {}
    for name, kind in (("draws", int), ("level", (int, float)), ("budget_ms", (int, float))):
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool) or abs(value) > 1e9:
            raise HTTPException(422, f"{name} must be a{' whole' if kind is int else ''} number.")
        options[name] = value
    return options


def _check_keys(names: list[str], rows: list[dict[str, Any]]) -> None:
    """Refuses a row that leaves out a column but has a key which may be meant by it.

    Raises:
        HTTPException: 422.
    """
    odd = Spelling(names, together=False).find(rows)  # the answer to a row does not depend on those beside it
    if odd is not None:
        fix = "the column's name, or null where its value is not known"
        raise HTTPException(422, f"{odd.RULE}; got {odd.words} in row {odd.row + 1}. Fix: {fix}.")


def _describe(service: Service, name: str) -> dict[str, Any]:
    served = service.models[name]
    inputs = [{"name": column, "datatype": datatype} for column, datatype, _ in describe_inputs(served)]
    model = served.model
    about = {"name": name, "version": served.version, "kind": model.target.task, "targets": list(model.target.names)}
    return {**about, "inputs": inputs, "policy": model.policy}


def _body(service: Service) -> dict[str, Any]:
    examples = {name: {"value": {"rows": [example_row(one)]}} for name, one in service.models.items()}
    schema = {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {
            "rows": {"type": "array", "minItems": 1, "maxItems": service.settings.rows, "items": _row(service)},
            "draws": {"type": "integer", "minimum": 2, "maximum": service.settings.draws},
            "level": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.9},
            "budget_ms": {"type": "number", "exclusiveMinimum": 0},
        },
    }
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _row(service: Service) -> dict[str, Any]:
    """Returns the schema of a row; with several models only that it is an object. Of tables no column is required."""
    if len(service.models) != 1:
        return {"type": "object"}
    served = next(iter(service.models.values()))
    kinds = {"FP64": ["number", "null"], "BYTES": ["string", "number", "boolean", "null"]}
    if served.package != "tabular":
        kinds["BYTES"] = ["string"]
    columns = {name: {"type": kinds[datatype]} for name, datatype, _ in describe_inputs(served)}
    required = {} if served.package == "tabular" else {"required": list(columns)}
    return {"type": "object", **required, "properties": columns}


_ERROR = {"content": {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}}
_OK = {"description": "For each row what caveat predict writes."}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is no JSON.", **_ERROR},
    401: {"description": "No key, or a wrong one.", **_ERROR},
    404: {"description": "There is no such model.", **_ERROR},
    408: {"description": "The body took too long to arrive.", **_ERROR},
    413: {"description": "Too many bytes or rows.", **_ERROR},
    415: {"description": "A body that is compressed.", **_ERROR},
    422: {"description": "Rows that do not fit the model.", **_ERROR},
    429: {"description": "Too many requests.", **_ERROR},
    503: {"description": "Too many rows wait.", **_ERROR},
}
"""What a request may be answered with besides, for the documentation."""
