"""Starts the page's server on this machine and says where it is."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import torch

from caveat._extras import require
from caveat.cli._listen import address_of, listen

HOST = "127.0.0.1"


def serve_page(root: Path, model: Path | None, data: Path | None, *, port: int, browser: bool) -> None:
    """Serves the page until Ctrl-C, which ends it within a second; its address is printed first.

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
    with listen(HOST, port) as listening:
        address = f"{address_of(listening)}/"
        print(f"Playground: {address}   (Ctrl-C ends it)", flush=True)
        if browser:
            webbrowser.open(address)
        config = uvicorn.Config(
            make_app(root, model, data), log_level="warning", ws_max_size=1 << 18, timeout_graceful_shutdown=1
        )
        uvicorn.Server(config).run(sockets=[listening])
