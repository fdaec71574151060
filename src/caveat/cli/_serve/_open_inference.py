"""The Open Inference Protocol, version 2, over HTTP: health, metadata and inference, for clients that exist."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from caveat._estimators import MOST_CLASSES, Classes
from caveat.cli._serve._inputs import describe_inputs, example_row
from caveat.cli._serve._predict_routes import ERROR_RESPONSES, describe_name, read_options
from caveat.cli._serve._served import Served
from caveat.cli._serve._service import Service, answer, find_model, reply
from caveat.cli._serve._tensors import InvalidTensorError, decode_column, read_request, write_response

_TEXTS = {"label", "interval", "calibrated", "decision", "problem"}
_LENGTH = "Inference-Header-Content-Length"


def inference_routes(service: Service, is_ready: Callable[[], bool]) -> APIRouter:
    """Returns the routes of the protocol."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("/health/live", summary="Whether the process runs")
    async def live() -> Response:
        return reply({"live": True})

    @router.get("/health/ready", summary="Whether all models are loaded", responses={503: {"description": "Not yet"}})
    async def ready() -> Response:
        return reply({"ready": is_ready()}, 200 if is_ready() else 503)

    @router.get("", summary="What the server is")
    async def server() -> Response:
        return reply({"name": "caveat", "version": version("caveat"), "extensions": ["binary_tensor_data"]})

    async def metadata(request: Request) -> Response:
        return reply(_describe(_find(service, request)))

    async def model_ready(request: Request) -> Response:
        return reply({"name": _find(service, request).name, "ready": True})

    async def infer(request: Request) -> Response:
        return await _infer(service, _find(service, request), request)

    responses: Any = {200: {"description": "Output tensors."}, **ERROR_RESPONSES}
    of_version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    for path, more in (("/models/{name}", []), ("/models/{name}/versions/{version}", [of_version])):
        extra: Any = {"parameters": [describe_name(service), *more]}
        known: Any = {"responses": {404: ERROR_RESPONSES[404]}, "openapi_extra": extra}
        router.get(path, summary="What a model takes and gives", **known)(metadata)
        router.get(f"{path}/ready", summary="Whether a model is loaded", **known)(model_ready)
        body: Any = {"requestBody": _body(service), **extra}
        router.post(f"{path}/infer", summary="Predict", openapi_extra=body, responses=responses)(infer)
    return router


def _find(service: Service, request: Request) -> Served:
    served = find_model(service, request.path_params["name"])
    asked = request.path_params.get("version", served.version)
    if asked != served.version:
        raise HTTPException(404, f"There is no version {asked[:60]!r} of {served.name!r}, only {served.version!r}.")
    return served


async def _infer(service: Service, served: Served, request: Request) -> Response:
    try:
        asked = read_request(await request.body(), request.headers.get(_LENGTH))
        picture = served.package == "image"
        columns = {name: decode_column(values, picture=picture) for name, values in asked.tensors.items()}
        counts = {name: len(values) for name, values in columns.items()}
        if not counts or len(set(counts.values())) != 1 or 0 in counts.values():
            raise InvalidTensorError("all inputs must have the same number of rows, at least one")
        count = next(iter(counts.values()))
        options = read_options(asked.parameters)
        found = await answer(service, request, served, columns, count, **options)
        names = [name for name in found.rows[0] if name != "row"]
        outputs = {name: (_datatype(name), [row[name] for row in found.rows]) for name in names}
        about = {"model_name": served.name, "model_version": served.version, "parameters": {"draws": found.draws}}
        body, length = write_response(about, outputs, asked)
    except InvalidTensorError as error:
        raise HTTPException(400, f"{error}.") from error
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={_LENGTH: str(length)}, media_type="application/octet-stream")


def _describe(served: Served) -> dict[str, Any]:
    inputs = [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype, _ in describe_inputs(served)]
    outputs = [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in _outputs(served)]
    about = {"name": served.name, "versions": [served.version], "platform": "caveat"}
    return {**about, "inputs": inputs, "outputs": outputs}


def _outputs(served: Served) -> list[tuple[str, str]]:
    """Returns the names and datatypes of what is given without a budget."""
    target = served.model.target
    uncertain = [] if served.model.policy is None else ["uncertainty"]
    bare = [] if served.model.calibration.rows else ["calibrated"]
    if isinstance(target, Classes):
        classes = [f"probability {label}" for label in target.labels] if target.count <= MOST_CLASSES else []
        names = ["label", "probability", "std", "interval", "epistemic", "aleatoric", *classes]
    else:
        before = [""] if target.count == 1 else [f"{name} " for name in target.names]
        columns = ("mean", "std", "low", "high", "epistemic", "aleatoric")
        names = [f"{name}{column}" for name in before for column in columns]
    names += [*uncertain, *bare, "decision", *(["problem"] if served.package == "image" else [])]
    return [(name, _datatype(name)) for name in names]


def _datatype(output: str) -> str:
    return "BYTES" if output in _TEXTS else "FP64"


def _body(service: Service) -> dict[str, Any]:
    examples: dict[str, Any] = {}
    for name, served in service.models.items():
        row = example_row(served)
        kinds = {column: datatype for column, datatype, _ in describe_inputs(served)}
        tensors = [
            {"name": column, "shape": [1], "datatype": kinds[column], "data": [value]} for column, value in row.items()
        ]
        if tensors:
            examples[name] = {"value": {"inputs": tensors}}
    tensor: Any = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            "datatype": {"type": "string"},
            "data": {"type": "array", "items": {}},
            "parameters": {"type": "object"},
        },
    }
    output: Any = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    properties: Any = {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "minItems": 1, "items": tensor},
        "outputs": {"type": "array", "items": output},
    }
    schema: Any = {"type": "object", "required": ["inputs"], "properties": properties}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
