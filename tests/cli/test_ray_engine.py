"""`caveat predict --engine ray`: the bytes of `caveat predict`, also where workers or the whole run are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caveat.cli import _ray_engine
from caveat.cli._cli import main
from caveat.cli._predict_command import predict_file
from caveat.cli._ray_engine import BlockPredictor, predict_file_by_ray
from caveat.errors import CaveatError
from caveat.tabular import Regressor

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and logs of Ray's that outlive a test
]
ROWS = 30_000  # four blocks
ASKED: dict[str, Any] = {"draws": None, "level": 0.9, "keep": ["id"]}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    found = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    found.init(
        num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False, logging_level="ERROR"
    )
    this = sys.modules[__name__]
    found.cloudpickle.register_pickle_by_value(this)  # the workers know nothing of the tests
    yield found
    found.cloudpickle.unregister_pickle_by_value(this)
    found.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a table, a part of it as CSV, and what `caveat predict` says of them."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    place = tmp_path_factory.mktemp("ray")
    numbers = np.random.default_rng(0)
    x, group = numbers.normal(size=ROWS), numbers.choice(["a", "b"], ROWS)
    table = {"id": np.arange(ROWS), "x": x, "group": group}
    target = 3 * x + numbers.normal(size=ROWS) * (group == "a")
    columns = {name: table[name][:600] for name in ("x", "group")}
    model = Regressor(method="mc_dropout", epochs=3, draws=8).fit(columns, target[:600])
    model.save(place / "model")
    parquet.write_table(arrow.table(table), place / "big.parquet", row_group_size=7000)
    lines = [f"{k},{table['x'][k]},{table['group'][k]}\n" for k in range(20_000)]
    (place / "part.csv").write_text("id,x,group\n" + "".join(lines))
    for name in ("big.parquet", "part.csv"):
        predict_file(place / "model", place / name, place / f"{name}.out.csv", **ASKED, advance=lambda share: None)
    return place


def joined(folder: Path) -> bytes:
    """The parts as one file."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["complete"]
    parts = [(folder / part["file"]).read_bytes() for part in manifest["parts"]]
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *(part["file"] for part in manifest["parts"])}
    return parts[0] + b"".join(part.partition(b"\n")[2] for part in parts[1:])


def run(place: Path, out: Path, data: str = "big.parquet", **settings: Any) -> dict[str, Any]:
    return predict_file_by_ray(
        place / "model", place / data, out, **{**ASKED, "workers": 2, "advance": lambda share: None, **settings}
    )


class DiesOnce(BlockPredictor):
    """An actor that dies once before it writes block 1, and once after it has written block 2."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        number = int(item["block"][0])
        if number == 1 and self.first_time("before"):
            os._exit(1)
        found = super().__call__(item)
        if number == 2 and self.first_time("after"):
            os._exit(1)
        return found

    def first_time(self, what: str) -> bool:
        try:
            self.into.with_name(f"died {what}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


@pytest.mark.parametrize("data", ["big.parquet", "part.csv"])
def test_the_parts_are_what_predict_writes_byte_for_byte(ray: Any, place: Path, tmp_path: Path, data: str) -> None:
    shares: list[float] = []
    said = run(place, tmp_path / "out", data, advance=shares.append)
    assert joined(tmp_path / "out") == (place / f"{data}.out.csv").read_bytes()
    assert said["rows"] == said["decisions"]["answer"] == (ROWS if data == "big.parquet" else 20_000)
    assert shares == sorted(shares)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_workers_that_die_lose_and_double_no_row(
    ray: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ray_engine, "BlockPredictor", DiesOnce)
    said = run(place, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "died before", "died after"}
    assert joined(tmp_path / "out") == (place / "big.parquet.out.csv").read_bytes()
    assert said["rows"] == ROWS


def test_a_finished_folder_is_not_done_again_and_no_other_is_touched(ray: Any, place: Path, tmp_path: Path) -> None:
    run(place, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert run(place, tmp_path / "out")["resumed_at"] == ROWS
    with pytest.raises(CaveatError, match="another model, of other data or options"):
        run(place, tmp_path / "out", level=0.8)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_a_row_that_does_not_fit_is_named_and_nothing_is_left(ray: Any, place: Path, tmp_path: Path) -> None:
    lines = (place / "part.csv").read_text().splitlines(keepends=True)
    lines[15_000] = "15000,many,a\n"
    (tmp_path / "bad.csv").write_text("".join(lines))
    with pytest.raises(CaveatError, match=r"line 15001 of bad\.csv"):
        predict_file_by_ray(
            place / "model", tmp_path / "bad.csv", tmp_path / "out", **ASKED, workers=2, advance=lambda share: None
        )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_a_run_that_was_killed_goes_on(place: Path, tmp_path: Path) -> None:
    """The whole command, killed once a block is named in the manifest; its draws make a block take a while."""
    pytest.importorskip("ray")
    words = ["predict", str(place / "model"), str(place / "big.parquet"), "--out", str(tmp_path / "out")]
    words += ["--draws", "60", "--keep", "id", "--engine", "ray", "--workers", "1", "--json"]
    code = "import sys; from caveat.cli._cli import main; sys.exit(main())"
    running = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    note = tmp_path / ".out.part" / "manifest.json"
    while running.poll() is None and not (note.exists() and json.loads(note.read_bytes())["parts"]):
        time.sleep(0.05)
    assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not (tmp_path / "out").exists()
    again = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False)
    assert again.returncode == 0, again.stderr.decode()
    assert 8192 <= json.loads(again.stdout)["resumed_at"] < ROWS
    predict_file(
        place / "model", place / "big.parquet", tmp_path / "one.csv", **{**ASKED, "draws": 60}, advance=lambda _: None
    )
    assert joined(tmp_path / "out") == (tmp_path / "one.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.csv", "out"]


# -- mistakes, said before torch is loaded -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--engine", "spark"), "--engine must be local or ray; got spark"),
        (("--workers", "2"), "--workers has no meaning for --engine local"),
        (("--engine", "ray", "--workers", "0"), "--workers must be at least 1"),
        (("--engine", "ray", "--threads", "2"), "--threads has no meaning for --engine ray"),
        (("--engine", "ray"), "a folder of parts"),
    ],
)
def test_mistakes_are_said_in_one_message(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], match: str
) -> None:
    command = ["predict", str(place / "model"), str(place / "part.csv"), "--out", "predictions.csv", *words]
    assert main(command) != 0
    assert match in " ".join(capsys.readouterr().err.split())


def test_without_ray_the_pip_line_is_said(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caveat._extras.importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    command = ["predict", str(place / "model"), str(place / "part.csv"), "--out", str(tmp_path / "out")]
    assert main([*command, "--engine", "ray"]) != 0
    assert 'pip install "caveat[ray]"' in capsys.readouterr().err


def test_a_folder_that_is_no_model_and_one_that_is_taken(ray: Any, place: Path, tmp_path: Path) -> None:
    with pytest.raises(CaveatError, match=r"caveat\.json"):
        predict_file_by_ray(tmp_path, place / "part.csv", tmp_path / "out", **ASKED, workers=1, advance=print)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    with pytest.raises(CaveatError, match="holds something else"):
        run(place, tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
