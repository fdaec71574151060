"""This tree against an earlier one, in one run: `python -m benchmarks.against 2acd259 [--rounds 15] [--only uci]`.

Each tree has a process of its own, which stays; they take turns at the same work, so that both see the same neighbors
and the same clock of the processor. A ratio is (time of this tree) / (time of the other), the median over the rounds,
beside the quartiles; times are the processor's own, which neighbors do not lengthen. The other tree is checked out into
a temporary folder. Only names that both trees have are used.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
SHORTEST = 0.05  # seconds that a turn lasts at least: a short call is repeated


def small_cnn() -> nn.Module:
    """A small classifier of 28x28 images, as five of them make an ensemble."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 10),
    ).eval()  # fmt: skip


def mlp() -> nn.Module:
    """A small network of a table."""
    return nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 3)).eval()


def works() -> dict[str, Callable[[], Callable[[], Any]]]:
    """What is timed, by name: each makes the call to time, whose sampler is warm after the first."""
    import caveat

    def dropout(index: int) -> Callable[[], Any]:
        work = WORKLOADS[index]
        model, x = work.build()
        output = caveat.Logits() if work.kind == "logits" else caveat.Mean()
        sampler = caveat.mc_dropout(model, output=output)
        return lambda: caveat.predict(sampler, x, n=max(work.draws // 4, 8), seed=0)

    def members(build: Callable[[], nn.Module], rows: tuple[int, ...]) -> Callable[[], Any]:
        torch.manual_seed(0)
        sampler = caveat.ensemble([build() for _ in range(5)], output=caveat.Logits())
        x = torch.randn(rows)
        return lambda: caveat.predict(sampler, x)

    def first(index: int) -> Callable[[], Any]:
        work = WORKLOADS[index]
        model, x = work.build()
        return lambda: caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), x, n=8, seed=0)

    def fitted(together: bool) -> Callable[[], Any]:
        torch.manual_seed(0)
        x = torch.randn(450, 13)
        y = x[:, :1].sin()

        def build() -> nn.Module:
            return nn.Sequential(nn.Linear(13, 50), nn.ReLU(), nn.Dropout(0.05), nn.Linear(50, 1))

        if together:
            return lambda: caveat.fit_ensemble(build, nn.MSELoss(), (x, y), members=5, epochs=8, seed=0)
        return lambda: caveat.fit(build(), nn.MSELoss(), (x, y), epochs=8, seed=0)

    made = {work.name: (lambda index=index: dropout(index)) for index, work in enumerate(WORKLOADS)}
    return {
        **made,
        "uci, one row": lambda: one_row(),
        "uci, first call": lambda: first(0),
        "transformer, first call": lambda: first(len(WORKLOADS) - 1),
        "ensemble of MLPs, 1 row": lambda: members(mlp, (1, 8)),
        "ensemble of MLPs, 1,024 rows": lambda: members(mlp, (1024, 8)),
        "ensemble of CNNs, 256 images": lambda: members(small_cnn, (256, 1, 28, 28)),
        "fit": lambda: fitted(together=False),
        "fit_ensemble": lambda: fitted(together=True),
    }


def one_row() -> Callable[[], Any]:
    """A service's call: one row, 100 draws."""
    import caveat

    model, x = WORKLOADS[0].build()
    sampler = caveat.mc_dropout(model, output=caveat.Mean())
    return lambda: caveat.predict(sampler, x[:1], n=100, seed=0)


def serve() -> None:
    """A tree's process: reads names of works, answers with the seconds of one turn."""
    torch.set_num_threads(1)
    known, calls = works(), dict[str, tuple[Callable[[], Any], int]]()
    print(json.dumps(list(known)), flush=True)
    for line in sys.stdin:
        name = json.loads(line)
        if name not in calls:
            call = known[name]()
            call()
            start = time.process_time()
            call()
            calls[name] = call, max(1, round(SHORTEST / (time.process_time() - start)))
        call, repeats = calls[name]
        start = time.process_time()
        for _ in range(repeats):
            call()
        print(json.dumps((time.process_time() - start) / repeats), flush=True)


def check_out(ref: str, held: ExitStack) -> Path:
    """Another tree of this repository, in a folder that is removed afterwards."""
    tree = Path(held.enter_context(tempfile.TemporaryDirectory())) / "tree"
    subprocess.run(["git", "worktree", "add", "-q", "--detach", str(tree), ref], cwd=ROOT, check=True)
    held.callback(subprocess.run, ["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)
    return tree


def start(tree: Path, held: ExitStack, script: str = "against") -> subprocess.Popen[str]:
    """The process of a tree: what this or another script of this folder serves, with that tree's caveat."""
    code = (
        f"import sys; sys.path[:0] = [{str(tree / 'src')!r}, {str(ROOT)!r}]; "
        f"from benchmarks import {script}; import caveat; "
        f"assert caveat.__file__.startswith({str(tree)!r}), caveat.__file__; {script}.serve()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, env=environment)
    held.callback(process.kill)
    return process


def ask(process: subprocess.Popen[str], name: str) -> float:
    """Seconds of one turn of a tree at a work."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(name) + "\n")
    process.stdin.flush()
    return float(json.loads(process.stdout.readline()))


def main() -> None:
    """Compare, and print a line for each work."""
    parser = argparse.ArgumentParser(description="This tree against an earlier one, in one run.")
    parser.add_argument("ref", help="the other tree: a commit of this repository")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="works whose name has this in it")
    asked = parser.parse_args()
    with ExitStack() as held:
        ours, theirs = start(ROOT, held), start(check_out(asked.ref, held), held)
        assert ours.stdout is not None
        assert theirs.stdout is not None
        names = [name for name in json.loads(ours.stdout.readline()) if asked.only in name]
        theirs.stdout.readline()
        print(f"{'work':32} {'ms before':>10} {'ms now':>10} {'now / before':>13} {'quartiles':>16}")
        for name in names:
            for tree in (ours, theirs):  # the first call, and how often to repeat it
                ask(tree, name)
            pairs = list[tuple[float, float]]()
            for turn in range(asked.rounds):
                order = (ours, theirs) if turn % 2 else (theirs, ours)
                times = {id(one): ask(one, name) for one in order}
                pairs.append((times[id(ours)], times[id(theirs)]))
            ratios = [now / before for now, before in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            before, now = (statistics.median(column) * 1e3 for column in ([b for _, b in pairs], [a for a, _ in pairs]))
            print(f"{name:32} {before:10.3f} {now:10.3f} {middle:13.3f} {f'{low:.2f} to {high:.2f}':>16}", flush=True)


if __name__ == "__main__":
    main()
