"""Real signals to the commands: a few of those that `python tests/cli/kills.py` sends more of."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("sklearn")

from .kills import Place, finish, start

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("there"), rows=12_000, epochs=4)


@pytest.mark.parametrize(("number", "share"), [(signal.SIGKILL, 0.8), (signal.SIGINT, 0.05), (signal.SIGINT, 0.9)])
def test_predict_survives_a_signal(there: Place, number: signal.Signals, share: float) -> None:
    assert there.try_predict(number, share) is None


@pytest.mark.parametrize(("number", "share", "over"), [(signal.SIGKILL, 0.95, True), (signal.SIGINT, 0.7, False)])
def test_fit_survives_a_signal(there: Place, number: signal.Signals, share: float, over: bool) -> None:
    assert there.try_fit(number, share, over=over) is None


def test_ctrl_c_while_torch_loads_is_one_line_and_130(there: Place) -> None:
    running = start([*there.asked, str(there.folder / "out.csv")])
    maps = Path(f"/proc/{running.pid}/maps")
    if not maps.exists():
        running.kill()
        running.communicate()
        pytest.skip("what is loaded is seen in /proc")
    while "libtorch_cpu" not in maps.read_text() and running.poll() is None:
        pass
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1].decode()
    assert (running.returncode, said) == (130, "caveat: interrupted\n")


def test_the_second_writer_is_refused_at_once(there: Place) -> None:
    out = there.folder / "out.csv"
    first = start([*there.asked, str(out)])
    part = there.folder / ".out.csv.part"  # opened under the lock, whose file is there a moment before it is locked
    while not part.exists() and first.poll() is None:
        pass
    first.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
    assert part.exists()
    code, said, _ = finish([*there.asked, str(out), "--level", "0.5"])
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    first.communicate()
    assert code == 2
    assert "one writer at a time" in said
    assert len(said.splitlines()) == 1
    assert out.read_bytes() == there.whole
    out.unlink()
    assert there.left() is None
