"""What may drive the page's server: only a browser that shows this very page, and only what the page can say."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from caveat._plain import from_plain
from caveat.errors import InvalidArgumentError

OWN_NAMES = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def refusal(host: str | None, origin: str | None) -> str | None:
    """Returns why a request is refused, or None if it may go on.

    A page of another site has another Origin; a name of another site that leads here has another Host.

    Args:
        host: The request's Host.
        origin: Its Origin; a browser sends one with every websocket and every POST.

    Example:
        >>> refusal("127.0.0.1:8000", "http://127.0.0.1:8000"), refusal("localhost:8000", None)
        (None, None)
        >>> refusal("evil.example", None)
        "the page is asked for as 'evil.example', and is only on 127.0.0.1 or localhost"
        >>> refusal("127.0.0.1:8000", "http://127.0.0.1:9000")
        "the request comes from a page of 'http://127.0.0.1:9000'"
    """
    try:
        named = urlsplit(f"//{host or ''}").hostname
    except ValueError:
        named = None
    if named not in OWN_NAMES:
        return f"the page is asked for as {host!r}, and is only on 127.0.0.1 or localhost"
    if origin is not None and origin != f"http://{host}":
        return f"the request comes from a page of {origin!r}"
    return None


def guard(app: ASGIApp) -> ASGIApp:
    """Returns the application behind the check, with headers that let it be shown in no other page."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}
        why = refusal(headers.get("host"), headers.get("origin"))
        if why is not None:
            refused = PlainTextResponse(f"Refused: {why}.\n", 403)
            closed = WebSocketClose(1008, why[:120])  # before it is accepted: the browser is told 403
            await (closed if scope["type"] == "websocket" else refused)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await app(scope, receive, send_with_headers)

    return guarded


def read_said(kind: Any, said: Any, where: str, rule: str, fix: str = "load the page again") -> Any:
    """Returns what a message or request says, as ``from_plain`` checks it.

    Args:
        kind: As in ``from_plain``.
        said: What JSON gave.
        where: Its name, for messages.
        rule: What it must be.
        fix: What helps.

    Raises:
        InvalidArgumentError: A part is missing, unknown or of another type.
    """
    try:
        return from_plain(kind, said, where)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(rule, got=str(error), fix=fix) from error
