"""A signal at any moment of a call leaves nothing behind: a short form of ``signals.py``, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("signals.py")
SIGNALS = 156
"""13 for each of 12 scenes."""


def strike(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script; the verdict is its exit status, the report its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=550, env=environment, check=False)


@pytest.mark.survey
def test_signals_leave_nothing_behind() -> None:
    """When a signal comes is up to the clock; the next test strikes at counted moments, the same each time."""
    done = strike("--signals", str(SIGNALS))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_interrupts_between_bytecodes_leave_nothing_behind() -> None:
    done = strike("--signals", "24", "--moments", "opcodes")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


CARELESS = """
import sys
sys.path.insert(0, {folder!r})
import signals
from torch import nn, ones, rand, get_rng_state, set_rng_state
from torch._C import _set_grad_enabled

network = signals.dense()


def scene(name, careless, careful):
    def call(held):
        kept = careless()
        for number in range(20000):
            number = number * number % 7
        careful(kept)
        return ones(3)

    return signals.Scene(name, lambda: None, call, ones(3).__class__.clone, [network])


def loses(held):
    try:
        for number in range(20000):
            number = number * number % 7
    except KeyboardInterrupt:
        raise ValueError("another error") from None
    return ones(3)


signals.scenes = lambda folder: [
    scene("careful", lambda: None, lambda kept: None),
    scene("class", lambda: setattr(nn.Module, "training", True), lambda kept: delattr(nn.Module, "training")),
    scene("grad mode", lambda: _set_grad_enabled(False), lambda kept: _set_grad_enabled(True)),
    scene("flag", lambda: network.train(), lambda kept: network.eval()),
    scene("random state", lambda: (get_rng_state(), rand(3))[0], set_rng_state),
    signals.Scene("error", lambda: None, loses, ones(3).__class__.clone),
]
sys.exit(signals.main(["--signals", "60"]))
"""


def test_the_script_notices_what_a_careless_call_leaves_behind() -> None:
    """Four calls that leave something, one that turns the interrupt into another error, and one that is right."""
    code = CARELESS.format(folder=str(SCRIPT.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    wrong = dict(re.findall(r"^(\w[\w ]*): .*, (\d+) wrong$", done.stdout, re.MULTILINE))
    assert wrong.pop("careful") == "0", done.stdout
    assert wrong.keys() == {"class", "grad mode", "flag", "random state", "error"}
    assert "0" not in wrong.values(), done.stdout
