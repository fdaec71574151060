"""Commands for tables say what is true: digits, kept columns, policies in their own unit, drift that is no chance."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("sklearn")

from caveat._estimators import Classes
from caveat._tables import Chunk, NumberColumn, as_objects
from caveat.cli._cli import main
from caveat.cli._tabular_drift import chance_of, count_numbers, stability_index
from caveat.cli._tabular_rows import answer_text
from caveat.cli._tabular_tested import truth_of
from caveat.errors import InvalidDataError
from caveat.predictive import Gaussian

QUICK = ["--epochs", "4", "--members", "1", "--draws", "12"]


def write(path: Path, header: str, rows: Iterable[Iterable[Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return str(path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_ends_of_intervals_are_written_with_the_digits_that_their_width_needs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.uniform(0, 1, 400)
    y = 5412345678 + 3 * x + random.normal(0, 0.2, 400)
    data = write(tmp_path / "t.csv", "x,y", ((f"{a:.6f}", f"{b:.4f}") for a, b in zip(x, y, strict=True)))
    assert main(["fit", data, "--target", "y", "--out", str(tmp_path / "m"), "--epochs", "20", "--members", "1"]) == 0
    assert main(["predict", str(tmp_path / "m"), data, "--out", str(tmp_path / "p.csv")]) == 0
    low, high = (np.array([float(row[end]) for row in rows_of(tmp_path / "p.csv")]) for end in ("low", "high"))
    assert np.mean((y >= low) & (y <= high)) > 0.85  # with seven digits most intervals had no width


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_kept_columns_lose_and_change_nothing(ending: str, tmp_path: Path) -> None:
    rows = [
        [1000 + n, "007", " padded ", '"quoted", twice', "1.10", "x\ny", n % 50, 2 * (n % 50) + n % 3]
        for n in range(60)
    ]
    data = write(tmp_path / "t.csv", "row,mean,decision,text,version,lines,x,y", rows)
    names = ["row", "mean", "decision", "text", "version", "lines"]
    drop = [word for name in names for word in ("--drop", name)]
    assert main(["fit", data, "--target", "y", *drop, "--out", str(tmp_path / "m"), *QUICK]) == 0
    keep = [word for name in names for word in ("--keep", name)]
    out = tmp_path / f"p.{ending}"
    assert main(["predict", str(tmp_path / "m"), data, "--out", str(out), *keep]) == 0
    found = rows_of(out) if ending == "csv" else [json.loads(line) for line in out.read_text().splitlines()]
    kept = {name: f"{name} (kept)" if name in ("row", "mean", "decision") else name for name in names}
    originals = rows_of(tmp_path / "t.csv")
    for name, called in kept.items():
        if name != "decision":  # spaces before a cell that is not quoted are no part of it
            assert [row[called] for row in found] == [row[name] for row in originals]
    assert [int(row["row"]) for row in found] == list(range(1, 61))
    assert {row["decision"] for row in found} == {"answer"}


def test_kept_columns_of_a_parquet_file_are_exact(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {
            "id": pandas.array([2**60 + n if n else None for n in range(60)], dtype="Int64"),
            "zoned": pandas.date_range("2024-01-01", periods=60, freq="h", tz="America/New_York"),
            "naive": pandas.date_range("2024-01-01", periods=60, freq="ms"),
            "single": np.linspace(0, 1, 60).astype(np.float32),
            "y": np.arange(60.0),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    data, model, out = str(tmp_path / "t.parquet"), str(tmp_path / "m"), tmp_path / "p.csv"
    assert main(["fit", data, "--target", "y", "--drop", "id", "--out", model, *QUICK]) == 0
    keep = [word for name in ("id", "zoned", "naive", "single") for word in ("--keep", name)]
    assert main(["predict", model, data, "--out", str(out), *keep]) == 0
    found = rows_of(out)
    assert [row["id"] for row in found] == ["", *(str(2**60 + n) for n in range(1, 60))]
    assert [pandas.Timestamp(row["zoned"]) for row in found] == list(frame["zoned"])
    assert [pandas.Timestamp(row["naive"]) for row in found] == list(frame["naive"])
    assert [np.float32(row["single"]) for row in found] == list(frame["single"])


def test_fit_says_how_it_read_each_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        [f"n{n}", f"{1000 + n * 7.5:.2f}".replace(".", ",") + " €", f"{1 + n % 28:02d}.{1 + n % 12:02d}.2020", n % 5]
        for n in range(80)
    ]
    rows[7][2] = "30.02.2021"
    data = write(tmp_path / "t.csv", "name,price,when,size,y", [[*row, f"{n / 7:.3f}"] for n, row in enumerate(rows)])
    arguments = ["fit", data, "--target", "y", "--out", str(tmp_path / "m"), *QUICK]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "price  number (decimal comma, in €)" in printed
    assert "when   date (day first)" in printed
    assert "size   number" in printed
    assert "warning: column 'name': 80 different values in 80 rows" in printed
    assert "1 of the dates do not exist, such as '30.02.2021'" in printed
    found = {column["name"]: column for column in asked(capsys, *arguments)["columns"]}
    assert found["price"] == {"name": "price", "kind": "number", "read_as": "decimal comma, in €"}
    assert main(["predict", str(tmp_path / "m"), data, "--out", str(tmp_path / "p.csv")]) == 0


def test_a_mistake_in_a_target_is_mended_as_one_of_a_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[n / 7, "oops" if n == 9 else n % 20] for n in range(80)]
    data = write(tmp_path / "t.csv", "x,y", rows)
    arguments = ["fit", data, "--target", "y", "--out", str(tmp_path / "m"), *QUICK]
    for more in ([], ["--kind", "numbers"]):
        assert main([*arguments, *more]) == 2
        said = capsys.readouterr().err
        assert "'oops' at line 11" in said
        assert "--kind classes" in said
        assert "--category" not in said
    assert main([*arguments, "--kind", "classes"]) == 0
    for option, fix in (("--category", "--kind classes"), ("--drop", "leave --drop away")):
        assert main([*arguments, "--kind", "classes", option, "y"]) == 2
        said = capsys.readouterr().err
        assert f"{option} must name columns beside the target" in said
        assert fix in said


def test_a_target_in_local_dress_is_read_alike_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[n % 40, f"{1000.5 + 10 * (n % 40) + n % 7:,.2f}".translate({44: ".", 46: ","})] for n in range(120)]
    data = write(tmp_path / "t.csv", "x,y", rows)
    plain = write(tmp_path / "p.csv", "x,y", [[x, y.replace(".", "").replace(",", ".")] for x, y in rows])
    errors: list[float] = []
    for file in (data, plain):
        model = str(tmp_path / f"{Path(file).stem}_m")
        assert main(["fit", file, "--target", "y", "--out", model, *QUICK]) == 0
        errors.append(asked(capsys, "evaluate", model, file)["metrics"]["root_mean_squared_error"]["value"])
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


@pytest.mark.parametrize("labels", [("1", "1.0"), ("True", "true"), ("A", "A "), ("no", "yes")])
def test_classes_that_python_keeps_apart_are_kept_apart_in_a_file(labels: tuple[str, str]) -> None:
    model: Any = SimpleNamespace(target=Classes("y", labels, (1, 1)))
    cells = [*reversed(labels), *labels]
    assert truth_of(model, chunk_of(cells)).tolist() == [1, 0, 0, 1]


def test_a_cell_that_may_be_either_of_two_classes_is_refused() -> None:
    model: Any = SimpleNamespace(target=Classes("y", ("True", "true", "2.0"), (1, 1, 1)))
    assert truth_of(model, chunk_of([2, "2", True, "true"])).tolist() == [2, 2, 0, 1]
    with pytest.raises(InvalidDataError, match=r"'TRUE' at line 3 of t.csv; known are 'True', 'true', '2.0'"):
        truth_of(model, chunk_of(["true", "TRUE"]))


def chunk_of(cells: list[Any]) -> Chunk:
    return Chunk({"y": as_objects(cells)}, np.arange(2, len(cells) + 2), "t.csv", 1.0)


def test_codes_are_one_category_whether_written_with_a_point_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(1, 6, 300)
    y = 3 * codes + random.normal(0, 0.1, 300)
    with_gaps = [["" if n % 40 == 0 else f"{code}.0", y[n]] for n, code in enumerate(codes)]
    train = write(tmp_path / "train.csv", "code,y", with_gaps)
    whole = write(tmp_path / "whole.csv", "code,y", zip(codes, y, strict=True))
    model = str(tmp_path / "m")
    more = ["--category", "code", "--epochs", "30", "--members", "1"]
    assert main(["fit", train, "--target", "y", "--kind", "numbers", "--out", model, *more]) == 0
    first, second = (
        asked(capsys, "evaluate", model, file)["metrics"]["root_mean_squared_error"]["value"] for file in (train, whole)
    )
    assert second < 1.3 * first


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression with a policy, and the file that it is tried on."""
    folder = tmp_path_factory.mktemp("decided")
    random = np.random.default_rng(1)
    for name in ("train", "val", "test"):
        a, b = random.uniform(0, 10, 400), random.uniform(0, 4, 400)
        y = 3 * a + random.normal(0, 0.3 + b)
        write(folder / f"{name}.csv", "a,b,y", zip(a.round(3), b.round(3), y.round(4), strict=True))
    model = str(folder / "m")
    more = ["--epochs", "20", "--members", "1", "--draws", "20"]
    assert main(["fit", str(folder / "train.csv"), "--target", "y", "--out", model, *more]) == 0
    assert main(["decide", model, str(folder / "val.csv"), "--risk", "0.2", "--tolerance", "3"]) == 0
    return folder


def test_the_risk_of_a_policy_is_the_fraction_of_answers_beyond_the_tolerance(
    decided: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    model, data, report = str(decided / "m"), str(decided / "test.csv"), decided / "r.html"
    policy = asked(capsys, "evaluate", model, data)["policy"]
    out = decided / "p.csv"
    assert main(["predict", model, data, "--out", str(out)]) == 0
    pairs = zip(rows_of(out), rows_of(decided / "test.csv"), strict=True)
    wrong = [abs(float(p["mean"]) - float(t["y"])) > 3 for p, t in pairs if p["decision"] == "answer"]
    assert policy["risk_answered"] == pytest.approx(np.mean(wrong), abs=1e-9)
    assert policy["answered"] == pytest.approx(len(wrong) / 400)
    capsys.readouterr()
    assert main(["evaluate", model, data, "--report", str(report)]) == 0
    said = f"{policy['answered']:.1%} answered, {policy['risk_answered']:.1%} of these off by more than 3"
    assert said in capsys.readouterr().out
    assert said in report.read_text()


def test_a_threshold_is_in_the_unit_of_a_column_of_the_predictions(
    decided: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data, out = str(decided / "m"), str(decided / "test.csv"), decided / "p.csv"
    threshold = asked(capsys, "evaluate", model, data)["policy"]["threshold"]
    assert main(["predict", model, data, "--out", str(out)]) == 0
    rows = rows_of(out)
    assert [row["decision"] == "answer" for row in rows] == [float(row["uncertainty"]) <= threshold for row in rows]
    assert [float(row["uncertainty"]) for row in rows] == pytest.approx([float(row["std"]) for row in rows], rel=1e-6)


def test_a_level_that_so_few_rows_cannot_tell_is_refused(decided: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = json.loads((decided / "m" / "caveat.json").read_text())["summary"]["rows_held_out"]
    arguments = ["predict", str(decided / "m"), str(decided / "test.csv"), "--out", str(decided / "q.csv"), "--level"]
    assert main([*arguments, str(held / (held + 1))]) == 0
    capsys.readouterr()
    assert main([*arguments, str((held + 1) / (held + 2))]) == 2
    assert f"{held} held-out rows" in capsys.readouterr().err


def test_a_table_without_features_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = write(tmp_path / "only.csv", "y", [[n / 3] for n in range(40)])
    both = write(tmp_path / "both.csv", "x,y", [[n, n / 3] for n in range(40)])
    for arguments in ([only], [both, "--drop", "x"]):
        assert main(["fit", *arguments, "--target", "y", "--out", str(tmp_path / "m"), *QUICK]) == 2
        assert "At least one column must be left" in capsys.readouterr().err


def test_a_number_that_no_float_holds_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f'{{"x": {"1" + "0" * 400 if n == 7 else n}, "y": 1.5}}' for n in range(40)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    data = str(tmp_path / "t.jsonl")
    assert main(["fit", data, "--target", "y", "--kind", "numbers", "--out", str(tmp_path / "m"), *QUICK]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "infinity" in line
    assert "line 8" in line


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_categories_that_a_file_declares_are_categories(ending: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    codes = pandas.Categorical([1, 2, 3] * 20)
    frame = pandas.DataFrame({"g": codes, "s": codes.astype(str).astype("category"), "y": np.arange(60.0)})
    data = tmp_path / f"t.{ending}"
    getattr(frame, f"to_{ending}")(data)
    assert main(["fit", str(data), "--target", "y", "--out", str(tmp_path / "m"), *QUICK]) == 0
    schema = json.loads((tmp_path / "m" / "caveat.json").read_text())["schema"]
    assert [(column["kind"], column["categories"]) for column in schema] == [("category", ["1", "2", "3"])] * 2


@pytest.mark.parametrize("bins", [2, 10, 200])
@pytest.mark.parametrize("rows", [(120, 58), (5000, 60), (400, 400)])
def test_a_random_split_has_not_moved(bins: int, rows: tuple[int, int]) -> None:
    random = np.random.default_rng(bins)
    population = random.dirichlet(np.ones(bins))
    tails = []
    for _ in range(100):
        then, now = (random.multinomial(count, population) for count in rows)
        tails.append(chance_of(then, now)[1])
    assert np.mean(np.array(tails) < 0.01) <= 0.05  # one in a hundred is expected: five or more, one time in 30


def test_a_shift_has_moved() -> None:
    then, now = np.full(10, 50), np.array([1, 1, 2, 3, 5, 8, 10, 12, 14, 16])
    index = float(stability_index(then, now))
    mean, tail = chance_of(then, now)
    assert index - mean > 0.25
    assert tail < 1e-4


def test_a_wide_spread_is_written_without_an_exponent() -> None:
    pred = Gaussian.from_draws(torch.tensor([[[100.0]], [[400.0]]]), 0.0)
    tested: Any = SimpleNamespace(model=SimpleNamespace(target=None), pred=pred)
    assert answer_text(tested, 0) == "250 ± 210"


def test_a_share_of_missing_values_that_moved_has_moved() -> None:
    column = NumberColumn("x", 0.0, 1.0, 0.0, 9.0, 10, tuple(map(float, range(10))), tuple(np.arange(1, 11) / 10))
    random = np.random.default_rng(0)
    values = random.integers(0, 10, 200).astype(float)
    few, most = values.copy(), values.copy()
    few[:10], most[:120] = np.nan, np.nan
    for now, moved in ((few, False), (most, True)):
        counts = count_numbers(column, now, 200)
        assert [int(each.sum()) for each in counts] == [200, 200]
        assert (chance_of(*counts)[1] < 1e-4) == moved


def test_dates_that_do_not_exist_in_the_order_of_training_are_said_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = [(1 + n % 28, 1 + n % 12, n) for n in range(120)]
    train = write(tmp_path / "train.csv", "when,y", [[f"{d:02d}/{m:02d}/2020", f"{n / 7:.3f}"] for d, m, n in days])
    other = write(tmp_path / "other.csv", "when,y", [[f"{m:02d}/{d:02d}/2020", f"{n / 7:.3f}"] for d, m, n in days])
    count = sum(d > 12 for d, _, _ in days)
    first = next(row for row, (d, _, _) in enumerate(days) if d > 12)
    said = (
        f"column 'when': {count} of the dates (read day first, as in training) do not exist, such as "
        f"'{first % 12 + 1:02d}/{first + 1}/2020' at line {first + 2} of other.csv: taken for missing"
    )
    model, out = str(tmp_path / "m"), str(tmp_path / "p.csv")
    assert main(["fit", train, "--target", "y", "--out", model, *QUICK]) == 0
    commands = {
        "predict": ["--out", out],
        "evaluate": ["--report", str(tmp_path / "r.html")],
        "decide": ["--risk", "0.5", "--tolerance", "1000"],
        "calibrate": [],
    }
    for command, more in commands.items():
        capsys.readouterr()
        assert main([command, model, other, *more]) == 0
        assert f"warning: {said}\n" in capsys.readouterr().out
        assert asked(capsys, command, model, other, *more)["warnings"] == [said]
        assert "warnings" not in asked(capsys, command, model, train, *more)
    assert len(rows_of(tmp_path / "p.csv")) == 120
    assert {row["decision"] for row in rows_of(tmp_path / "p.csv")} == {"answer"}
    drift = asked(capsys, "evaluate", model, other)["drift"]["when (day)"]
    assert (drift["moved"], drift["new"]) == ("much", pytest.approx(count / 120))
    assert main(["evaluate", model, other, "--report", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "Warning: column" in page
    assert f"missing: 0.0% then, {count / 120:.1%} now" in page


@pytest.mark.parametrize("command", ["predict", "evaluate", "decide", "calibrate"])
def test_a_key_that_is_misspelled_in_some_rows_is_no_missing_value(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": n, "size": n % 7, "color": "red" if n % 2 else "blue", "y": n / 3} for n in range(60)]
    data, model = tmp_path / "rows.jsonl", str(tmp_path / "m")
    options = {"predict": ["--out", str(tmp_path / "p.csv"), "--keep", "id"], "decide": ["--budget", "0.2"]}
    given = [command, model, str(data), *options.get(command, [])]

    def run(*rows: dict[str, Any]) -> int:
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return main(given)

    table = write(tmp_path / "t.csv", ",".join(rows[0]), (row.values() for row in rows))
    assert main(["fit", table, "--target", "y", "--drop", "id", "--out", model, *QUICK]) == 0
    left_out = {name: value for name, value in rows[0].items() if name != "color"}
    assert run(left_out, *rows) == 0
    capsys.readouterr()
    (tmp_path / "p.csv").unlink(missing_ok=True)
    assert run(*rows, {**left_out, "colour": "red"}) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'colour' and no 'color' at line 61 of rows.jsonl" in said
    assert not (tmp_path / "p.csv").exists()


def test_a_class_that_is_called_like_a_missing_value_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from caveat.tabular import Classifier

    random = np.random.default_rng(0)
    x = random.normal(size=300)
    labels = np.array(["NA", "none", "EU"])[(x > 0.5).astype(int) + 2 * (x < -0.5)]
    model = Classifier(members=1, epochs=20, draws=12).fit({"x": x}, labels)
    model.save(tmp_path / "m")
    data = write(tmp_path / "t.csv", "x,y", zip(x.tolist(), labels, strict=True))
    found = asked(capsys, "evaluate", tmp_path / "m", data)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(model.score({"x": x}, labels))
    gap = write(tmp_path / "gap.csv", "x,y", [(0.1, "NA"), (0.2, "")])
    assert main(["evaluate", str(tmp_path / "m"), gap]) == 2
    assert "Got: a missing value at line 3" in capsys.readouterr().err.replace("\n", " ")
    assert main(["fit", data, "--target", "y", "--out", str(tmp_path / "n")]) == 2
    assert "which stands for a missing value" in capsys.readouterr().err.replace("\n", " ")


def test_one_row_is_too_few_to_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "t.csv", "x,y", [(0.5, 1.5)])
    assert main(["fit", data, "--target", "y", "--out", str(tmp_path / "m"), *QUICK]) == 2
    assert "at least two rows" in capsys.readouterr().err
