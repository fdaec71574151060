"""What the image and text experiments share: data, results that go on after a kill, tables, bands.

A *part* is one piece of work, such as a data set and a seed: it is computed once and kept in ``results.json``. Tables
and figures are made from that file alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

mpl.use("Agg")

DATA = Path(__file__).parents[2] / "shared" / "data"
Record = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """Where it lies and how it goes."""

    folder: Path
    parts: Sequence[str]
    compute: Callable[[str, bool], Record]  # (part, smoke) -> what is kept of it
    numbers: Callable[[dict[str, Record]], dict[str, float]]  # what expected.json holds bands for
    table: Callable[[dict[str, Record]], str]  # Markdown
    draw: Callable[[dict[str, Record], Path], None]  # figures, into the folder


def run(experiment: Experiment) -> None:
    """The command line: compute what is missing, draw, write the table into the README."""
    parser = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="the first part, hardly trained, no files: does it run?")
    parser.add_argument("--table", action="store_true", help="draw and write the table again, compute nothing")
    parser.add_argument("--check", action="store_true", help="hold the results to expected.json")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    path = experiment.folder / "results.json"
    if options.smoke:
        start = time.perf_counter()
        parts = {experiment.parts[0]: experiment.compute(experiment.parts[0], True)}
        experiment.table(parts)
        print(json.dumps(experiment.numbers(parts), indent=1))
        print(f"{time.perf_counter() - start:.1f} s")
        return
    if options.check:
        sys.exit(count_missed(experiment.numbers(_read(path)["parts"]), experiment.folder))
    if not options.table:
        _continue(experiment, path)
    parts = _read(path)["parts"]
    experiment.draw(parts, experiment.folder)
    table = experiment.table(parts)
    print(table)
    _into(experiment.folder / "README.md", table)


def _continue(experiment: Experiment, path: Path) -> None:
    """Compute the parts that are missing; the file is whole after each."""
    kept = _read(path)
    for part in experiment.parts:
        if part in kept["parts"]:
            continue
        start = time.perf_counter()
        found = experiment.compute(part, False)
        seconds = time.perf_counter() - start
        kept["parts"][part] = found | {"seconds": round(seconds, 1)}
        kept |= {
            "command": "python " + os.path.relpath(sys.argv[0], Path(__file__).parents[1]),
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        }
        _write(path, kept)
        print(f"{part}: {seconds:.0f} s", flush=True)


def count_missed(found: dict[str, float], folder: Path) -> int:
    """How many numbers lie outside their bands in the folder's ``expected.json``; a line for each is printed."""
    missed = 0
    for name, (low, high) in json.loads((folder / "expected.json").read_text()).items():
        held = name in found and low <= found[name] <= high
        missed += not held
        print(f"{name:70} {found.get(name, float('nan')):8.4f} in [{low:g}, {high:g}]  {'held' if held else 'MISSED'}")
    return missed


def _read(path: Path) -> Record:
    return json.loads(path.read_text()) if path.exists() else {"parts": {}}


def _write(path: Path, kept: Record) -> None:
    """At once or not at all; a list of numbers on one line."""
    number_lists = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")
    text = number_lists.sub(lambda match: "[" + " ".join(match[1].split()) + "]", json.dumps(kept, indent=1))
    temporary = path.with_suffix(".part")
    temporary.write_text(text + "\n")
    temporary.replace(path)


def _into(readme: Path, table: str) -> None:
    """Between the two marks of the README."""
    if readme.exists():
        pattern = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
        readme.write_text(pattern.sub(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", readme.read_text()))


# ------------------------------------------------------------------------------------------------ small things


def data(*names: str) -> Path:
    """A file of the shared data, or an exit that says where it lies and what its README there names as its origin."""
    path = DATA.joinpath(*names)
    if not path.exists():
        sys.exit(f"This experiment reads ../shared/data/{'/'.join(names)} beside the repository, which is not there.")
    return path


def images(name: str, part: str) -> tuple[Tensor, Tensor]:
    """Gray images (N, 1, H, W) in [0, 1] and labels (N,) of an npz with `images` and `labels`."""
    with np.load(data(name, f"{part}.npz")) as file:
        return torch.from_numpy(file["images"])[:, None] / 255, torch.from_numpy(file["labels"]).long()


def plus_minus(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds; where some have no number, over the others, and how many these are."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "none"
    spread = statistics.stdev(known) if len(known) > 1 else math.nan
    of = "" if len(known) == len(values) else f" ({len(known)} of {len(values)} seeds)"
    return f"{statistics.fmean(known):.{digits}f} ± {spread:.{digits}f}{of}"


def counts(values: Tensor, most: float, bins: int = 400) -> list[int]:
    """A fine histogram over 0 to the largest possible value, which is kept in place of the values."""
    return torch.histc(values.double().clamp(0, most), bins, 0, most).int().tolist()


def from_counts(histogram: Sequence[int], most: float) -> np.ndarray:
    """As many values as were counted, each in the middle of its bin."""
    middles = (np.arange(len(histogram)) + 0.5) * most / len(histogram)
    return np.repeat(middles, histogram)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))
