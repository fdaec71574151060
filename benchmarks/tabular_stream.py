"""`caveat predict` on a large file: rows a second and peak memory, beside a plain loop over torch's own dropout.

``python -m benchmarks.tabular_stream --rows 1000000`` makes a CSV of that many rows of adult (drawn with replacement,
seed 0), trains a model of the default shape for one epoch (the weights do not change the rate), runs the installed
command with 100 draws, and writes its line into ``benchmarks/RESULTS_TABULAR.md``.

The plain loop is what people write: the rows read and encoded as the model wants them, then 100 passes in batches with
the dropout layers in train mode (20 of each of the five networks, the same draws as ours in number), mean and standard
deviation of the probabilities kept. It writes no file, and is timed on fewer rows.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from caveat._estimators import Model, load_model
from caveat._tables import read_chunks
from caveat.tabular import Classifier

DATA = Path(__file__).parents[2] / "shared" / "data" / "adult" / "adult-train.csv.gz"
RESULTS = Path(__file__).parent / "RESULTS_TABULAR.md"
NAMES = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
]  # fmt: skip
BATCH = 1024  # of the plain loop
LOOP_ROUNDS = 3
COMMAND = [sys.executable, "-c", "import sys; from caveat.cli._cli import main; sys.exit(main())"]
HEAD = """# Prediction of a large table

Each line is written by `python -m benchmarks.tabular_stream --rows N`, which says what is measured. Rates are rows a
second, of wall time (the whole command, its start included) and of processor time, which a busy machine disturbs less.
Memory is the resident size of the process in MiB: the peak in the first fifth of the run, in the last, and of all.

```
"""
COLUMNS = (
    f"{'rows':>9}{'draws':>7}{'threads':>9}{'rows/s':>9}{'per CPU s':>11}{'first':>8}{'last':>7}{'peak':>7}"
    f"{'loop/CPU s':>12}{'times':>7}"
)


@dataclass(frozen=True)
class Ran:
    """How a process went: seconds of wall and of processor time, and (seconds, MiB) samples of its resident size."""

    wall: float
    processor: float
    memory: list[tuple[float, float]]

    def peak(self, first: float, last: float) -> float:
        """MiB, at most, in a part of the run."""
        return max(size for at, size in self.memory if first * self.wall <= at <= last * self.wall)


def write_table(path: Path, rows: int) -> None:
    """Rows of adult drawn with replacement, without the target."""
    with gzip.open(DATA, "rt") as file:
        known = [",".join(cell.strip() for cell in row[:-1]) for row in csv.reader(file) if row]
    random = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join(NAMES[:-1]) + "\n")
        for start in range(0, rows, 100_000):
            chosen = random.integers(len(known), size=min(100_000, rows - start)).tolist()
            file.writelines(known[number] + "\n" for number in chosen)


def write_training(path: Path) -> None:
    """Adult's own training rows, with a header."""
    with gzip.open(DATA, "rt") as file, path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(NAMES)
        writer.writerows([cell.strip() for cell in row] for row in csv.reader(file) if row)


def watched(command: list[str]) -> Ran:
    """Run a command, and watch how large it is."""
    start = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory: list[tuple[float, float]] = []
    while True:
        found, status, usage = os.wait4(running.pid, os.WNOHANG)
        if found:
            break
        if size := re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{running.pid}/status").read_text()):
            memory.append((time.perf_counter() - start, int(size[1]) / 1024))
        time.sleep(0.1)
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    memory.append((time.perf_counter() - start, usage.ru_maxrss / 1024))
    return Ran(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, memory)


def plain_loop(model: Model, table: Path, rows: int, draws: int) -> float:
    """Rows a processor second of the loop, reading and encoding included: the best of some rounds."""
    for network in model.networks:
        for module in network.eval().modules():
            module.train(isinstance(module, nn.Dropout) and module is not network.mask)
    best = 0.0
    for _ in range(LOOP_ROUNDS):
        start, done = time.process_time(), 0
        for chunk in islice(read_chunks(table, BATCH), -(-rows // BATCH)):
            looped(model, model.reader.read(chunk), draws)
            done += len(chunk.lines)
        best = max(best, done / (time.process_time() - start))
    return best


@torch.inference_mode()
def looped(model: Model, rows: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the probabilities."""
    passes = range(draws // len(model.networks))
    p = torch.stack([network(rows).softmax(-1) for network in model.networks for _ in passes])
    return p.mean(0), p.std(0)


def prepared(folder: Path, rows: int) -> tuple[Path, Path]:
    """The model and the table in the folder; what is there already is taken."""
    model, table = folder / "model", folder / f"rows-{rows}.csv"
    if not model.exists():
        write_training(folder / "train.csv")
        fit = ["fit", str(folder / "train.csv"), "--target", "income", "--epochs", "1", "--out", str(model), "--json"]
        subprocess.run([*COMMAND, *fit], check=True, stdout=subprocess.DEVNULL)
    if not table.exists():
        write_table(table, rows)
    return model, table


def measured(folder: Path, rows: int, draws: int, loop_rows: int, threads: int) -> str:
    """The line of the table."""
    model, table = prepared(folder, rows)
    out = folder / "predictions.csv"
    predict = ["predict", str(model), str(table), "--draws", str(draws), "--out", str(out), "--json"]
    ran = watched([*COMMAND, *predict])
    with out.open() as file:
        written = sum(1 for _ in file) - 1
    if written != rows:
        raise SystemExit(f"{written} rows were written, not {rows}")
    out.unlink()
    loop = plain_loop(load_model(Classifier.kind, model), table, loop_rows, draws)
    first, last, peak = ran.peak(0, 0.2), ran.peak(0.8, 1), ran.peak(0, 1)
    ours = rows / ran.processor
    return (
        f"{rows:>9}{draws:>7}{threads:>9}{rows / ran.wall:>9.0f}{ours:>11.0f}{first:>8.0f}{last:>7.0f}{peak:>7.0f}"
        f"{loop:>12.0f}{ours / loop:>7.1f}"
    )


def keep(line: str) -> None:
    """Put the line into the file, in place of one of as many rows and threads."""
    known = re.findall(r"^ +\d+ .*$", RESULTS.read_text(), re.MULTILINE) if RESULTS.exists() else []

    def of(one: str) -> tuple[int, int]:
        return int(one.split()[0]), int(one.split()[2])

    lines = sorted([one for one in known if of(one) != of(line)] + [line], key=of)
    RESULTS.write_text(HEAD + "\n".join([COLUMNS, *lines]) + f"\n```\n\ntorch {torch.__version__}.\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--loop-rows", type=int, default=2048, help="so many rows for the plain loop")
    parser.add_argument("--folder", type=Path, help="keep the model and the table here, and take those that are there")
    parser.add_argument("--prepare", action="store_true", help="make the model and the table, and measure nothing")
    options = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.prepare:
            prepared(folder, options.rows)
            sys.exit()
        found = measured(folder, options.rows, options.draws, options.loop_rows, threads)
    print(COLUMNS, found, sep="\n")
    keep(found)
