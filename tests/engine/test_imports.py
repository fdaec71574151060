"""Drawing loads no compiler: torch's own would take half a second and 50 MiB at the first call."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILD = """
import sys, torch, caveat
from torch import nn
networks = [nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)) for _ in range(3)]
x = torch.zeros(4, 3)
"""
CALLS = {
    "mc_dropout": "caveat.predict(caveat.mc_dropout(networks[0], output=caveat.Logits(), chunk=2), x, n=10)",
    "ensemble": "caveat.predict(caveat.ensemble(networks, output=caveat.Logits()), x)",
    "fit_ensemble": "data = torch.zeros(80, 3), torch.zeros(80, 2)\n"
    "settings = dict(members=2, epochs=10, batch_size=16, progress=False)\n"
    "caveat.fit_ensemble(lambda: nn.Linear(3, 2), nn.MSELoss(), data, **settings)",
}


@pytest.mark.parametrize("name", CALLS)
def test_no_compiler_is_loaded(name: str) -> None:
    code = f"{BUILD}{CALLS[name]}\nprint([m for m in ('torch._dynamo', 'sympy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
