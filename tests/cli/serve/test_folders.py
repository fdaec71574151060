"""Folders that are replaced while they are served, and models of sentences and of pictures."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from caveat import image, text
from caveat.cli._cli import main
from caveat.cli._serve._served import Served, open_model

from .conftest import Client, connect, fit, run, write_table
from .test_predict import assert_same

ROW = {"size": 2.0, "color": "red"}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.02)


async def version_of(client: Client) -> str:
    return (await client.get("/models")).json()["models"][0]["version"]


@pytest.fixture
def copied(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "by_sold", tmp_path / "model"))


def test_a_folder_that_is_replaced_is_loaded_without_a_lost_request(place: Path, copied: Path) -> None:
    versions: list[str] = []

    async def steps() -> None:
        async with connect(copied, reload=0.05) as client:
            old = await version_of(client)
            done = False

            async def ask() -> None:
                while not done:
                    reply = await client.post("/predict", json={"rows": [ROW]})
                    assert reply.status_code == 200, reply.text
                    versions.append(reply.json()["version"])

            async def has_changed() -> bool:
                return await version_of(client) != old

            clients = [asyncio.create_task(ask()) for _ in range(8)]
            arguments = ["decide", str(copied), str(place / "test.csv"), "--budget", "0.5", "--json"]
            assert await asyncio.to_thread(main, arguments) == 0
            await until(has_changed)
            done = True
            await asyncio.gather(*clients)
            assert "uncertainty" in (await client.post("/predict", json={"rows": [ROW]})).json()["rows"][0]
            assert 'caveat_model_loads_total{model="model",result="loaded"} 2.0' in (await client.get("/metrics")).text

    run(steps())
    assert len(set(versions)) in (1, 2)


@pytest.fixture(scope="session")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dated")
    days = [f"20{10 + row % 9}-{1 + row % 12:02}-{1 + row % 28:02}" for row in range(60)]
    write_table(folder / "t.csv", [{"built": day, "price": row % 7 + row % 3} for row, day in enumerate(days)])
    quick = ["--members", "2", "--epochs", "2", "--draws", "4", "--json"]
    assert main(["fit", str(folder / "t.csv"), "--target", "price", "--out", str(folder / "model"), *quick]) == 0
    return folder / "model"


def test_a_day_that_does_not_exist_is_refused(dated: Path) -> None:
    async def steps() -> None:
        async with connect(dated) as client:
            for day, status in (("2010-02-28", 200), (None, 200), ("2010-02-30", 422), ("today", 422)):
                reply = await client.post("/predict", json={"rows": [{"built": "2011-01-01"}, {"built": day}]})
                assert reply.status_code == status, reply.text
            reply = await client.post("/predict", json={"rows": [{"built": "2010-02-30"}]})
            assert "'2010-02-30' at row 1" in reply.json()["error"]

    run(steps())


def test_the_documentation_is_of_the_model_that_answers(copied: Path, dated: Path) -> None:
    async def steps() -> None:
        async with connect(copied, reload=0.05) as client:

            async def shown() -> set[str]:
                paths = (await client.get("/openapi.json")).json()["paths"]
                body = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]
                return set(body["examples"]["model"]["value"]["rows"][0])

            async def has_changed() -> bool:
                return await version_of(client) != old

            old = await version_of(client)
            assert await shown() == {"size", "color"}
            shutil.rmtree(copied)
            shutil.copytree(dated, copied)
            await until(has_changed)
            assert await shown() == {"built"}

    run(steps())


def test_a_copy_that_goes_on_is_waited_for(place: Path, copied: Path) -> None:
    """The manifest is there before the weights: the old model answers until the folder is whole."""
    fit(place, "sold", "another", "--seed", "1")
    shutil.copy(place / "another" / "caveat.json", copied.with_name("manifest"))

    async def steps() -> None:
        async with connect(copied, reload=0.05) as client:
            old = await version_of(client)

            async def has_failed() -> bool:
                return 'result="failed"' in (await client.get("/metrics")).text

            async def has_changed() -> bool:
                return await version_of(client) != old

            copied.with_name("manifest").replace(copied / "caveat.json")
            await until(has_failed)
            assert (await client.post("/predict", json={"rows": [ROW]})).status_code == 200
            assert await version_of(client) == old
            for name in ("model.safetensors", "README.md"):
                shutil.copy(place / "another" / name, copied)
            await until(has_changed)
            assert (await client.post("/predict", json={"rows": [ROW]})).status_code == 200

    run(steps())


def test_a_folder_that_is_gone_still_answers(copied: Path) -> None:
    async def steps() -> None:
        async with connect(copied, reload=0.05) as client:
            copied.rename(copied.with_name("away"))

            async def has_failed() -> bool:
                return 'result="failed"' in (await client.get("/metrics")).text

            await until(has_failed)
            assert (await client.post("/predict", json={"rows": [ROW]})).status_code == 200

    run(steps())


def test_an_error_that_nobody_foresaw_does_not_end_the_watch(
    place: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, name: str) -> Served:
        if fails.pop():
            raise RuntimeError("a detail")
        return open_model(folder, name)

    fails = [False, True]

    async def steps() -> None:
        async with connect(copied, reload=0.05) as client:
            old = await version_of(client)

            async def has_changed() -> bool:
                return await version_of(client) != old

            monkeypatch.setattr("caveat.cli._serve._models.open_model", fail)
            arguments = ["decide", str(copied), str(place / "test.csv"), "--budget", "0.5", "--json"]
            assert await asyncio.to_thread(main, arguments) == 0
            await until(has_changed)
            assert 'result="failed"' in (await client.get("/metrics")).text

    run(steps())


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, text.Classifier]:
    X = ["play some jazz", "play the blues", "book a table", "book two seats for us"] * 15
    model = text.Classifier(epochs=4, width=8, draws=10).fit(X, ["music", "music", "food", "food"] * 15)
    folder = tmp_path_factory.mktemp("sentences") / "assistant"
    model.save(folder)
    return folder, model


def test_sentences_have_the_numbers_of_the_estimator(sentences: tuple[Path, text.Classifier]) -> None:
    folder, model = sentences
    given = ["play jazz", "book a seat for four people now"]
    wanted = model.predict_proba(given)

    async def steps() -> None:
        async with connect(folder) as client:
            body: dict[str, Any] = {"rows": [{"text": one} for one in given]}
            rows = (await client.post("/predict", json=body)).json()["rows"]
            named = list(model.classes_)
            assert [[row[f"probability {name}"] for name in named] for row in rows] == pytest.approx(wanted, rel=1e-4)
            in_time = (await client.post("/predict", json={**body, "budget_ms": 1e6})).json()["rows"]
            assert all(row.pop("standard_error") > 0 for row in in_time)
            assert_same(in_time, rows)
            tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": given}
            reply = (await client.post("/v2/models/assistant/infer", json={"inputs": [tensor]})).json()
            assert reply["outputs"][0]["data"] == [row["label"] for row in rows]
            for bad in ({"text": " "}, {"text": 7}, {"words": "play"}, {}):
                assert (await client.post("/predict", json={"rows": [bad]})).status_code == 422

    run(steps())


def draw_picture(kind: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 60, (12, 12)).astype(np.uint8)
    pixels[4 * kind : 4 * kind + 4] += 180
    return Image.fromarray(pixels)


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    drawn = [draw_picture(number % 2, number) for number in range(60)]
    answers = ["top" if number % 2 == 0 else "middle" for number in range(60)]
    model = image.Classifier(epochs=2, draws=6, method="mc_dropout", size=12)
    model.fit(drawn, answers).save(folder / "shapes")
    (folder / "new").mkdir()
    for number in range(3):
        (folder / "new" / f"{number}.png").write_bytes(png(draw_picture(number % 2, 100 + number)))
    Image.new("L", (12, 12)).save(folder / "new" / "3.png")  # blank
    return folder


def test_pictures_have_the_numbers_of_the_command(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    assert main(["predict", str(pictures / "shapes"), str(pictures / "new"), "--out", str(out), "--json"]) == 0
    wanted = [json.loads(line) for line in out.read_text().splitlines()]
    for row in wanted:
        del row["file"]
    contents = [path.read_bytes() for path in sorted((pictures / "new").iterdir())]
    encoded = [base64.b64encode(one).decode() for one in contents]

    async def steps() -> None:
        async with connect(pictures / "shapes") as client:
            rows = (await client.post("/predict", json={"rows": [{"image": one} for one in encoded]})).json()["rows"]
            assert_same(rows, wanted)
            assert (rows[3]["decision"], rows[3]["label"]) == ("unreadable", None)
            tensor = {"name": "image", "shape": [4], "datatype": "BYTES", "data": encoded}
            reply = (await client.post("/v2/models/shapes/infer", json={"inputs": [tensor]})).json()
            assert reply["outputs"][0]["data"] == [row["label"] for row in rows]
            pixels = np.stack([np.array(Image.open(io.BytesIO(one))) for one in contents[:3]])
            body = {"name": "image", "shape": [3, 12, 12], "datatype": "UINT8", "data": pixels.tolist()}
            reply = (await client.post("/v2/models/shapes/infer", json={"inputs": [body]})).json()
            assert reply["outputs"][0]["data"] == [row["label"] for row in rows[:3]]
            told = (await client.get("/v2/models/shapes")).json()
            assert [one["name"] for one in told["outputs"]] == [one["name"] for one in reply["outputs"]]

    run(steps())


def test_a_picture_that_shows_nothing_has_the_usual_datatypes(pictures: Path) -> None:
    content = base64.b64encode((pictures / "new" / "3.png").read_bytes()).decode()

    async def steps() -> None:
        async with connect(pictures / "shapes") as client:
            tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [content]}
            reply = (await client.post("/v2/models/shapes/infer", json={"inputs": [tensor]})).json()
            told = (await client.get("/v2/models/shapes")).json()
            wanted = [(one["name"], one["datatype"]) for one in told["outputs"]]
            assert [(one["name"], one["datatype"]) for one in reply["outputs"]] == wanted

    run(steps())


def test_what_is_no_picture_is_refused(pictures: Path) -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    contents = [program, bomb.getvalue(), b"GIF89a", b"", png(draw_picture(0, 1))[:60] + b"x" * 90]

    async def steps() -> None:
        async with connect(pictures / "shapes") as client:
            for content in contents[:4]:
                given = base64.b64encode(content).decode()
                reply = await client.post("/predict", json={"rows": [{"image": given}]})
                assert reply.status_code == 422, content[:20]
            for odd in ("not base64!", 7, None, ["x"]):
                assert (await client.post("/predict", json={"rows": [{"image": odd}]})).status_code == 422
            broken = base64.b64encode(contents[4]).decode()
            reply = await client.post("/predict", json={"rows": [{"image": broken}]})
            assert reply.status_code in (200, 422)
            if reply.status_code == 200:
                assert reply.json()["rows"][0]["decision"] == "unreadable"
            hurried = {"rows": [{"image": broken}], "budget_ms": 9}
            assert (await client.post("/predict", json=hurried)).status_code == 422

    run(steps())
