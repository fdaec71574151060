"""The model page's computing: what may be opened, what a threshold does, and the policy that is saved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from starlette.testclient import TestClient

from caveat._estimators import load_model
from caveat.cli._cli import main
from caveat.cli._playground._app import make_app
from caveat.cli._playground._own_model import STEPS, Choice, find_places
from caveat.cli._tabular_tested import TABLES

from ..test_tabular_commands import write


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("playground")
    write(folder / "train.csv", 300)
    write(folder / "test.csv", 150, seed=1)
    quick = ["--drop", "id", "--members", "2", "--epochs", "12", "--draws", "12", "--json"]
    for target, other in (("price", "sold"), ("sold", "price")):
        out = str(folder / "models" / target)
        assert main(["fit", str(folder / "train.csv"), "--target", target, "--drop", other, "--out", out, *quick]) == 0
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A folder of one's own with both models and the tables."""
    return Path(shutil.copytree(trained, tmp_path / "place"))


@pytest.fixture
def client(place: Path) -> Generator[TestClient]:
    with TestClient(make_app(place), base_url="http://127.0.0.1") as client:
        yield client


def choice(target: str, **changed: Any) -> dict[str, Any]:
    return {"model": f"models/{target}", "data": "test.csv", "measure": None, "tolerance": None, **changed}


def test_models_and_tables_below_the_folder_are_listed(place: Path, client: TestClient) -> None:
    (place / ".secret").mkdir()
    (place / ".secret" / "hidden.csv").write_text("a\n1\n")
    (place / "link.csv").symlink_to(place.parent)
    found = client.get("/api/places").json()
    assert found["models"] == ["models/price", "models/sold"]
    assert found["tables"] == ["test.csv", "train.csv"]
    assert found["named"] is False


def test_models_of_sentences_and_pictures_are_not_listed(place: Path) -> None:
    manifest = json.loads((place / "models" / "sold" / "caveat.json").read_text())
    for kind in ("text", "image"):
        (place / "models" / kind).mkdir()
        (place / "models" / kind / "caveat.json").write_text(json.dumps({**manifest, "format": f"caveat-{kind}"}))
    (place / "models" / "price" / "caveat.json").write_text("{")  # cannot be read: opening it says why
    assert list(find_places(place).models) == ["models/price", "models/sold"]


def test_what_is_named_on_the_command_line_comes_first(place: Path, tmp_path: Path) -> None:
    found = find_places(tmp_path / "elsewhere", place / "models" / "sold", place / "test.csv")
    assert [*found.models.values(), *found.tables.values()] == [place / "models" / "sold", place / "test.csv"]


@pytest.mark.parametrize("name", ["../outside", "/etc", "models/../models/sold", ".", "", "models"])
def test_no_other_path_is_opened(name: str, client: TestClient) -> None:
    for asked in (choice("sold", model=name), choice("sold", data=name)):
        for path, body in (("/api/open", asked), ("/api/save", {"choice": asked, "deferred": 0.1})):
            refused = client.post(path, json=body)
            assert refused.status_code == 400
            assert "must be one that the page lists" in refused.json()["error"]


def test_the_least_sure_rows_come_first_with_why(client: TestClient) -> None:
    found = client.post("/api/open", json=choice("sold")).json()
    assert (found["rows"], found["classifies"], found["measure"]) == (150, True, "predictive_entropy")
    rows = found["least_sure"]
    assert [one["uncertainty"] for one in rows] == sorted((one["uncertainty"] for one in rows), reverse=True)
    assert {one["why"].split(":")[0] for one in rows} <= {"aleatoric", "epistemic"}
    assert found["columns"] == ["size", "color"]
    assert all(one["wrong"] == (one["truth"] != one["answer"].split(" ")[0]) for one in rows)


def test_a_model_with_dates_shows_them_as_the_table_has_them(tmp_path: Path) -> None:
    days = [f"20{10 + row % 9}-{1 + row % 12:02}-{1 + row % 28:02}" for row in range(60)]
    lines = [f"{row % 7},{day},{row % 7 + row % 3}" for row, day in enumerate(days)]
    (tmp_path / "t.csv").write_text("\n".join(["size,built,price", *lines]) + "\n")
    quick = ["--members", "2", "--epochs", "2", "--draws", "4", "--json"]
    assert main(["fit", str(tmp_path / "t.csv"), "--target", "price", "--out", str(tmp_path / "m"), *quick]) == 0
    with TestClient(make_app(tmp_path), base_url="http://127.0.0.1") as client:
        asked = {"model": "m", "data": "t.csv", "measure": None, "tolerance": None}
        found = client.post("/api/open", json=asked).json()
    assert found["columns"] == ["size", "built"]
    assert {row["cells"][1] for row in found["least_sure"]} <= set(days)


def test_a_threshold_trades_answers_for_errors(client: TestClient) -> None:
    found = client.post("/api/open", json=choice("sold")).json()
    curve = found["curve"]
    assert len(curve) == STEPS
    assert curve[0]["loss"] == pytest.approx(found["loss_all"])
    assert [one["coverage"] for one in curve] == sorted((one["coverage"] for one in curve), reverse=True)
    assert [one["threshold"] for one in curve] == sorted((one["threshold"] for one in curve), reverse=True)
    assert curve[60]["loss"] < found["loss_all"]


def test_what_is_saved_is_what_decide_saves(
    place: Path, client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = client.post("/api/open", json=choice("sold")).json()
    client.post("/api/save", json={"choice": choice("sold"), "deferred": 40 / STEPS}).raise_for_status()
    saved = load_model(TABLES, place / "models" / "sold").policy
    assert main(["decide", str(place / "models" / "sold"), str(place / "test.csv"), "--budget", "0.2", "--json"]) == 0
    capsys.readouterr()
    assert saved == load_model(TABLES, place / "models" / "sold").policy
    assert saved is not None
    assert saved["threshold"] == opened["curve"][40]["threshold"]
    assert client.post("/api/open", json=choice("sold")).json()["policy"] == json.loads(json.dumps(saved))


def test_numbers_are_judged_by_a_tolerance(client: TestClient) -> None:
    without = client.post("/api/open", json=choice("price")).json()
    judged = client.post("/api/open", json=choice("price", tolerance=2.0)).json()
    assert (without["judged"], judged["judged"]) == (False, True)
    assert without["least_sure"][0]["wrong"] is None
    assert 0 < judged["loss_all"] < 1
    by = client.post("/api/open", json=choice("price", measure="epistemic_variance")).json()
    assert by["measure"] == "epistemic_variance"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"measure": "magic"}, "measure must be the name of a measure"),
        ({"measure": "total_variance"}, "measure of classification"),
        ({"tolerance": -1.0}, "tolerance must be above 0"),
        ({"data": "other.csv"}, "target must be in the file"),
    ],
)
def test_what_cannot_be_opened_is_said(place: Path, changed: dict[str, Any], words: str, client: TestClient) -> None:
    (place / "other.csv").write_text("size,color\n1,red\n2,blue\n")
    refused = client.post("/api/open", json=choice("sold", **changed))
    assert refused.status_code == 400
    assert words in refused.json()["error"]


def test_a_model_that_was_changed_meanwhile_is_read_again(place: Path, client: TestClient) -> None:
    first = client.post("/api/open", json=choice("sold")).json()
    write(place / "test.csv", 90, seed=2)
    assert client.post("/api/open", json=choice("sold")).json()["rows"] == 90 != first["rows"]
    shutil.rmtree(place / "models" / "sold")
    assert client.post("/api/open", json=choice("sold")).status_code == 400


def test_a_name_that_is_no_text_is_listed_and_opened(place: Path, client: TestClient) -> None:
    """As files have that were named in another encoding: one of them must not hide all others."""
    name = os.fsdecode(b"caf\xe9.csv")
    (place / "test.csv").rename(place / name)
    assert client.get("/api/places").json()["tables"] == [name, "train.csv"]
    found = client.post("/api/open", content=json.dumps(choice("sold", data=name)))
    assert found.status_code == 200
    assert found.json()["data"] == name


def test_what_another_page_opens_meanwhile_disturbs_nobody(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last choice is kept, and another page's may take its place just before it is looked up."""

    class Mark:
        looked_up = 0

        def __hash__(self) -> int:
            self.looked_up += 1
            if self.looked_up == 3:
                assert client.post("/api/open", json=choice("price")).status_code == 200
            return 0

    def fingerprint_of(_: object, asked: Choice) -> object:
        return Mark() if asked.model == "models/sold" else asked.model

    monkeypatch.setattr("caveat.cli._playground._app.fingerprint_of", fingerprint_of)
    assert client.post("/api/open", json=choice("sold")).status_code == 200
