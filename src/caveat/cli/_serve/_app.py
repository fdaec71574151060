"""The application: its models, its routes and what stands before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from caveat.cli._serve._batches import Batches
from caveat.cli._serve._guard import Guard, write_log
from caveat.cli._serve._models import open_models, warm_up, watch_folders
from caveat.cli._serve._open_inference import inference_routes
from caveat.cli._serve._predict_routes import predict_routes
from caveat.cli._serve._served import Served, Settings
from caveat.cli._serve._service import Service, reply
from caveat.cli._serve._watching import Watch


def build_app(folders: Sequence[Path], settings: Settings) -> FastAPI:
    """Returns the service as an ASGI application; its ``state`` has ``service``, ``ready`` and ``draining``.

    Args:
        folders: Folders of models, served by their names.
        settings: The limits.

    Raises:
        InvalidModelError: A folder is no model.
    """
    models, watch = open_models(folders), Watch()
    executor = ThreadPoolExecutor(1, thread_name_prefix="caveat-networks")
    service = Service(settings, models, Batches(settings, executor, watch.see_batch), watch)

    def note(result: str, served: Served, why: str) -> None:
        watch.loads.labels(served.name, result).inc()
        write_log(f"model {result}", model=served.name, version=served.version, **({"why": why} if why else {}))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        tasks = [asyncio.create_task(service.batches.run())]
        try:
            for served in models.values():
                await warm_up(service.batches, served)
                note("loaded", served, "")
            tasks.append(asyncio.create_task(watch_folders(models, service.batches, settings.reload, note)))
            app.state.ready = True
            yield
        finally:
            app.state.ready = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            executor.shutdown()

    given: Any = {"docs_url": None, "redoc_url": None}  # pages that load scripts from elsewhere
    app = FastAPI(title="caveat", version=version("caveat"), description=_ABOUT, lifespan=lifespan, **given)
    app.state.service, app.state.ready, app.state.draining = service, False, False
    app.add_middleware(Guard, settings=settings, watch=watch, draining=lambda: bool(app.state.draining))

    def routes() -> APIRouter:
        router = APIRouter()
        router.include_router(predict_routes(service))
        router.include_router(inference_routes(service, lambda: bool(app.state.ready)))

        @router.get("/metrics", tags=["watch"], summary="Numbers for Prometheus", response_class=PlainTextResponse)
        async def metrics() -> Response:
            watch.waiting.set(service.batches.waiting)
            return Response(generate_latest(watch.registry), media_type=CONTENT_TYPE_LATEST)

        return router

    def describe() -> dict[str, Any]:  # of the models as they are now, not as they were at the start
        return get_openapi(title=app.title, version=app.version, description=app.description, routes=routes().routes)

    app.include_router(routes())
    app.openapi = describe

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers) if error.headers else None
        return reply({"error": error.detail}, error.status_code, headers)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        write_log("error", type=type(error).__name__, text=str(error)[:500])
        return reply({"error": "The service failed; its log says why."}, 500)

    return app


_ABOUT = "Predictions of model folders, each with its uncertainty and what to do: answer, or refer to a person."
