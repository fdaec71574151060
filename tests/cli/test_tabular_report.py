"""What the report says of rows: its scores, its threshold, what is unlike training, and which rows to look at first."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("typer")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from sklearn import metrics as sklearn_metrics

from caveat._estimators import load_model, sets_of, uncertainty_of
from caveat.cli._cli import main
from caveat.cli._tabular_drift import drifts_of
from caveat.cli._tabular_report import confusion_sections, headline, report_html
from caveat.cli._tabular_rows import answer_text, choose_rows, truth_text, why
from caveat.cli._tabular_scores import Score, scores_of
from caveat.cli._tabular_tested import TABLES, ask
from caveat.cli._tabular_tested import Tested as Rows
from caveat.predictive import Gaussian

KINDS = ("low", "middle", "high")


def write(path: Path, rows: int, seed: int, *, strange: int = 0) -> Path:
    """Rows of three classes and a number; the first are as strange as each other."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "color", "age", "price", "kind"])
        for number in range(rows):
            size, age = random.uniform(1, 9), random.uniform(0, 5)
            price = 3 * size + age + random.normal()
            kind = KINDS[min(int((price + 2 * random.normal()) / 11), 2)] if price > 0 else "low"
            color = "violet" if number < strange else ("red", "blue")[number % 2]
            writer.writerow([f"{size:.3f}", color, f"{50 if number < strange else age:.3f}", f"{price:.3f}", kind])
    return path


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()[1:]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write(folder / "train.csv", 300, 0)
    write(folder / "test.csv", 200, 1, strange=10)
    quick = ["--members", "2", "--epochs", "10", "--draws", "10", "--json"]
    for target, other in (("price", "kind"), ("kind", "price")):
        given = ["fit", str(folder / "train.csv"), "--target", target, "--drop", other, "--out", str(folder / target)]
        assert main([*given, *quick]) == 0
    write(folder / "more.csv", 400, 2)
    assert main(["decide", str(folder / "kind"), str(folder / "more.csv"), "--budget", "0.3", "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def kinds(place: Path) -> Rows:
    return ask(load_model(TABLES, place / "kind"), place / "test.csv", 10_000, None, lambda done: None)


@pytest.fixture(scope="module")
def prices(place: Path) -> Rows:
    return ask(load_model(TABLES, place / "price"), place / "test.csv", 10_000, None, lambda done: None)


def named(scores: list[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores}


def test_every_interval_holds_its_value(kinds: Rows, prices: Rows) -> None:
    """That of the calibration error too, whose resamples are biased."""
    for tested in (kinds, prices):
        assert all(score.low <= score.value <= score.high for score in scores_of(tested))


@pytest.mark.parametrize("resampled", [30, 1000])
def test_no_interval_of_a_share_leaves_0_to_1(kinds: Rows, monkeypatch: pytest.MonkeyPatch, resampled: int) -> None:
    """Of nearly perfect answers, and also where few of the rows are resampled, none of which may be wrong."""
    monkeypatch.setattr("caveat.cli._tabular_scores._RESAMPLED_AT_MOST", resampled)
    shares = {"accuracy", "expected_calibration_error", "auroc", "error_auroc", "coverage_90"}
    seen: set[str] = set()
    for wrong in (1, 2, 3, 30):
        truth = kinds.pred.moments.mean.argmax(1)
        truth[:wrong] = (truth[:wrong] + 1) % 3
        scores = named(scores_of(dataclasses.replace(kinds, truth=truth)))
        seen |= shares & set(scores)
        for score in (scores[name] for name in shares & set(scores)):
            if score.low is None or score.high is None:
                assert resampled == 30
                assert score.name == "auroc"
                continue
            assert 0 <= score.low <= score.value <= score.high <= 1
        assert 1 <= scores["size_90"].low <= scores["size_90"].high <= 3
    assert seen == shares


@pytest.mark.parametrize("rows", [1, 30])
def test_answers_that_are_all_right_may_be_wrong_in_other_files(kinds: Rows, prices: Rows, rows: int) -> None:
    pred: Any = kinds.pred.rows(torch.arange(rows))
    scores = named(scores_of(dataclasses.replace(kinds, pred=pred, truth=pred.predicted), 20))
    exact = 0.025 ** (1 / rows)  # Clopper and Pearson: so many right in a row come about one time in 40
    for name in ("accuracy", "coverage_90"):
        score = scores[name]
        assert (score.value, score.low, score.high) == (1, pytest.approx(exact, abs=1e-6), 1)
    assert all(score.low is None or score.low < score.high for score in scores.values())
    numbers: Any = prices.pred.rows(torch.arange(rows))
    scores = named(scores_of(dataclasses.replace(prices, pred=numbers, truth=numbers.moments.mean.double()), 20))
    assert scores["coverage_90"].low == pytest.approx(exact, abs=1e-6)


def test_classes_have_their_auroc_and_the_coverage_of_their_sets(kinds: Rows) -> None:
    scores, p = named(scores_of(kinds, 20)), kinds.pred.moments.mean
    truth = kinds.truth.numpy()
    each = [sklearn_metrics.roc_auc_score(truth == k, p[:, k].numpy()) for k in range(3)]
    assert scores["auroc"].value == pytest.approx(np.mean(each), abs=1e-6)
    by = uncertainty_of(kinds.model, kinds.pred, "predictive_entropy").numpy()
    assert scores["error_auroc"].value == pytest.approx(sklearn_metrics.roc_auc_score(kinds.wrong.numpy(), by))
    pred: Any = kinds.pred
    sets = sets_of(kinds.model.calibration.scores, pred, 0.9)
    assert scores["coverage_90"].value == pytest.approx(float(sets[torch.arange(200), kinds.truth].double().mean()))
    assert scores["size_90"].value == pytest.approx(float(sets.double().sum(1).mean()))


def test_the_confusion_table_counts_every_row_once(kinds: Rows) -> None:
    (section,) = confusion_sections(kinds)
    cells = [int(n) for n in re.findall(r"<td>(?:<b>)?(\d+)(?:</b>)?</td>", section)]
    counts = sklearn_metrics.confusion_matrix(kinds.truth.numpy(), kinds.pred.predicted.numpy(), labels=range(3))  # pyright: ignore
    assert cells == counts.reshape(-1).tolist()


def test_unlike_training_means_one_thing_everywhere(place: Path, kinds: Rows) -> None:
    """Of the rows, of each column, and of the reasons: outside the range, or new."""
    seen = np.array([[float(cell) for cell in (row[0], row[2])] for row in rows_of(place / "train.csv")])
    asked = np.array([[float(cell) for cell in (row[0], row[2])] for row in rows_of(place / "test.csv")])
    outside = (asked < seen.min(0)) | (asked > seen.max(0))
    new = np.array([row[1] == "violet" for row in rows_of(place / "test.csv")])
    assert kinds.unlike.any(1).tolist() == (outside.any(1) | new).tolist()
    found = {drift.column: drift.new for drift in drifts_of(kinds)}
    assert found == {"size": outside[:, 0].mean(), "age": outside[:, 1].mean(), "color": 0.05}
    assert "age 50 is outside" in why(kinds, 0)
    assert "color violet is new" in why(kinds, 0)
    page = report_html(kinds, drifts_of(kinds), scores_of(kinds, 5), None)
    assert f"{(outside.any(1) | new).mean():.1%} of the rows hold a value unlike training" in page


def test_rows_to_look_at_differ_from_each_other(prices: Rows) -> None:
    by = torch.arange(200.0).flip(0)  # the ten strange rows, which are strange alike, come first
    chosen = choose_rows(prices, by, [])
    assert len(chosen) == len(set(chosen)) == 8
    assert chosen[0] == 0
    assert sum(row < 10 for row in chosen) <= 2
    assert chosen == sorted(chosen)
    assert not set(chosen) & set(choose_rows(prices, by, chosen))


@pytest.mark.parametrize(
    ("truth", "answer", "deviation", "shown"),
    [
        (5412348.123, 5412347.852, 0.049, ("5412348.123", "5412347.852 ± 0.049")),
        (251987.4, 252134.0, 4900.0, ("251987", "252100 ± 4900")),
        (4.25, 250.0, 210.0, ("4.25", "250 ± 210")),
        (1e-7, 2e-7, 3e-8, ("0.000000100", "0.000000200 ± 0.000000030")),
    ],
)
def test_the_truth_has_the_digits_of_the_answer(
    truth: float, answer: float, deviation: float, shown: tuple[str, str]
) -> None:
    pred = Gaussian.from_draws(torch.tensor([[[answer]], [[answer]]], dtype=torch.float64), deviation**2)
    model = SimpleNamespace(target=None)
    tested: Any = SimpleNamespace(model=model, pred=pred, truth=torch.tensor([[truth]], dtype=torch.float64))
    assert (truth_text(tested, 0), answer_text(tested, 0)) == shown


def test_the_headline_gives_each_target_its_own_error() -> None:
    def title(*errors: float) -> str:
        names = tuple(f"y{number}" for number in range(len(errors)))
        model = SimpleNamespace(target=SimpleNamespace(names=names), kind=SimpleNamespace(rows="rows"))
        tested: Any = SimpleNamespace(model=model, pred=None, truth=torch.zeros(300, len(errors)))
        scores = [Score(f"root_mean_squared_error y{n}", "", error, 0, 1, "") for n, error in enumerate(errors)]
        return headline(tested, [*scores, Score("crps y0", "", 7.0, 6, 8, "")])

    assert title(29.69, 0.03198) == "y0: off by 29.7, y1: off by 0.032 on 300 rows (root mean square)"
    assert title(*range(1, 8)).endswith("y3: off by 4, 3 more below on 300 rows (root mean square)")


@pytest.mark.slow
def test_the_effect_of_the_threshold_comes_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = place / "r.html"
    assert main(["evaluate", str(place / "kind"), str(place / "test.csv"), "--report", str(report), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["policy"]
    page = report.read_text()
    effect = f"{said['answered']:.1%} answered, {said['risk_answered']:.1%} of these wrong"
    assert page.index(effect) < page.index("What its threshold does") < page.index("Its scores on these rows")
    assert said["risk_all"] == pytest.approx(
        said["answered"] * said["risk_answered"] + (1 - said["answered"]) * said["risk_deferred"]
    )
    assert f"<td>{said['risk_deferred']:.1%}</td>" in page


def test_what_nothing_calibrates_says_so_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model, out = str(write(tmp_path / "few.csv", 15, 0)), str(tmp_path / "m"), tmp_path / "p.csv"
    few = ["--target", "price", "--drop", "kind", "--members", "1", "--epochs", "2", "--draws", "5"]
    assert main(["fit", data, *few, "--out", model]) == 0
    assert "calibration: none, too few rows to spare any" in capsys.readouterr().out
    assert "Calibration: none, too few rows" in (tmp_path / "m" / "README.md").read_text()
    assert main(["predict", model, data, "--out", str(out)]) == 0
    assert "Calibration: none, too few rows" in capsys.readouterr().out
    assert {row["calibrated"] for row in csv.DictReader(out.read_text().splitlines())} == {"no"}
    assert main(["evaluate", model, data, "--report", str(tmp_path / "r.html")]) == 0
    assert "Calibrated by: none, too few rows" in capsys.readouterr().out
    page = (tmp_path / "r.html").read_text()
    assert page.index("It is not calibrated") < page.index("Its scores on these rows")
    assert "Intervals as written" not in page
