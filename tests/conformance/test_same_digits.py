"""One seed, the same digits, also on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("same_digits.py")


def digests() -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment, check=True)
    return [line for line in done.stderr.splitlines() if line.startswith("= ")]


@pytest.mark.slow
def test_one_seed_gives_the_same_digits_on_a_busy_machine() -> None:
    """Two runs, one beside two processes that never rest; bit for bit, the first calls and the later ones."""
    alone = digests()
    with ExitStack() as held:
        for _ in range(2):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            held.callback(busy.wait)
            held.callback(busy.kill)
        beside = digests()
    assert len(alone) > 60
    assert alone == beside
