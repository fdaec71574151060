"""The server: uvicorn, and an end in which no request that was accepted is lost."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import uvicorn

from caveat.cli._listen import BACKLOG, address_of
from caveat.cli._serve._guard import log, write_log
from caveat.cli._serve._served import Settings

_LAST_REQUESTS, _LAST_ANSWERS = 1.0, 60  # seconds


def serve(app: Any, place: socket.socket, settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C, then answers all that was accepted."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_LAST_ANSWERS,
        backlog=BACKLOG,
    )
    asyncio.run(_run(app, uvicorn.Server(config), place, settings))


async def _run(app: Any, server: uvicorn.Server, place: socket.socket, settings: Settings) -> None:
    stop = asyncio.Event()
    queue = place.dup()  # connections that nobody has accepted yet outlive what uvicorn closes
    task = asyncio.create_task(server.serve(sockets=[place]))
    while not server.started and not task.done():
        await asyncio.sleep(0.01)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)  # in place of uvicorn's, which ends at once
    write_log("listening", url=address_of(place), models=list(app.state.service.models))
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        write_log("draining", seconds=settings.drain)
        app.state.ready, app.state.draining = False, True
        await asyncio.sleep(settings.drain)
        await _stop_listening(server, queue)
        server.should_exit = True
    waiting.cancel()
    await task
    write_log("stopped")


async def _stop_listening(server: uvicorn.Server, queue: socket.socket) -> None:
    """Takes in the connections that wait, and gives those that are open the time to send what they have begun."""
    loop = asyncio.get_running_loop()
    for one in server.servers:
        one.close()
    kind: Any = server.config.http_protocol_class
    state: dict[str, Any] = {"config": server.config, "server_state": server.server_state}
    taken: list[socket.socket] = []
    with suppress(BlockingIOError):
        while True:
            taken.append(queue.accept()[0])
    queue.close()
    for one in taken:
        one.setblocking(False)
        await loop.connect_accepted_socket(lambda: kind(**state, app_state=server.lifespan.state), one)
    end = loop.time() + _LAST_REQUESTS
    while server.server_state.connections and loop.time() < end:
        await asyncio.sleep(0.02)
