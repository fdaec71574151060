"""Adult and concrete from CSV to decisions with the installed command.

The command is that of the environment of the tests; CI names another with ``CAVEAT``: that of the wheel, installed by
itself in a new virtual environment.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("sklearn")

DATA = Path(__file__).parents[3] / "shared" / "data"
COMMAND = os.environ.get("CAVEAT", str(Path(sys.executable).with_name("caveat")))
COLUMNS = ("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
           "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income")  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason="the data is not here"),
    pytest.mark.skipif(not Path(COMMAND).exists(), reason="the command is not installed beside this Python"),
]


def said(*words: object) -> dict[str, Any]:
    """What the command prints with --json."""
    line = [COMMAND, *map(str, words), "--json"]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def adult(part: str) -> list[list[str]]:
    with gzip.open(DATA / "adult" / f"adult-{part}.csv.gz", "rt") as file:
        rows = list(csv.reader(file, skipinitialspace=True))
    return [[*row[:-1], row[-1].removesuffix(".")] for row in rows if row]


def concrete() -> tuple[list[str], list[list[float]]]:
    with np.load(DATA / "uci_regression" / "concrete.npz") as file:
        whole = np.column_stack([file["X"], file["y"]])
    return [*(f"x{k}" for k in range(8)), "strength"], np.random.default_rng(0).permutation(whole).tolist()


def test_adult_and_a_regression_table_from_csv_to_decisions(tmp_path: Path) -> None:
    train, test = adult("train"), adult("test")
    incomes = write(tmp_path / "incomes.csv", COLUMNS, train)
    asked = write(tmp_path / "asked.csv", COLUMNS, test[:8000])
    held_out = write(tmp_path / "held_out.csv", COLUMNS, test[8000:])
    header, mixes = concrete()
    learnt, tried = write(tmp_path / "mixes.csv", header, mixes[:830]), write(tmp_path / "new.csv", header, mixes[830:])

    by_income, by_strength = tmp_path / "income", tmp_path / "strength"
    said("fit", incomes, "--target", "income", "--out", by_income)
    said("fit", learnt, "--target", "strength", "--out", by_strength)
    said("decide", by_income, held_out, "--risk", 0.05)
    said("decide", by_strength, tried, "--budget", 0.2)
    for model, rows in ((by_income, asked), (by_strength, tried)):
        said("predict", model, rows, "--out", tmp_path / f"{model.name}.csv")
    measured = said("evaluate", by_income, asked, "--report", tmp_path / "report.html")["metrics"]
    strengths = said("evaluate", by_strength, tried)["metrics"]

    for model in (by_income, by_strength):
        assert {"model.safetensors", "caveat.json"} <= {path.name for path in model.iterdir()}
        assert any(path.suffix == ".md" for path in model.iterdir())
    answers = rows_of(tmp_path / "income.csv")
    truth = [row[-1] for row in test[:8000]]
    kept = [(row["label"], label) for row, label in zip(answers, truth, strict=True) if row["decision"] == "answer"]
    wrong = sum(label != answer for answer, label in kept) / len(kept)
    assert 0.3 * len(answers) < len(kept) < len(answers)
    assert wrong < 0.06  # 5 % were promised on rows like those that chose the cut
    assert measured["accuracy"]["value"] > 0.86
    assert measured["expected_calibration_error"]["value"] < 0.02
    predicted = rows_of(tmp_path / "strength.csv")
    pairs = zip(predicted, mixes[830:], strict=True)
    inside = np.mean([float(row["low"]) <= mix[-1] <= float(row["high"]) for row, mix in pairs])
    assert 0.8 < inside <= 1
    assert strengths["coverage_90"]["value"] == pytest.approx(inside, abs=1e-6)
    assert sum(row["decision"] == "refer" for row in predicted) == pytest.approx(40, abs=2)
    assert "<html" in (tmp_path / "report.html").read_text()[:200].lower()
