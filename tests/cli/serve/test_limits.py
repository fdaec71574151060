"""What a service refuses, whoever asks: keys, rates, bodies too large, too slow, compressed; and what it logs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from caveat.cli._serve._app import build_app
from caveat.cli._serve._computing import Piece, compute
from caveat.cli._serve._guard import Guard
from caveat.cli._serve._served import Served, Settings
from caveat.cli._serve._watching import Watch

from .conftest import connect, make_rows, run

ROW = {"size": 2.0, "color": "red"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"X-API-Key": "secret\xe9"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer secret"}, 200),
        ({"X-API-Key": "secret"}, 200),
    ],
)
def test_a_key_is_asked_for(place: Path, headers: dict[str, str], status: int) -> None:
    async def steps() -> None:
        async with connect(place / "by_sold", api_key="secret") as client:
            raw = [(name.encode(), value.encode("latin1")) for name, value in headers.items()]
            for path in ("/predict", "/metrics", "/openapi.json"):
                method = "POST" if path == "/predict" else "GET"
                reply = await client.request(method, path, json={"rows": [ROW]}, headers=raw)
                assert reply.status_code == status

    run(steps())


def test_a_client_may_ask_at_its_rate(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_sold", rate=3) as client:
            found = [(await client.get("/models")).status_code for _ in range(6)]
            assert found[:3] == [200] * 3
            assert 429 in found
            assert (await client.get("/v2/health/live")).status_code == 200

    run(steps())


def test_a_body_that_is_too_large_is_refused(place: Path) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(10_000):
            yield b" " * 1000

    async def steps() -> None:
        async with connect(place / "by_sold", body_bytes=5000) as client:
            assert (await client.post("/predict", content=b" " * 5001)).status_code == 413
            assert (await client.post("/predict", content=endless())).status_code == 413
            assert (await client.post("/predict", json={"rows": [ROW]})).status_code == 200

    run(steps())


def test_too_many_rows_are_refused(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_sold", rows=5, waiting=4) as client:
            assert (await client.post("/predict", json={"rows": make_rows(6)})).status_code == 413
            busy = await client.post("/predict", json={"rows": make_rows(5)})
            assert busy.status_code == 503
            assert busy.headers["Retry-After"]
            assert (await client.post("/predict", json={"rows": make_rows(4)})).status_code == 200

    run(steps())


def test_a_body_that_never_ends_is_given_up(place: Path) -> None:
    async def stuck() -> AsyncGenerator[bytes]:
        yield b'{"rows": ['
        await asyncio.Event().wait()

    async def steps() -> None:
        async with connect(place / "by_sold", body_seconds=0.1) as client:
            assert (await client.post("/predict", content=stuck())).status_code == 408
            assert (await client.post("/predict", json={"rows": [ROW]})).status_code == 200

    run(steps())


def test_a_client_that_hangs_up_is_no_error_of_the_service(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def never(*_: object) -> None:
        raise AssertionError

    guard = Guard(never, Settings(), watch, lambda: False)
    with caplog.at_level(logging.INFO, "caveat.serve"):
        run(guard({"type": "http", "method": "POST", "path": "/predict", "headers": []}, receive, never))
    assert [entry["status"] for entry in read_log(caplog)] == [499]
    assert watch.registry.get_sample_value("caveat_requests_total", {"route": "other", "status": "499"}) == 1


def test_what_a_client_that_hung_up_asked_for_is_not_computed(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a few requests that nobody waits for would keep all others waiting."""
    computed = list[int]()

    def count(served: Served, pieces: Sequence[Piece], *rest: Any) -> None:
        computed.append(sum(piece.count for piece in pieces))
        compute(served, pieces, *rest)

    async def steps() -> None:
        app = build_app([place / "by_sold"], Settings(batch_rows=10))
        body = json.dumps({"rows": [ROW] * 1000}).encode()
        messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
        sent = list[Any]()

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
        async with app.router.lifespan_context(app):
            monkeypatch.setattr("caveat.cli._serve._batches.compute", count)
            await app(scope, receive, send)
            assert app.state.service.batches.waiting == 0
        assert not sent

    with caplog.at_level(logging.INFO, "caveat.serve"):
        run(steps())
    assert sum(computed) < 100
    assert [entry["status"] for entry in read_log(caplog) if entry["event"] == "request"] == [499]


def test_a_compressed_body_is_refused(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_sold") as client:
            same = await client.post("/predict", json={"rows": [ROW]}, headers={"Content-Encoding": "Identity"})
            assert same.status_code == 200
            reply = await client.post("/predict", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
            assert reply.status_code == 415

    run(steps())


def test_a_client_that_hangs_up_disturbs_nobody(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_sold", batch_wait=0.05) as client:
            gone = asyncio.create_task(client.post("/predict", json={"rows": [ROW]}))
            others = [asyncio.create_task(client.post("/predict", json={"rows": [ROW]})) for _ in range(5)]
            await asyncio.sleep(0.01)
            gone.cancel()
            assert [reply.status_code for reply in await asyncio.gather(*others)] == [200] * 5

    run(steps())


def read_log(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "caveat.serve"]


@pytest.mark.parametrize("log_rows", [False, True])
def test_the_log_is_json_without_rows_unless_asked(
    place: Path, caplog: pytest.LogCaptureFixture, log_rows: bool
) -> None:
    async def steps() -> None:
        async with connect(place / "by_price", log_rows=log_rows) as client:
            await client.post("/predict", json={"rows": [{"size": 2.0, "color": "ultramarine"}]})
            await client.post("/predict", json={"rows": [{"size": "ultramarine", "color": "red"}]})

    with caplog.at_level(logging.INFO, "caveat.serve"):
        run(steps())
    answered, refused = [entry for entry in read_log(caplog) if entry["event"] == "request"]
    assert (answered["status"], answered["rows"], answered["draws"], answered["model"]) == (200, 1, 12, "by_price")
    assert refused["status"] == 422
    assert ("ultramarine" in caplog.text) == log_rows


def test_an_error_that_nobody_foresaw_is_a_500_in_words(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a detail")

    async def steps() -> None:
        async with connect(place / "by_sold") as client:
            with monkeypatch.context() as broken:
                broken.setattr("caveat.cli._serve._batches.compute", fail)
                reply = await client.post("/predict", json={"rows": [ROW]})
                assert reply.status_code == 500
                assert "a detail" not in reply.json()["error"]
            assert (await client.post("/predict", json={"rows": [ROW]})).status_code == 200

    with caplog.at_level(logging.INFO, "caveat.serve"):
        run(steps())
    errors = [entry for entry in read_log(caplog) if entry["event"] == "error"]
    assert [(entry["type"], entry["text"]) for entry in errors] == [("RuntimeError", "a detail")]


def test_documentation_has_examples_that_work(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_price", place / "by_sold") as client:
            told = (await client.get("/openapi.json")).json()
            for path, name in (("/models/{name}/predict", "by_price"), ("/v2/models/{name}/infer", "by_sold")):
                body = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]
                example = body["examples"][name]["value"]
                reply = await client.post(path.replace("{name}", name), json=example)
                assert reply.status_code == 200, reply.text

    run(steps())
