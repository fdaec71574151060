"""The command line: help, one-line errors with exit code 2, and the audit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import caveat
import caveat.cli._cli as cli
from caveat.cli._cli import main
from caveat.errors import MissingExtraError

pytest.importorskip("typer")
pytest.importorskip("rich")

FACTORIES = """
import torch
from torch import nn

def both():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3)), torch.zeros(2, 4)

def ill_fitting():
    return both()[0], torch.zeros(2, 5)

def alone():
    return nn.Linear(4, 3)

def neither():
    return 3

def broken():
    raise RuntimeError("no weights here")

number = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `factories_of_mine` in the current folder."""
    (tmp_path / "factories_of_mine.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("command", [[], ["--help"], ["demo", "--help"], ["audit", "--help"], ["doctor", "--help"]])
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    assert "Example: caveat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demo", "--digit", "10"], "--digit must be a class in 0..9; got 10."),
        (["demo", "--digit", "six"], "--digit"),
        (["demo", "--index", "100000"], "--index must be the number of a test image, 0..359; got 100000."),
        (["demo", "--draws", "1"], "--draws must be at least 2, to have a spread; got 1."),
        (["demo", "--draws", "0"], "--draws must be at least 2, to have a spread; got 0."),
        (["demo", "--epochs", "0"], "--epochs must be at least 1; got 0."),
        (["demo", "--threads", "0"], "--threads must be at least 1; got 0."),
        (["demo", "--data", "nowhere"], "--data must name a folder with train.npz and test.npz"),
        (["demo", "--out", "taken"], "--out must name a folder that can be written to"),
        (["demo", "--no-such-option"], "--no-such-option"),
        (["nonsense"], "nonsense"),
        (["audit"], "MODULE:FUNCTION"),
        (["audit", "factories_of_mine"], "module:function"),
        (["audit", "last.ckpt"], "torch.load('last.ckpt', weights_only=True)['state_dict']"),
        (["audit", "no_such_module_here:make"], "no_such_module_here cannot be imported"),
        (["audit", "factories_of_mine:nothing"], "has no function 'nothing'"),
        (["audit", "factories_of_mine:number"], "has no function 'number'"),
        (["audit", "factories_of_mine:alone"], "let it return (model, example_input)"),
        (["audit", "factories_of_mine:neither"], "must return (model, example_input); it returned int"),
        (["audit", "factories_of_mine:broken"], "RuntimeError: no weights here"),
        (["audit", "factories_of_mine:ill_fitting"], "The network must run on the batch. Got: RuntimeError: mat1 and"),
        (["doctor", "factories_of_mine:ill_fitting"], "The network must run on the batch. Got: RuntimeError: mat1 and"),
    ],
)
@pytest.mark.usefixtures("factories")
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("a file")
    out = [] if "--out" in arguments or arguments[0] != "demo" else ["--out", "out"]
    assert main([*arguments, *out]) == 2
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.strip()]
    assert line.startswith("caveat: ")
    assert says in line
    assert printed.out == ""
    assert not Path("out").exists()


@pytest.mark.usefixtures("factories")
def test_the_audit_lists_the_sites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "factories_of_mine:both"]) == 0
    assert "1 of 1 sites are live" in capsys.readouterr().out
    assert main(["audit", "factories_of_mine:both", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["live"] == 1
    assert (found["sites"][0]["path"], found["sites"][0]["rate"]) == ("2", 0.1)


def test_a_missing_extra_is_answered_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f'{module} is needed.\n  Fix: pip install "caveat[{extra}]"')

    monkeypatch.setattr(cli, "require", missing)
    assert main(["demo"]) == 2
    assert 'pip install "caveat[demo]"' in capsys.readouterr().err


def test_an_error_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str, extra: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "require", broken)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_an_interruption_is_no_error_to_explain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(module: str, extra: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "require", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "caveat: interrupted\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["fit", "--help"],
        ["fit", "nowhere.csv", "--target", "y", "--out", "m"],
        ["fit", "nowhere.csv", "--out", "m"],
        ["fit", "nowhere.csv", "--target", "y", "--out", "m", "--method", "magic"],
        ["predict", "nowhere", "rows.csv", "--out", "p.csv"],
        ["predict"],
        ["evaluate", "nowhere", "rows.csv"],
        ["decide", "nowhere", "rows.csv", "--risk", "2"],
        ["audit", "no_colon"],
        ["doctor", "no_module:f"],
        ["demo", "--digit", "12"],
        ["no_command"],
    ],
    ids=" ".join,
)
def test_help_and_mistakes_need_no_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom caveat.cli import main\ncode = main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\nsys.exit(code)"
    )
    process = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert process.returncode == (0 if "--help" in arguments else 2), process.stderr


def test_a_saved_model_of_a_table_predicts_without_scikit_learn(tmp_path: Path) -> None:
    rows = [f"{k / 7},{k % 3},{k}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]))
    options = ["--target", "y", "--members", "1", "--epochs", "2", "--out", str(tmp_path / "m"), "--json"]
    assert main(["fit", str(tmp_path / "t.csv"), *options]) == 0
    code = (
        "import sys\nfrom caveat.cli import main\ncode = main(sys.argv[1:])\n"
        "loaded = {'sklearn', 'pandas', 'scipy', 'torch._dynamo'} & set(sys.modules)\n"
        "assert not loaded, loaded\nsys.exit(code)"
    )
    predict = ["predict", "m", "t.csv", "--out", "p.csv"]
    process = subprocess.run([sys.executable, "-c", code, *predict], cwd=tmp_path, capture_output=True, check=False)
    assert process.returncode == 0, process.stderr


def test_the_methods_that_are_known_before_torch_is_loaded_are_the_estimators() -> None:
    from caveat._estimators import METHODS as OF_PICTURES
    from caveat.cli._arguments import METHODS
    from caveat.tabular._network import METHODS as OF_TABLES

    assert METHODS == {"tables": OF_TABLES, "pictures": OF_PICTURES}


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"caveat {caveat.__version__}\n"
