"""What every request passes: key, rate, a body of bounded size and time; and what is noted of each."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caveat.cli._serve._served import Settings
from caveat.cli._serve._service import LOG, reply
from caveat.cli._serve._watching import Watch

_HUNG_UP = 499  # as nginx counts a request whose client is gone before it could be answered
_OPEN = ("/v2/health/live", "/v2/health/ready")
_MOST_CLIENTS = 10_000
_LINGER = 2.0
log = logging.getLogger("caveat.serve")


def write_log(event: str, **entry: Any) -> None:
    """Writes a line of JSON to the log."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    log.info(json.dumps({"at": at, "event": event, **entry}, default=str))


@final
class Guard:
    """The outermost layer of the service.

    Args:
        app: What it stands before.
        settings: The limits.
        watch: What counts requests.
        draining: Returns whether answers close their connections.
    """

    def __init__(self, app: ASGIApp, settings: Settings, watch: Watch, draining: Callable[[], bool]) -> None:
        self._app, self._settings, self._watch, self._draining = app, settings, watch, draining
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500
        scope[LOG] = {}

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._draining():
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        try:
            if not await self._pass(scope, receive, note_status):
                status = _HUNG_UP
        finally:
            seconds = time.monotonic() - started
            route = getattr(scope.get("route"), "path", "other")
            self._watch.requests.labels(route, str(status)).inc()
            self._watch.seconds.labels(route).observe(seconds)
            if scope["path"] not in _OPEN:
                about = {"method": scope["method"], "route": route, "status": status}
                write_log("request", **about, ms=round(1000 * seconds, 3), **scope[LOG])

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answers a request, or has it answered; False if its client hung up."""
        headers = dict(scope["headers"])
        refused = self._refuse(scope, headers)
        if refused is not None:
            await refused(scope, receive, send)
            return True
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                body = await self._read(headers, receive)
        except TimeoutError:
            why = f"The body must arrive within {self._settings.body_seconds:g} s."
            await reply({"error": why}, 408, {"connection": "close"})(scope, receive, send)
            return True
        if isinstance(body, bytes):
            return await self._answer(scope, body, receive, send)
        if body:
            await self._refuse_body(receive, send)
        return body

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> bool:
        """Has a request answered; gives it up, and returns False, where its client hangs up before that has begun."""
        begun = False

        async def begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        gone = asyncio.ensure_future(receive())  # the body was read: what comes now is the end
        answering = asyncio.ensure_future(self._app(scope, _replay(body, gone), begin))
        try:
            await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not begun:
                return False
            await answering
            return True
        finally:
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)

    def _refuse(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        """Returns the answer to a request that is refused before its body is read; None if it may go on."""
        if scope["path"] not in _OPEN:
            if not self._has_key(headers):
                why = "A valid key is needed: Authorization: Bearer KEY."
                return reply({"error": why}, 401, {"www-authenticate": "Bearer"})
            if not self._within_rate(scope):
                return reply({"error": "Too many requests; try again in a moment."}, 429, {"retry-after": "1"})
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return reply({"error": "Bodies are taken as they are, not compressed."}, 415)
        return None

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | bool:
        """Returns the body; True if it is too large, False if its client hung up."""
        most, length = self._settings.body_bytes, headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            return True
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                return True
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _refuse_body(self, receive: Receive, send: Send) -> None:
        """Answers before the body has come, and reads on for a while: a client that still sends would see a reset."""
        why = f"A body has at most {self._settings.body_bytes:,} bytes."
        answer = reply({"error": why}, 413, {"connection": "close"})
        await send({"type": "http.response.start", "status": 413, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        try:
            async with asyncio.timeout(_LINGER):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        if self._settings.api_key is None:
            return True
        bearer = headers.get(b"authorization", b"")
        bearer = bearer[7:] if bearer[:7].lower() == b"bearer " else bearer
        given = headers.get(b"x-api-key") or bearer
        return hmac.compare_digest(given, self._settings.api_key.encode())

    def _within_rate(self, scope: Scope) -> bool:
        """Returns whether the client may ask now: its bucket holds a second's requests and fills at the rate."""
        rate = self._settings.rate
        if rate is None:
            return True
        most, now = max(rate, 1.0), time.monotonic()
        client = str((scope.get("client") or ("",))[0])
        tokens, then = self._tokens.pop(client, (most, now))
        tokens = min(most, tokens + (now - then) * rate)
        self._tokens[client] = (tokens - 1 if tokens >= 1 else tokens), now
        if len(self._tokens) > _MOST_CLIENTS:
            self._tokens.popitem(last=False)
        return tokens >= 1


def _replay(body: bytes, after: asyncio.Future[Message]) -> Receive:
    """Returns what gives the body that was read, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await asyncio.shield(after)
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
