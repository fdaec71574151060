"""The commands on pictures: class folders or a CSV in, a model, predictions, a report and a threshold out."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("PIL")
from PIL import Image

from caveat._pictures._listing import ENDINGS
from caveat.cli._arguments import _PICTURES, are_pictures
from caveat.cli._cli import main
from caveat.image import Classifier

QUICK = ("--epochs", "4", "--draws", "10", "--size", "12")


def write_shades(place: Path, rows: int, seed: int = 0) -> Path:
    """Write dark and light pictures as class folders, and beside the folder a CSV of how light they are."""
    random = np.random.default_rng(seed)
    lines = ["path,light"]
    for row in range(rows):
        light = row % 2
        path = place / ("light" if light else "dark") / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        level = random.integers(130, 200) if light else random.integers(20, 90)
        Image.fromarray(random.integers(level, level + 50, (12, 12), dtype=np.uint8)).save(path)
        lines.append(f"{path.relative_to(place.parent)},{level}.5")
    (place.parent / f"{place.name}.csv").write_text("\n".join(lines) + "\n")
    return place


def spoil(place: Path) -> None:
    """Put pictures beside the others that cannot be read, or show nothing."""
    (place / "dark" / "broken.png").write_bytes(b"no picture")
    Image.new("L", (20, 20), 60).save(place / "light" / "blank.png")


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Returns what a command prints; its exit code is 0."""
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos to train on, others to test on, and a model; not to be changed."""
    place = tmp_path_factory.mktemp("shades")
    spoil(write_shades(place / "photos", 150))
    spoil(write_shades(place / "test", 80, seed=1))
    (place / "photos" / "medium").mkdir()
    (place / "table.csv").write_text("size,price\n3,4.5\n5,6\n")
    assert main(["fit", str(place / "photos"), "--out", str(place / "model"), *QUICK, "--json"]) == 0
    return place


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "model", tmp_path / "model"))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_class_folders_is_learned(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "fit", place / "photos", "--out", tmp_path / "model", *QUICK, "--json")
    said = json.loads(out)
    assert said["rows"] == 150
    assert said["rows_in_file"] == 152
    assert sorted(Path(name).name for name in said["left_out"]) == ["blank.png", "broken.png"]
    assert said["empty_classes"] == ["medium"]
    first, second = Classifier.load(place / "model"), Classifier.load(tmp_path / "model")
    assert first.classes_.tolist() == ["dark", "light"]
    X = [path for path in sorted((place / "test").rglob("*.png")) if path.stem.isdecimal()]
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_people_read_what_was_left_out(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "fit", place / "photos", "--out", tmp_path / "model", *QUICK, "--most-rows", 100)
    assert "Model of " in out
    assert "empty classes: medium" in out
    assert "Pictures left out: " in run(capsys, "evaluate", tmp_path / "model", place / "test")


def test_every_picture_has_its_line(
    place: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "decide", model, place / "test", "--budget", "0.1")
    out = run(capsys, "predict", model, place / "test", "--out", tmp_path / "answers.csv")
    assert "82 rows" in out
    assert "2 cannot be read or show nothing" in out
    rows = read_csv(tmp_path / "answers.csv")
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    right = [row["label"] == row["file"].split("/")[0] for row in rows if not row["problem"]]
    assert len(right) == 80
    assert np.mean(right) > 0.9
    unreadable = {row["file"]: row for row in rows if row["decision"] == "unreadable"}
    assert sorted(unreadable) == ["dark/broken.png", "light/blank.png"]
    assert unreadable["light/blank.png"]["problem"] == "blank: one color only"
    assert unreadable["light/blank.png"]["label"] == ""
    assert {row["decision"] for row in rows} == {"answer", "refer", "unreadable"}


def test_a_run_that_was_killed_goes_on(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("predict", place / "model", place / "test", "--json", "--out")
    monkeypatch.setattr("caveat.image._estimator.AT_ONCE", 20)
    run(capsys, *arguments, tmp_path / "whole.csv")
    from caveat.cli._output_file import OutputFile

    add = OutputFile.add

    def interrupt(self: OutputFile, rows: Any) -> None:
        add(self, rows)
        if self.rows == 60:
            raise KeyboardInterrupt

    monkeypatch.setattr(OutputFile, "add", interrupt)
    assert main([str(one) for one in (*arguments, tmp_path / "parts.csv")]) == 130
    capsys.readouterr()
    monkeypatch.setattr(OutputFile, "add", add)
    said = json.loads(run(capsys, *arguments, tmp_path / "parts.csv"))
    assert said["resumed_at"] == 60
    assert said["decisions"]["unreadable"] == 2
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_fit_that_was_interrupted_goes_on_and_ends_in_the_same_model(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("fit", place / "photos", *QUICK, "--json", "--out")
    run(capsys, *arguments, tmp_path / "whole")
    from caveat.train._checkpoint import Checkpoint

    save = Checkpoint.save

    def interrupt(self: Checkpoint, training: Any) -> None:
        self._rhythm._due = 0.0
        save(self, training)
        if training.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", interrupt)
    assert main([str(one) for one in (*arguments, tmp_path / "m")]) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.fit", "whole"]
    monkeypatch.undo()
    capsys.readouterr()
    assert json.loads(run(capsys, *arguments, tmp_path / "m"))["resumed"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "whole"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("m", "whole")]
    assert weights[0] == weights[1]


def test_the_report_shows_the_least_sure_pictures(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    report = tmp_path / "report.html"
    said = json.loads(run(capsys, "evaluate", place / "model", place / "test", "--report", report, "--json"))
    assert said["rows"] == 80
    assert said["metrics"]["accuracy"]["value"] > 0.9
    assert len(said["left_out"]) == 2
    page = report.read_text()
    assert page.count("<figure") == 48
    assert "Pictures it is least sure of" in page
    assert "broken.png" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_report_shows_wide_pictures_as_they_are(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    for path in (place / "test").glob("*/0*0.png"):
        (tmp_path / "wide" / path.parent.name).mkdir(parents=True, exist_ok=True)
        wide = np.asarray(Image.open(path)).astype(np.uint16) * 257
        Image.fromarray(wide).save(tmp_path / "wide" / path.parent.name / path.name)
    run(capsys, "evaluate", place / "model", tmp_path / "wide", "--report", tmp_path / "report.html")
    shown = re.findall(r"<img alt='[^']*' src='data:image/png;base64,([^']+)'", (tmp_path / "report.html").read_text())
    assert len(shown) > 8
    assert all(np.asarray(Image.open(io.BytesIO(base64.b64decode(one))))[..., 0].max() < 255 for one in shown)


def test_a_threshold_is_chosen_and_kept(place: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(run(capsys, "decide", model, place / "test", "--risk", "0.2", "--json"))
    assert said["risk_answered"] <= 0.2
    assert Classifier.load(model).model_.policy["threshold"] == said["threshold"]
    assert "Policy: " in run(capsys, "evaluate", model, place / "test")
    assert json.loads(run(capsys, "calibrate", model, place / "test", "--json"))["policy_dropped"]


def test_a_table_of_paths_and_numbers_is_learned(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", place / "photos.csv", "--target", "light", "--out", tmp_path / "model", *QUICK, "--json")
    assert json.loads(run(capsys, *fit))["answers"] == "numbers"
    run(capsys, "predict", tmp_path / "model", place / "test.csv", "--out", tmp_path / "light.csv", "--level", "0.8")
    rows = read_csv(tmp_path / "light.csv")
    assert len(rows) == 80
    assert all(float(row["low"]) < float(row["mean"]) < float(row["high"]) for row in rows)
    said = json.loads(run(capsys, "evaluate", tmp_path / "model", place / "test.csv", "--json"))
    assert said["metrics"]["root_mean_squared_error"]["value"] < 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit", "{place}/photos", "--out", "{out}", "--drop", "x"), "--drop has no meaning for pictures"),
        (("fit", "{place}/photos", "--out", "{out}", "--kind", "sort"), "--kind must be"),
        (("fit", "{place}/photos", "--out", "{out}", "--target", "x"), "--target has no meaning for class folders"),
        (("fit", "{place}/nowhere", "--out", "{out}"), "no such file or folder"),
        (("fit", "{place}/nowhere.csv", "--out", "{out}"), "no such file or folder"),
        (("fit", "{place}/photos.csv", "--out", "{out}"), "--target must name the column"),
        (("fit", "{place}/photos/dark", "--out", "{out}"), "Each picture must have its answer"),
        (("fit", "{place}/photos.csv", "--target", "x", "--out", "{out}"), "no column 'x'"),
        (
            ("fit", "{place}/photos.csv", "--target", "a", "--target", "b", "--kind", "classes", "--out", "{out}"),
            "--kind classes takes one --target",
        ),
        (("predict", "{place}/model", "{place}/nowhere", "--out", "{out}.csv"), "no such file or folder"),
        (("predict", "{place}/model", "{place}/table.csv", "--out", "{out}.csv"), "must hold paths of pictures"),
        (("predict", "{place}/model", "{place}/test", "--out", "{out}.csv", "--keep", "x"), "--keep has no meaning"),
        (("predict", "{place}/model", "{place}/test", "--out", "{out}.csv", "--level", "2"), "--level must lie"),
        (("evaluate", "{place}/model", "{place}/test/dark"), "Each picture must have its answer"),
        (("evaluate", "{place}/model", "{place}/photos.csv"), "classes that the model knows"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: tuple[str, ...], said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one.format(place=place, out=tmp_path / "out") for one in arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "pictures"),
    [
        ('path,y\n"a, b.png",1\n', True),
        ('path;y\n"a; b.png";1\n', True),
        ("path\ty\na, b.png\t1\n", True),
        ("path,y\na;b.png,1\n", True),
        ('"path, of it",y\n"a.png",1\n', True),
        ("path\nphotos/a b.JPG\n", True),
        ("name,file\nx,a.png\n", False),
        ("path,y\n", False),
        ('path,y\n"a\n', False),
    ],
)
def test_a_csv_of_pictures_is_known_by_the_first_cell_whatever_it_holds(
    text: str, pictures: bool, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text(text)
    assert are_pictures(tmp_path / "list.csv") is pictures


def test_the_command_knows_the_endings_of_pictures() -> None:
    assert set(_PICTURES) == ENDINGS
