"""The commands for tables from end to end: their files, their numbers, and what they say of bad input."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("sklearn")

from caveat._tables import _chunks as tabular_files
from caveat.cli._cli import main

COLORS = ("red", "green", "blue")


def write(path: Path, rows: int, seed: int = 0) -> Path:
    """A table of numbers, categories and gaps, with a target of each kind."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "size", "color", "price", "sold"])
        for number in range(rows):
            size, color = random.uniform(1, 9), COLORS[random.integers(3)]
            price = 3 * size + 5 * (color == "red") + random.normal()
            shown = "" if number % 10 == 3 else f"{size:.3f}"
            writer.writerow([f"n{number}", shown, color, f"{price:.3f}", "yes" if price > 15 else "no"])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write(folder / "train.csv", 400)
    write(folder / "test.csv", 150, seed=1)
    quick = ["--drop", "id", "--members", "2", "--epochs", "15", "--draws", "12", "--json"]
    for target, other in (("price", "sold"), ("sold", "price")):
        out = str(folder / f"by_{target}")
        train = str(folder / "train.csv")
        assert main(["fit", train, "--target", target, "--drop", other, "--out", out, *quick]) == 0
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("command", ["fit", "predict", "evaluate", "decide", "calibrate"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example: caveat {command}" in " ".join(capsys.readouterr().out.split())


def test_numbers_from_end_to_end(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, test = str(place / "by_price"), str(place / "test.csv")
    out = tmp_path / "p.csv"
    assert main(["predict", model, test, "--out", str(out), "--keep", "id"]) == 0
    rows = rows_of(out)
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 151)]
    assert [row["id"] for row in rows] == [row["id"] for row in rows_of(place / "test.csv")]
    assert list(rows[0])[2:] == ["mean", "std", "low", "high", "epistemic", "aleatoric", "decision"]
    assert {row["decision"] for row in rows} == {"answer"}
    assert all(float(row["low"]) < float(row["mean"]) < float(row["high"]) for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv"]

    capsys.readouterr()
    assert main(["decide", model, test, "--budget", "0.2", "--json"]) == 0
    policy = json.loads(capsys.readouterr().out)
    assert policy["coverage"] == pytest.approx(0.8)
    assert main(["predict", model, test, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == {"answer": 120, "refer": 30}

    assert main(["calibrate", model, test, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policy_dropped"] is True


def test_classes_from_end_to_end(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, test = str(place / "by_sold"), str(place / "test.csv")
    out = tmp_path / "p.jsonl"
    assert main(["predict", model, test, "--out", str(out), "--level", "0.8"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    truth = [row["sold"] for row in rows_of(place / "test.csv")]
    assert np.mean([row["label"] == label for row, label in zip(rows, truth, strict=True)]) > 0.8
    assert all(row["label"] in row["interval"].split("|") for row in rows)
    assert all(row["probability"] == row[f"probability {row['label']}"] for row in rows)

    capsys.readouterr()
    assert main(["decide", model, test, "--human-cost", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measure"] == "predictive_entropy"


@pytest.mark.slow
def test_a_report_stands_alone(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    for target, wanted in (("price", "root_mean_squared_error"), ("sold", "accuracy")):
        report, test = tmp_path / "r.html", str(place / "test.csv")
        assert main(["evaluate", str(place / f"by_{target}"), test, "--report", str(report), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        metric = found["metrics"][wanted]
        assert metric["low"] < metric["value"] < metric["high"]
        assert set(found["drift"]) == {"size", "color"}
        page = report.read_text()
        assert page.count("data:image/png;base64,") == 5
        assert "http" not in page.replace("http-equiv", "")
        assert page.count("class='read small'") >= 7


def test_predictions_in_chunks_are_those_at_once(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, pieces = tmp_path / "a.csv", tmp_path / "b.csv"
    arguments = ["predict", str(place / "by_price"), str(place / "test.csv"), "--out"]
    assert main([*arguments, str(at_once)]) == 0
    in_pieces(monkeypatch, 7)
    assert main([*arguments, str(pieces)]) == 0
    for one, other in zip(rows_of(at_once), rows_of(pieces), strict=True):
        assert one["row"] == other["row"]
        assert float(one["mean"]) == pytest.approx(float(other["mean"]), rel=1e-5)


def in_pieces(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    read = tabular_files.read_chunks
    monkeypatch.setattr("caveat.cli._predict_command.read_chunks", lambda path, **other: read(path, rows, **other))


def test_an_interrupted_run_goes_on_with_no_row_twice_or_missing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "p.csv"
    arguments = ["predict", str(place / "by_price"), str(place / "test.csv"), "--json", "--out"]
    in_pieces(monkeypatch, 20)
    assert main([*arguments, str(whole)]) == 0
    interrupt_after(monkeypatch, 3)
    capsys.readouterr()
    assert main([*arguments, str(out)]) == 130
    assert capsys.readouterr().err == "caveat: interrupted; the same command goes on where this one stopped\n"
    assert not out.exists()
    with (tmp_path / ".p.csv.part").open("a") as file:
        file.write("999,half a row that had not been noted")
    monkeypatch.undo()
    in_pieces(monkeypatch, 20)
    capsys.readouterr()
    assert main([*arguments, str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_at"] == 60
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "whole.csv"]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, chunks: int) -> None:
    from caveat.cli import _predict_command as predict_command

    real: Callable[..., Any] = predict_command.predicted
    left = [chunks]

    def predicted(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(predict_command, "predicted", predicted)


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_goes_on_with(place: Path, tmp_path: Path) -> None:
    large = write(tmp_path / "large.csv", 60_000, seed=2)
    out = tmp_path / "p.csv"
    command = [sys.executable, "-c", "import sys; from caveat.cli._cli import main; sys.exit(main())"]
    command += ["predict", str(place / "by_price"), str(large), "--out", str(out), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    note = tmp_path / ".p.csv.progress"
    while not note.exists() and running.poll() is None:
        pass
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not out.exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["resumed_at"] > 0
    assert [row["row"] for row in rows_of(out)] == [str(number) for number in range(1, 60_001)]


BAD = {
    "empty.csv": b"",
    "header.csv": b"size,color,price\n",
    "mixed.csv": b"size,color,price\n1,red,2\nbig,red,3\n3,blue,4\n",
    "infinite.csv": b"size,color,price\n1,red,2\ninf,red,3\n3,blue,4\n",
    "latin.csv": "size,color,price\n1,rot,2\n2,grün,3\n".encode("latin-1"),
    "wide.csv": "size,color,price\n1,red,2\n".encode("utf-16"),
    "ragged.csv": b"size,color,price\n1,red,2\n2,red\n",
    "twice.csv": b"size,size,price\n1,2,3\n",
    "unlabeled.csv": b"size,color,price\n1,red,2\n2,blue,\n3,red,4\n",
    "broken.jsonl": b'{"size": 1, "price": 2}\n{"size": 2\n',
    "cut.csv.gz": gzip.compress(b"size,color,price\n" + b"1,red,2\n" * 900)[:-20],
    "no.parquet": b"PAR1 but not really",
    "table.xlsx": b"PK",
}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("nowhere.csv", "no such file"),
        ("empty.csv", "an empty file"),
        ("header.csv", "a header and no rows"),
        (
            "mixed.csv",
            "Column 'size' must hold numbers, or words, not both. Got: 2 of 3 values are numbers; 'big' at line 3",
        ),
        ("infinite.csv", "Column 'size' must hold finite numbers. Got: infinity (inf) at line 3 of infinite.csv"),
        ("latin.csv", "line 3 is not UTF-8"),
        ("wide.csv", "iconv -f utf-16"),
        ("ragged.csv", "line 3 has 2 cells, the header 3"),
        ("twice.csv", "column 'size' twice"),
        ("unlabeled.csv", "The target 'price' must be known in every row. Got: a missing value at line 3"),
        ("broken.jsonl", "line 2 is no JSON object"),
        ("cut.csv.gz", "cut.csv.gz must be a table"),
        ("no.parquet", "no.parquet must be a table"),
        ("table.xlsx", "a name that ends in .xlsx"),
    ],
)
def test_a_file_that_cannot_be_learned_from_is_told_in_one_line(
    file: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if file.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    if file in BAD:
        (tmp_path / file).write_bytes(BAD[file])
    out = tmp_path / "model"
    assert main(["fit", str(tmp_path / file), "--target", "price", "--out", str(out)]) == 2
    line = one_line(capsys)
    assert says in line
    assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name != file]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.strip()]
    assert line.startswith("caveat: ")
    assert "Traceback" not in printed.err
    return " ".join(line.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "cost"], "no column 'cost'"),
        (["--target", "price", "--drop", "cost"], "--drop must name columns"),
        (["--target", "price", "--kind", "words"], "--kind must be classes or numbers"),
        (["--target", "id"], "different classes"),
        (["--target", "price", "--method", "magic"], "method must be one of"),
        (["--target", "price", "--members", "0"], "members"),
    ],
)
def test_wishes_that_cannot_be_met(
    arguments: list[str], says: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(place / "train.csv"), "--out", str(tmp_path / "m"), *arguments]) == 2
    assert says in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_a_column_that_was_renamed_and_a_word_in_a_late_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_pieces(monkeypatch, 20)
    text = (place / "test.csv").read_text()
    cases = {
        "no column 'size'; columns that the model does not know: id, Size": text.replace("size", "Size", 1),
        "Column 'size' holds numbers. Got: 'large' at line 152": text + "n,large,red,1,no\n",
    }
    for says, content in cases.items():
        (tmp_path / "new.csv").write_text(content)
        out = tmp_path / "p.csv"
        assert main(["predict", str(place / "by_price"), str(tmp_path / "new.csv"), "--out", str(out)]) == 2
        assert says in one_line(capsys)
        assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_a_full_disk_leaves_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    test = str(place / "test.csv")
    assert main(["predict", str(place / "by_price"), test, "--out", str(tmp_path / "p.csv")]) == 2
    assert "No space left on device" in one_line(capsys)
    fast = ["--target", "price", "--drop", "id", "--members", "1", "--epochs", "1"]
    assert main(["fit", test, *fast, "--out", str(tmp_path / "m")]) == 2
    assert "No space left on device" in one_line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["decide", "MODEL", "TEST", "--human-cost", "-1"], "human_cost must be a finite number of at least 0; got -1"),
        (["decide", "MODEL", "TEST"], "Exactly one of risk, human_cost and budget"),
        (["decide", "MODEL", "TEST", "--risk", "0.1"], "tolerance must say"),
        (["decide", "MODEL", "TEST", "--budget", "0.1", "--confidence", "0.9"], "confidence 0.9 beside budget"),
        (["decide", "CLASSES", "TEST", "--risk", "0.1", "--tolerance", "1"], "tolerance 1 for the classes of 'sold'"),
        (["decide", "MODEL", "TEST", "--budget", "2"], "budget must be a fraction"),
        (["decide", "MODEL", "TEST", "--budget", "0.1", "--measure", "hunch"], "measure must be the name of a measure"),
        (["decide", "MODEL", "TEST", "--risk", "0.001", "--tolerance", "1"], "a larger risk or a smaller"),
        (["predict", "MODEL", "TEST", "--out", "p.xlsx"], "Predictions are written as CSV or as JSON lines"),
        (["predict", "MODEL", "TEST", "--out", "p.parquet.gz"], "Fix: --out p.csv"),
        (["fit", "TEST", "--target", "price", "--out", "m", "--draws", "0"], "--draws must be at least 2"),
        (["predict", "MODEL", "TEST", "--out", "p.csv", "--level", "90"], "--level must lie between 0 and 1"),
        (["predict", "MODEL", "TEST", "--out", "p.csv", "--keep", "nothing"], "no column 'nothing'"),
        (["predict", "nowhere", "TEST", "--out", "p.csv"], "A model is a folder with caveat.json in it"),
        (["evaluate", "MODEL", "TEST", "--report", "no/such/folder/r.html"], "--report must name a file"),
    ],
)
def test_other_mistakes(
    arguments: list[str],
    says: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    named = {"MODEL": str(place / "by_price"), "CLASSES": str(place / "by_sold"), "TEST": str(place / "test.csv")}
    assert main([named.get(argument, argument) for argument in arguments]) == 2
    assert says in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_other_formats_are_read_alike(place: Path, tmp_path: Path) -> None:
    rows = rows_of(place / "test.csv")
    content = (place / "test.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbf" + content.replace(b",", b";"))
    typed = [{**row, "size": float(row["size"]) if row["size"] else None, "price": float(row["price"])} for row in rows]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in typed))
    names = ["a.csv", "b.csv.gz", "c.csv", "d.jsonl"]
    try:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(typed), tmp_path / "e.parquet")
        names.append("e.parquet")
    except ImportError:
        pass
    found: list[bytes] = []
    for name in names:
        out = tmp_path / "out.csv"
        assert main(["predict", str(place / "by_sold"), str(tmp_path / name), "--out", str(out)]) == 0
        found.append(out.read_bytes())
    assert len(set(found)) == 1


def test_a_fit_that_was_interrupted_goes_on_and_ends_in_the_same_model(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--target", "price", "--drop", "id", "--members", "2", "--epochs", "8", "--draws", "12", "--json"]
    arguments = ["fit", str(place / "train.csv"), *quick, "--out"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    interrupt_second_training(monkeypatch)
    assert main([*arguments, str(tmp_path / "m")]) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.fit", "whole"]
    monkeypatch.undo()
    capsys.readouterr()
    assert main([*arguments, str(tmp_path / "m")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["resumed"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "whole"]
    for name in ("model.safetensors",):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def interrupt_second_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from caveat.tabular import _training as training

    real: Callable[..., Any] = training.fit_ensemble
    calls: list[int] = []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(training, "fit_ensemble", interrupted)


def test_a_fit_of_other_rows_or_settings_starts_afresh(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--target", "price", "--drop", "id", "--members", "2", "--epochs", "4", "--json"]
    arguments = ["fit", str(place / "train.csv"), *quick, "--out", str(tmp_path / "m")]
    interrupt_second_training(monkeypatch)
    assert main(arguments) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert main([*arguments, "--seed", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_people_read_is_in_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, test = str(place / "by_price"), str(place / "test.csv")
    assert main(["evaluate", model, test]) == 0
    assert "Coverage of 90 % intervals" in capsys.readouterr().out
    assert main(["calibrate", model, test]) == 0
    printed = capsys.readouterr().out
    assert "before: coverage of 90 percent intervals 0." in printed
    assert "{" not in printed
    assert "[" not in printed
    assert main(["decide", model, test, "--budget", "0.2"]) == 0
    assert "risk" not in capsys.readouterr().out  # without a tolerance nothing says what a wrong answer is


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="limits of file size are POSIX")
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_process_whose_files_may_not_grow_leaves_nothing(command: str, place: Path, tmp_path: Path) -> None:
    import resource

    test, out = str(place / "test.csv"), str(tmp_path / "out.csv")
    given = {
        "fit": ["fit", test, "--target", "price", "--drop", "id", "--members", "1", "--epochs", "1", "--out", out],
        "predict": ["predict", str(place / "by_price"), test, "--out", out],
    }[command]
    line = [sys.executable, "-c", "import sys; from caveat.cli._cli import main; sys.exit(main())", *given]
    limit = 4096

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(line, preexec_fn=limited, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 2
    assert "File too large; nothing was left behind" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
