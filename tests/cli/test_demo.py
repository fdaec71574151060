"""The demo from end to end, quick: its files, its numbers, its table, and the same again."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from caveat.cli._cli import main
from caveat.cli._demo._files import PICTURES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one quick demo was written."""
    out = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--quick", "--digit", "6", "--epochs", "4", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def numbers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "numbers.json").read_text())


def test_it_writes_the_report_the_pictures_and_the_numbers(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"report.html", "numbers.json", *PICTURES}
    for name in PICTURES:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_probabilities_sum_to_one_and_the_measures_keep_their_bounds(numbers: dict[str, Any]) -> None:
    images = numbers["turn"]["angles"] + numbers["surest_test_images"] + numbers["least_sure_test_images"]
    for image in images:
        assert sum(image["mean"]) == pytest.approx(1, abs=1e-5)
        assert sum(image["single_pass"]["softmax"]) == pytest.approx(1, abs=1e-5)
        assert len(image["sd"]) == 10
        assert min(image["sd"]) >= 0
        assert -1e-6 <= image["mutual_information"] <= image["predictive_entropy"] + 1e-6
        assert image["predictive_entropy"] <= math.log(10) + 1e-6


def test_answers_follow_from_the_numbers_beside_them(numbers: dict[str, Any]) -> None:
    for image in numbers["turn"]["angles"]:
        assert image["mean"][image["answer"]] == max(image["mean"]) == image["probability"]
        entropy = -sum(p * math.log(p) for p in image["mean"] if p > 0)
        assert entropy == pytest.approx(image["predictive_entropy"], abs=1e-4)
        assert image["sure"] == (entropy <= math.log(2))


def test_the_turn_is_a_full_circle_and_its_tally_adds_up(numbers: dict[str, Any]) -> None:
    turn = numbers["turn"]
    assert [angle["degrees"] for angle in turn["angles"]] == list(range(0, 360, 10))
    assert turn["label"] == 6
    assert sum(angle["sure"] and angle["answer"] == 6 for angle in turn["angles"]) == turn["tally"]["right"]
    for one in (turn, *numbers["one_of_each_class"]):
        assert sum(one["tally"].values()) == sum(one["tally_single_pass"].values()) == 36


def test_surest_and_least_sure_are_in_order(numbers: dict[str, Any]) -> None:
    surest = [image["predictive_entropy"] for image in numbers["surest_test_images"]]
    least_sure = [image["predictive_entropy"] for image in numbers["least_sure_test_images"]]
    assert surest == sorted(surest)
    assert least_sure == sorted(least_sure, reverse=True)
    assert surest[-1] <= least_sure[-1]


def test_the_report_fetches_nothing_and_shows_every_picture(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href|srcset)="?([^" >]+)', page)
    assert len(sources) == 36 + 16 + 4 * 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "://" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_the_report_and_the_table_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = folder / "again"
    assert main(["demo", "--quick", "--digit", "6", "--epochs", "4", "--out", str(again)]) == 0
    table = capsys.readouterr().out
    page = (folder / "report.html").read_text()
    said = re.search(r"A rotated 6: recognized at \d+ of 36 angles, “not sure” at \d+, another digit at \d+", page)
    assert said is not None
    assert said[0] in " ".join(table.split())
    assert all(re.search(rf"^ *{angle}° ", table, re.MULTILINE) for angle in range(0, 360, 10))
    for name in ("numbers.json", "report.html", *PICTURES):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), f"{name} is not the same again"
    shutil.rmtree(again)


def test_json_is_all_that_is_printed_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--json", "--index", "3", "--draws", "3", "--epochs", "1", "--seed", "1"]
    assert main(["demo", "--out", str(tmp_path), *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "numbers.json").read_text())
    assert (printed["turn"]["test_image"], printed["draws"], printed["epochs"], printed["seed"]) == (
        3,
        3,
        1,
        1,
    )
