"""Starts the page's server on this machine and says where it is."""

from __future__ import annotations

import socket
import webbrowser
from pathlib import Path
from typing import Any

import torch

from caveat._extras import require
from caveat.errors import InvalidArgumentError, explain

HOST = "127.0.0.1"


def serve_page(root: Path, model: Path | None, data: Path | None, *, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C; its address is printed first.

    Args:
        root: The folder below which models and tables are found.
        model: A model folder to list first.
        data: A table to list first.
        port: Port to listen on; 0 takes a free one.
        browser: Whether to show the page in the browser.

    Raises:
        InvalidArgumentError: The port is taken.
    """
    uvicorn: Any = require("uvicorn", "playground")
    for module in ("starlette", "websockets"):
        require(module, "playground")
    from caveat.cli._playground._app import make_app

    torch.set_num_threads(1)  # two threads on so small networks wait for each other; the other core trains and opens
    with _listen(port) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}/"
        print(f"Playground: {address}   (Ctrl-C ends it)", flush=True)
        if browser:
            webbrowser.open(address)
        config = uvicorn.Config(
            make_app(root, model, data), log_level="warning", ws_max_size=1 << 18, timeout_graceful_shutdown=1
        )
        uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)  # a browser that comes before the server is ready waits for it
    except (OSError, OverflowError) as error:
        listening.close()
        rule = "The page needs a port of this machine that is free."
        got = f"{port}: {getattr(error, 'strerror', None) or error}"
        cause = "another page or server has it"
        raise InvalidArgumentError(explain(rule, got=got, cause=cause, fix="--port 0 takes a free one")) from error
    return listening
