"""The websockets of the page: what the page says last counts, and a new picture goes out once the last was seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from caveat._plain import parse_json
from caveat.cli._playground._digit_draws import Reader, answer, describe, question_from, train_reader
from caveat.cli._playground._regression import Regression
from caveat.errors import CaveatError, explain

T = TypeVar("T")
Message = dict[str, Any]
_MOST_WAITING = 1000


@dataclass(eq=False)
class Workers:
    """Where computing is done: pictures one after another in one thread, what takes seconds beside it.

    Fields:
        reader: The network of digits once it is being trained, shared by all pages.
        trained: Fraction of its training that is done.
    """

    quick: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "playground"))
    slow: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "playground-slow"))
    reader: asyncio.Future[Reader] | None = None
    trained: float = 0.0

    async def run(self, function: Callable[..., T], *arguments: Any, slow: bool = False) -> T:
        """Returns what a function returns, computed in a thread."""
        pool = self.slow if slow else self.quick
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)

    def start_reader(self) -> asyncio.Future[Reader]:
        """Returns the network of digits to wait for; it is trained once."""
        if self.reader is None or self.reader.cancelled() or (self.reader.done() and self.reader.exception()):
            self.reader = asyncio.ensure_future(self.run(train_reader, self._note, slow=True))
        return self.reader

    def warm(self) -> None:
        """Begins to load what the first picture needs, so that the first page does not wait for it."""
        self.quick.submit(lambda: _slice(Regression(points=[[0.0, 0.0]])))

    def close(self) -> None:
        """Lets the threads end."""
        self.quick.shutdown(wait=False, cancel_futures=True)
        self.slow.shutdown(wait=False, cancel_futures=True)

    def _note(self, fraction: float) -> None:
        self.trained = fraction


async def regression(socket: WebSocket, workers: Workers) -> None:
    """Trains and shows a network on a line until the page is closed."""
    async with _messages(socket) as inbox:
        state = await workers.run(Regression)
        seen = True
        while True:
            while not inbox.empty() or state.resting or not seen:
                message = await _take(inbox)
                seen = seen or "seen" in message
                try:
                    state.apply(message)
                except CaveatError as error:
                    await socket.send_json({"error": str(error)})
            seen = False
            try:
                await socket.send_json(await workers.run(_slice, state))
            except CaveatError as error:  # such as training that ran away to infinity
                state.apply({"restart": True})
                await socket.send_json({"error": f"{error}\nTraining begins anew."})


async def digits(socket: WebSocket, workers: Workers) -> None:
    """Answers for the last picture that the page shows, until it is closed."""
    async with _messages(socket) as inbox:
        waiting = workers.start_reader()
        while not waiting.done():
            await socket.send_json({"trained": workers.trained})
            await asyncio.wait([waiting], timeout=0.3)
        try:
            reader = waiting.result()
        except CaveatError as error:
            await socket.send_json({"error": str(error)})
            return
        await socket.send_json({"trained": 1.0, **await workers.run(describe, reader)})
        while True:
            message = await _take(inbox)
            while not inbox.empty():  # only the last is of use: a slider was moved on
                message = await _take(inbox)
            try:
                await socket.send_json(await workers.run(answer, reader, question_from(message, reader)))
            except CaveatError as error:
                await socket.send_json({"error": str(error)})


def _slice(state: Regression) -> Message:
    state.advance()
    return state.picture()


@asynccontextmanager
async def _messages(socket: WebSocket) -> AsyncGenerator[asyncio.Queue[Message | None]]:
    """Yields a queue of what the page says, None once it is closed; the block ends without an error then."""
    await socket.accept()
    inbox: asyncio.Queue[Message | None] = asyncio.Queue()
    reading = asyncio.create_task(_read(socket, inbox))
    try:
        with suppress(WebSocketDisconnect):
            yield inbox
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def _take(inbox: asyncio.Queue[Message | None]) -> Message:
    message = await inbox.get()
    if message is None:
        raise WebSocketDisconnect
    return message


async def _read(socket: WebSocket, inbox: asyncio.Queue[Message | None]) -> None:
    """Puts what the page says into the queue; a page that says more than is taken is let wait."""
    try:
        while True:
            message = _parse(await socket.receive_text())
            if isinstance(message, str):
                await socket.send_json({"error": message})
                continue
            while inbox.qsize() >= _MOST_WAITING:
                await asyncio.sleep(0.01)
            inbox.put_nowait(message)
    except (WebSocketDisconnect, KeyError):  # closed, or bytes in place of text
        inbox.put_nowait(None)


def _parse(text: str) -> Message | str:
    """Returns what the page says, or in words why it is none."""
    try:
        message = parse_json(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        return explain("A message must be JSON.", got=str(error), fix="load the page again")
    if not isinstance(message, dict):
        return explain("A message must be an object.", got=type(message).__name__, fix="load the page again")
    return cast(Message, message)
