"""What `/predict` answers: the command's numbers, whatever else arrives; and what it refuses."""

from __future__ import annotations

import asyncio
import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from caveat.cli._cli import main
from caveat.cli._serve._batches import Batches
from caveat.cli._serve._inputs import columns_of, inputs_of
from caveat.cli._serve._served import Settings, open_model

from .conftest import connect, make_rows, run


def command_rows(place: Path, model: str, rows: list[dict[str, Any]], out: Path, *more: str) -> list[dict[str, Any]]:
    data = out.with_name("given.jsonl")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["predict", str(place / model), str(data), "--out", str(out), "--json", *more]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def assert_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Text is equal, numbers are but for the rounding of float32, which depends on how many rows go together."""
    assert [list(row) for row in found] == [list(row) for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        for name, value in other.items():
            assert one[name] == (pytest.approx(value, rel=2e-5, abs=1e-6) if isinstance(value, float) else value), name


@pytest.mark.parametrize("model", ["by_price", "by_sold"])
@pytest.mark.parametrize("more", [{}, {"level": 0.8, "draws": 7}], ids=["usual", "options"])
def test_answers_are_those_of_the_command(place: Path, tmp_path: Path, model: str, more: dict[str, Any]) -> None:
    rows = [{name: row[name] for name in ("size", "color")} for row in make_rows(150, seed=2)]
    options = [word for name, value in more.items() for word in (f"--{name}", str(value))]
    wanted = command_rows(place, model, rows, tmp_path / "p.jsonl", *options)

    async def steps() -> None:
        async with connect(place / model) as client:
            reply = await client.post("/predict", json={"rows": rows, **more})
            assert reply.status_code == 200
            assert reply.json()["draws"] == more.get("draws", 12)
            assert_same(reply.json()["rows"], wanted)

    run(steps())


def test_answers_do_not_depend_on_what_arrives_beside(place: Path) -> None:
    """To the last digit: rows go through the networks in blocks of one size."""
    rows = [{name: row[name] for name in ("size", "color")} for row in make_rows(200, seed=3)]

    async def steps() -> None:
        async with connect(place / "by_price", place / "by_sold") as client:
            for model in ("by_price", "by_sold"):
                url = f"/models/{model}/predict"
                alone = [(await client.post(url, json={"rows": [row]})).json()["rows"][0] for row in rows[:12]]
                together = (await client.post(url, json={"rows": rows})).json()["rows"]
                assert [{**row, "row": 1} for row in together[:12]] == alone
                replies = await asyncio.gather(*(client.post(url, json={"rows": [row]}) for row in rows[:12]))
                assert [reply.json()["rows"][0] for reply in replies] == alone
            metrics = (await client.get("/metrics")).text
            assert 'caveat_batch_requests_bucket{le="1.0"}' in metrics

    run(steps())


def test_requests_that_arrive_together_are_computed_together(place: Path) -> None:
    rows = make_rows(40, seed=4)

    async def steps() -> None:
        async with connect(place / "by_sold", batch_wait=0.2) as client:
            before = batches_in((await client.get("/metrics")).text)
            replies = await asyncio.gather(*(client.post("/predict", json={"rows": [row]}) for row in rows))
            assert [reply.status_code for reply in replies] == [200] * 40
            assert batches_in((await client.get("/metrics")).text) - before <= 3

    run(steps())


def batches_in(metrics: str) -> int:
    return int(float(metrics.split("caveat_batch_rows_count ")[1].split("\n")[0]))


@pytest.mark.parametrize("count", [4, 10])
def test_a_full_batch_and_what_it_leaves_do_not_wait(place: Path, count: int) -> None:
    """Only a request that has just arrived, and fills no batch, waits for others."""
    served = open_model(place / "by_sold", "by_sold")
    columns = columns_of(["size", "color"], [{"size": 2.0, "color": "red"}] * count)
    settings = Settings(batch_rows=4, batch_wait=1e6)

    async def steps() -> None:
        with ThreadPoolExecutor(1) as executor:
            batches = Batches(settings, executor, lambda *_: None)
            running = asyncio.create_task(batches.run())
            inputs = inputs_of(served, columns)
            async with asyncio.timeout(60):
                found = await batches.ask(served, inputs, count, draws=4, level=0.9, until=None)
            running.cancel()
        assert len(found.rows) == count

    run(steps())


def test_a_long_request_gives_way_to_short_ones(place: Path) -> None:
    """A request of many batches does not keep one of a row waiting until it is done."""
    order: list[str] = []

    async def steps() -> None:
        async with connect(place / "by_sold", batch_rows=8) as client:

            async def ask(name: str, rows: list[dict[str, Any]]) -> None:
                assert (await client.post("/predict", json={"rows": rows})).status_code == 200
                order.append(name)

            long = asyncio.create_task(ask("long", make_rows(400, seed=5)))
            await asyncio.sleep(0)
            await asyncio.gather(long, ask("short", make_rows(1)))

    run(steps())
    assert order == ["short", "long"]


@pytest.mark.parametrize("model", ["by_price", "by_sold"])
def test_a_budget_that_is_used_up_gives_the_draws_so_far(place: Path, model: str) -> None:
    row = {"size": 5.0, "color": "red"}

    async def steps() -> None:
        async with connect(place / model, draws=20_000) as client:
            hurried = (await client.post("/predict", json={"rows": [row], "draws": 20_000, "budget_ms": 1})).json()
            assert 2 <= hurried["draws"] < 20_000
            assert hurried["rows"][0]["standard_error"] > 0
            patient = (await client.post("/predict", json={"rows": [row], "budget_ms": 1e6})).json()
            assert patient["draws"] == 12
            usual = (await client.post("/predict", json={"rows": [row]})).json()["rows"]
            error = patient["rows"][0].pop("standard_error")
            assert_same(patient["rows"], usual)
            assert 0 < error < patient["rows"][0]["std"]

    run(steps())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b'{"rows": [{"size": NaN, "color": "red"}]}', 400),
        (b'{"rows": [{"size": 1, "size": 2}]}', 400),
        (b"[" * 100_000, 400),
        (b'{"rows": [{"size": 1' + b"0" * 5000 + b"}]}", 400),
        (b"\xff\xfe", 400),
        (b"{}", 422),
        (b'{"rows": []}', 422),
        (b'{"rows": [1]}', 422),
        (b'{"rows": {}}', 422),
        (b'{"rows": [{"size": 1, "colour": "red"}]}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}, {"size": 1, "colour": "red"}]}', 422),
        (b'{"rows": [{"size": "wide", "color": "red"}]}', 422),
        (b'{"rows": [{"size": [1], "color": "red"}]}', 422),
        (b'{"rows": [{"size": 1, "color": {"a": 1}}]}', 422),
        (b'{"rows": [{"size": 1e999, "color": "red"}]}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "draws": 1}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "draws": 1e3}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "draws": 1001}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "level": 0}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "level": 0.9999}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "budget_ms": 0}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "budget_ms": "now"}', 422),
        (b'{"rows": [{"size": 1, "color": "red"}], "rows_": 1}', 422),
        (b'{"rows": [{"size": "\\ud800", "color": "red"}]}', 422),
    ],
)
def test_bad_requests_are_refused_in_words(place: Path, body: bytes, status: int) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            reply = await client.post("/predict", content=body)
            assert reply.status_code == status, reply.text
            assert len(reply.json()["error"]) > 10

    run(steps())


def test_a_key_that_is_left_out_is_a_missing_value_whatever_the_other_rows_have(place: Path) -> None:
    whole, unknown = {"size": 5.0, "color": "red"}, {"size": None, "color": None}
    same = [({"size": 5.0}, {"size": 5.0, "color": None}), ({"color": "red"}, {"size": None, "color": "red"})]

    async def steps() -> None:
        async with connect(place / "by_price") as client:

            async def ask(*rows: dict[str, Any]) -> list[dict[str, Any]]:
                reply = await client.post("/predict", json={"rows": rows})
                assert reply.status_code == 200, reply.text
                return [{**row, "row": 1} for row in reply.json()["rows"]]

            for short, full in [*same, ({}, unknown)]:
                wanted = await ask(full)
                assert await ask(short) == wanted
                assert (await ask(whole, short))[1:] == wanted
                assert (await ask(short, {**whole, "note": "of no column"}))[:1] == wanted

    run(steps())


def test_keys_that_no_column_has_take_no_room() -> None:
    """Each row with keys of its own would else be a column of each, as long as there are rows."""
    rows = [{"size": 1.0, **{f"key {row} {number}": 1 for number in range(5)}} for row in range(500)]
    columns = columns_of(["size"], rows)
    assert list(columns["size"]) == [1.0] * 500
    assert "key 0 0" in columns
    assert len(columns) < 100


def test_a_column_that_is_misspelled_is_no_missing_value(place: Path) -> None:
    """It is named with what it stands in place of, whether or not the rows beside it are whole."""
    whole, misspelled = {"size": 5.0, "color": "red"}, {"size": 5.0, "colour": "red"}

    async def steps() -> None:
        async with connect(place / "by_price") as client:
            for rows in ([misspelled], [whole, misspelled]):
                reply = await client.post("/predict", json={"rows": rows})
                assert reply.status_code == 422
                for word in (f"row {len(rows)}", "'color'", "'colour'", "null"):
                    assert word in reply.json()["error"]
            assert (await client.post("/predict", json={"rows": [{**misspelled, "color": None}]})).status_code == 200

    run(steps())


def test_a_list_in_place_of_a_value_is_refused_with_what_to_do(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            for row in ({"size": [1], "color": "red"}, {"size": 1, "color": ["red"]}, {"size": {"a": 1}}):
                reply = await client.post("/predict", json={"rows": [{"size": 1, "color": "red"}, row]})
                text = reply.json()["error"]
                assert "row 2" in text
                assert "Fix: " in text

    run(steps())


def test_half_a_character_is_an_unknown_category(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            reply = await client.post("/predict", content=b'{"rows": [{"size": 1, "color": "\\ud800"}]}')
            assert reply.status_code == 200

    run(steps())


def test_a_model_is_named_where_there_are_several(place: Path) -> None:
    row = {"size": 1.0, "color": "red"}

    async def steps() -> None:
        async with connect(place / "by_price", place / "by_sold") as client:
            assert (await client.post("/predict", json={"rows": [row]})).status_code == 404
            assert (await client.post("/models/other/predict", json={"rows": [row]})).status_code == 404
            price = (await client.post("/models/by_price/predict", json={"rows": [row]})).json()["rows"][0]
            sold = (await client.post("/models/by_sold/predict", json={"rows": [row]})).json()["rows"][0]
            assert "mean" in price
            assert sold["label"] in ("yes", "no")
            names = [one["name"] for one in (await client.get("/models")).json()["models"]]
            assert names == ["by_price", "by_sold"]

    run(steps())


def test_the_decision_is_that_of_the_policy(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    assert main(["predict", str(place / "by_price"), str(place / "test.csv"), "--out", str(out), "--json"]) == 0
    with out.open() as file:
        wanted = [row["decision"] for row in csv.DictReader(file)]

    async def steps() -> None:
        async with connect(place / "by_price") as client:
            reply = await client.post("/predict", json={"rows": make_rows(60, seed=1)})
            assert [row["decision"] for row in reply.json()["rows"]] == wanted
            metrics = (await client.get("/metrics")).text
            assert f'caveat_referred_fraction{{model="by_price"}} {wanted.count("refer") / 60}' in metrics
            referred = f'caveat_rows_total{{decision="refer",model="by_price"}} {float(wanted.count("refer"))}'
            assert referred in metrics

    run(steps())
    assert {"answer", "refer"} == set(wanted)
