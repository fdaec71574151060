"""Peak memory of ``caveat.predict`` above the model's, in a fresh process: ``python -m benchmarks.memory uci 1000``.

"The model's" is what is resident once torch, caveat, the network and its input are loaded and the batch has passed once
in eval mode (which maps the code of the kernels). The peak is the system's own high-water mark (``VmHWM``), set back
just before the call; where it cannot be set back, a thread samples what is resident.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.workloads import WORKLOADS, Workload

MIB = 2**20
ROOT = Path(__file__).resolve().parent.parent


def resident(field: str = "VmRSS") -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}: memory can be measured on Linux only.")


def peak_above(call: Callable[[], object]) -> tuple[float, float]:
    """MiB resident before ``call``, and how far it rose above that during it."""
    gc.collect()
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)  # freed but kept memory would hide as much of the peak
    before = resident()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM := VmRSS
    except OSError:
        return before, _sampled(call) - before
    call()
    return before, resident("VmHWM") - before


def _sampled(call: Callable[[], object]) -> float:
    highest, over = resident(), threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.001):
            highest = max(highest, resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        call()
    finally:
        over.set()
        thread.join()
    return max(highest, resident())


def measure(workload: Workload, draws: int) -> tuple[float, float]:
    """In this process: MiB of the model and all that is loaded, and MiB above it while predicting."""
    import caveat

    model, x = workload.build()
    with torch.inference_mode():
        model(x)
    output = caveat.Logits() if workload.kind == "logits" else caveat.Mean()
    return peak_above(lambda: caveat.predict(caveat.mc_dropout(model, output=output), x, n=draws, seed=0))


def measure_afresh(workload: Workload, draws: int) -> float:
    """``measure`` in a process of its own: MiB above the model's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "benchmarks.memory", workload.name, str(draws)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    return float(json.loads(done.stdout)["above_mib"])


def main() -> None:
    """Print one measurement as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("workload", choices=[workload.name for workload in WORKLOADS])
    parser.add_argument("draws", type=int)
    options = parser.parse_args()
    before, above = measure({w.name: w for w in WORKLOADS}[options.workload], options.draws)
    print(json.dumps({"model_mib": round(before, 1), "above_mib": round(above, 2)}))


if __name__ == "__main__":
    main()
