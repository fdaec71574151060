"""The page's application: its files, its websockets, and what it asks of models.

It is not the application of `caveat serve`: it lists folders and writes policies, which no client of a service may.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from caveat._plain import encode_json, parse_json
from caveat.cli._playground._guard import guard, read_said
from caveat.cli._playground._live import Workers, digits, regression
from caveat.cli._playground._own_model import (
    Choice,
    Places,
    Saving,
    describe,
    find_places,
    fingerprint_of,
    open_model,
    save_policy,
)
from caveat.cli._tabular_tested import Tested
from caveat.errors import CaveatError, InvalidArgumentError

PAGE = files("caveat.cli._playground") / "page"
TITLES = {"regression": "Regression", "image": "Image", "model": "Your model"}
"""The three pages, by the last part of their address."""
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOST_BYTES = 1 << 16
_RULE = "A request must be one that the page makes."


def make_app(root: Path, model: Path | None = None, data: Path | None = None) -> ASGIApp:
    """Returns the application, which answers only its own page.

    Args:
        root: The folder below which models and tables are found.
        model: A model folder to list first, wherever it is.
        data: A table to list first.
    """
    workers = Workers()
    opened: dict[Any, Tested] = {}  # the last one, so that a slider does not predict again

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        workers.warm()
        yield
        workers.close()

    def places() -> Places:
        return find_places(root, model, data)

    async def list_places(request: Request) -> Response:
        found = await workers.run(places, slow=True)
        listed = {"models": [*found.models], "tables": [*found.tables]}
        return _reply({**listed, "folder": str(root), "named": model is not None and data is not None})

    def open_choice(said: Any) -> dict[str, Any]:
        choice, found = read_said(Choice, said, "the request", _RULE), places()
        key = (choice.model, choice.data, fingerprint_of(found, choice))
        tested = opened.get(key)
        if tested is None:
            tested = open_model(found, choice, _ignore)
            opened.clear()
            opened[key] = tested
        return describe(tested, choice)  # another thread may have put its own in place of this one

    def save_choice(said: Any) -> dict[str, Any]:
        return save_policy(places(), read_said(Saving, said, "the request", _RULE), _ignore)

    async def act(request: Request, on: Any) -> Response:
        return _reply(await workers.run(on, await _read_body(request), slow=True))

    async def live(socket: WebSocket, run: Any) -> None:
        await run(socket, workers)

    routes = [
        Route("/", _root),
        *(Route(f"/{name}", partial(_page, name=name)) for name in TITLES),
        Route("/page/{name}", _file),
        WebSocketRoute("/live/regression", partial(live, run=regression)),
        WebSocketRoute("/live/image", partial(live, run=digits)),
        Route("/api/places", list_places),
        Route("/api/open", partial(act, on=open_choice), methods=["POST"]),
        Route("/api/save", partial(act, on=save_choice), methods=["POST"]),
    ]
    handlers: Any = {CaveatError: _refuse, OSError: _refuse, Exception: _fail}
    return guard(Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers))


async def _root(request: Request) -> Response:
    return RedirectResponse(f"/{next(iter(TITLES))}")


async def _page(request: Request, name: str) -> Response:
    """Returns one of the three pages: the frame that they share, around its own part."""
    tabs = "".join(
        f'<a href="/{key}"{" aria-current=page" if key == name else ""}>{title}</a>' for key, title in TITLES.items()
    )
    frame, part = (PAGE / f"{each}.html" for each in ("frame", name))
    html = frame.read_text("utf-8")
    for key, value in {"title": TITLES[name], "name": name, "tabs": tabs, "main": part.read_text("utf-8")}.items():
        html = html.replace(f"<!-- {key} -->", value)
    return HTMLResponse(html)


async def _file(request: Request) -> Response:
    name = str(request.path_params["name"])
    kind = _TYPES.get(Path(name).suffix)
    if kind is None or name not in {one.name for one in PAGE.iterdir()}:
        return _reply({"error": f"The page has no file {name[:80]!r}."}, 404)
    return Response((PAGE / name).read_bytes(), media_type=kind)


async def _read_body(request: Request) -> Any:
    """Returns the JSON of a request.

    Raises:
        InvalidArgumentError: It is too long, or no JSON.
    """
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST_BYTES:
            raise InvalidArgumentError(f"A request may have {_MOST_BYTES:,} bytes.")
    try:
        return parse_json(content)
    except ValueError as error:
        raise InvalidArgumentError(f"A request must be JSON: {error}.") from error


async def _refuse(request: Request, error: Exception) -> Response:
    """Returns in words why what was asked cannot be done."""
    words = str(error)
    if isinstance(error, OSError) and not isinstance(error, CaveatError):
        words = f"{error.strerror or error}: {error.filename or 'a file'}"
    return _reply({"error": words}, 400)


async def _fail(request: Request, error: Exception) -> Response:
    return _reply({"error": f"Something nobody foresaw went wrong: {type(error).__name__}: {error}"}, 500)


def _reply(value: Any, status: int = 200) -> Response:
    return Response(encode_json(value), status, media_type="application/json")


def _ignore(fraction: float) -> None:
    """Takes note of nothing: the page shows no bar for so short a work."""
