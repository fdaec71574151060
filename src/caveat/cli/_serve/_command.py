"""`caveat serve`: the command and its options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from caveat._extras import check_installed
from caveat.cli._arguments import check_model
from caveat.cli._listen import listen
from caveat.errors import InvalidArgumentError

KEY = "CAVEAT_API_KEY"
_DAY = 86_400


def serve(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Folders that `caveat fit` wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    batch_rows: Annotated[
        int, typer.Option(min=1, help="Rows computed together at most; 1 computes each alone.")
    ] = 128,
    batch_wait_ms: Annotated[
        float, typer.Option(min=0, max=60_000, help="Milliseconds that a request waits for others.")
    ] = 2.0,
    max_rows: Annotated[int, typer.Option(min=1, help="Largest number of rows in a request.")] = 10_000,
    max_draws: Annotated[int, typer.Option(min=2, help="Largest number of draws that a request may ask for.")] = 1000,
    max_body_mb: Annotated[float, typer.Option(min=0.001, max=1e6, help="Largest request body, in MB.")] = 16.0,
    body_seconds: Annotated[
        float, typer.Option(min=0.1, max=_DAY, help="Seconds that a request body may take to arrive.")
    ] = 20.0,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e9, help="Requests per second from one client; no limit if not given."),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help=f"File with the key that requests must carry; or set {KEY}.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads to compute with; with 1, results do not depend on the number of cores.")
    ] = 1,
    reload_seconds: Annotated[
        float, typer.Option(min=0.05, max=_DAY, help="Seconds between checks for a replaced model.")
    ] = 1.0,
    drain_seconds: Annotated[
        float, typer.Option(min=0, max=_DAY, help="Seconds from SIGTERM until it stops listening.")
    ] = 1.0,
    log_rows: Annotated[bool, typer.Option("--log-rows", help="Log rows and answers too.")] = False,
) -> None:
    """Serve models over HTTP: rows in, predictions with their uncertainty out.

    Example: [bold]caveat serve model --port 8000[/bold]
    """
    for folder in models:
        check_model(folder)
    for package in ("fastapi", "uvicorn", "prometheus_client", "safetensors"):
        check_installed(package, "serve")
    import torch

    from caveat.cli._serve._app import build_app
    from caveat.cli._serve._served import Settings
    from caveat.cli._serve._server import serve as serve_app

    settings = Settings(
        body_bytes=int(max_body_mb * 1e6),
        body_seconds=body_seconds,
        rows=max_rows,
        draws=max_draws,
        batch_rows=batch_rows,
        batch_wait=batch_wait_ms / 1000,
        rate=rate,
        api_key=read_key(api_key_file),
        reload=reload_seconds,
        drain=drain_seconds,
        log_rows=log_rows,
    )
    torch.set_num_threads(threads)
    with listen(host, port) as place:
        serve_app(build_app(models, settings), place, settings)


def read_key(file: Path | None) -> str | None:
    """Returns the key of a file, or of the environment.

    Raises:
        InvalidArgumentError: It is empty, or no text.
    """
    try:
        key = os.environ.get(KEY) if file is None else file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"The API key must be text in UTF-8; got {file} with other bytes.") from error
    if key is not None and not key.strip():
        raise InvalidArgumentError(f"The API key must not be empty; got {file or KEY} without one.")
    return key and key.strip()
