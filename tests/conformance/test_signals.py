"""A signal at any moment of a call leaves nothing behind: a short form of ``signals.py``, in a process of its own."""

from __future__ import annotations

import os
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


@pytest.mark.slow
def test_signals_leave_nothing_behind() -> None:
    done = strike("--signals", str(SIGNALS))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_interrupts_between_bytecodes_leave_nothing_behind() -> None:
    done = strike("--signals", "24", "--moments", "opcodes")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


LEAVES = """
import sys
sys.path.insert(0, {folder!r})
import signals
from torch import nn

def careless(sampler):
    {careless}
    for number in range(3000):
        number = number * number % 7
    {careful}
    return signals.torch.ones(3)

network = signals.dense()
scene = signals.Scene("careless", lambda: None, careless, signals.torch.clone, [network])
signals.scenes = lambda folder: [scene]
sys.exit(signals.main(["--signals", "20"]))
"""

CARELESS = {
    "a patched class": ("nn.Module.training = True", "del nn.Module.training"),
    "grad mode": ("signals.torch._C._set_grad_enabled(False)", "signals.torch._C._set_grad_enabled(True)"),
    "a flag": ("network.train()", "network.eval()"),
    "a random state": (
        "state = signals.torch.get_rng_state(); signals.torch.rand(3)",
        "signals.torch.set_rng_state(state)",
    ),
    "a warning filter": ("signals.warnings.simplefilter('ignore')", "signals.warnings.resetwarnings()"),
}


@pytest.mark.parametrize("what", CARELESS)
def test_the_script_notices_what_is_left_behind(what: str) -> None:
    careless, careful = CARELESS[what]
    code = LEAVES.format(folder=str(SCRIPT.parent), careless=careless, careful=careful)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    assert "left behind" in done.stdout, f"{done.stdout}\n{done.stderr}"


def test_the_script_passes_what_leaves_nothing() -> None:
    code = LEAVES.format(folder=str(SCRIPT.parent), careless="pass", careful="pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
