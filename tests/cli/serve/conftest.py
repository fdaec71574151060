"""Two small models of a table, and the service in this process."""

from __future__ import annotations

import csv
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from caveat.cli._cli import main
from caveat.cli._serve._app import build_app
from caveat.cli._serve._served import Settings

COLORS = ("red", "green", "blue")
Client = httpx.AsyncClient
Connect = Callable[..., AbstractAsyncContextManager[Client]]


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of numbers, categories and gaps."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        size, color = round(float(random.uniform(1, 9)), 3), COLORS[random.integers(3)]
        price = round(3 * size + 5 * (color == "red") + float(random.normal()), 3)
        known = None if number % 10 == 3 else size
        rows.append({"size": known, "color": color, "price": price, "sold": "yes" if price > 15 else "no"})
    return rows


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def fit(folder: Path, target: str, out: str, *more: str) -> Path:
    other = {"price": "sold", "sold": "price"}[target]
    quick = ["--members", "2", "--epochs", "10", "--draws", "12", "--json", *more]
    named = [str(folder / "train.csv"), "--target", target, "--drop", other, "--out", str(folder / out)]
    assert main(["fit", *named, *quick]) == 0
    return folder / out


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models by_price, which has a policy, and by_sold."""
    folder = tmp_path_factory.mktemp("served")
    write_table(folder / "train.csv", make_rows(300))
    write_table(folder / "test.csv", make_rows(60, seed=1))
    fit(folder, "price", "by_price")
    fit(folder, "sold", "by_sold")
    assert main(["decide", str(folder / "by_price"), str(folder / "test.csv"), "--budget", "0.2", "--json"]) == 0
    return folder


@asynccontextmanager
async def connect(*folders: Path, **limits: Any) -> AsyncGenerator[Client]:
    """A client of a service in this process."""
    app = build_app(folders, Settings(**limits))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with Client(transport=transport, base_url="http://service") as client:
            yield client


def run(steps: Coroutine[Any, Any, None]) -> None:
    import asyncio

    asyncio.run(steps)
