"""The tests of this folder on a device that stands in for a GPU, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from .conftest import STAND_IN

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(STAND_IN in os.environ, reason="this is that process")
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch lets no device be made in Python",
)
@pytest.mark.slow
def test_all_that_holds_on_the_cpu_holds_on_a_stand_in_device() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "stand-in or stand_in", "-p", "no:cacheprovider"]
    environment = {**os.environ, STAND_IN: "1"}
    done = subprocess.run(
        [*command, str(Path(__file__).parent)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout
