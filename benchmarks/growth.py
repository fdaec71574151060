"""Time and memory as work grows: against draws, rows, width and members, beside the plain loop.

    python -m benchmarks.growth            # prints the table, writes benchmarks/growth.csv and the picture of the docs
    python -m benchmarks.growth --draw     # the picture again, from the table that is there

Each point is a process of its own with one thread: the median of three calls after the first, in seconds of the
processor (which neighbors do not lengthen), and the peak of memory above the network's during one more. The loop is
``benchmarks.baselines.loop``: T passes with dropout on and running sums; of members, a loop over the networks.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.baselines import loop
from benchmarks.memory import peak_above
from benchmarks.results import processor

ROOT = Path(__file__).resolve().parent.parent
TABLE, PICTURE = Path(__file__).with_name("growth.csv"), ROOT / "docs" / "img" / "growth.png"
AXES = {
    "draws": (1, 10, 100, 1000),
    "rows": (1, 10, 100, 1000),
    "width": (16, 64, 256, 1024),
    "members": (2, 5, 10, 20),
}
LARGEST = {
    ("cnn", "draws"): 100, ("cnn", "rows"): 100, ("cnn", "width"): 64,
    ("transformer", "draws"): 100, ("transformer", "rows"): 100, ("transformer", "width"): 256,
}  # fmt: skip
"""Where a point beyond would take minutes."""
USUAL = {"draws": 50, "rows": 20, "width": 64, "members": 5}


def mlp(width: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Two hidden layers with dropout after each."""
    return nn.Sequential(
        nn.Linear(16, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(width, 10),
    ), (16,)  # fmt: skip


def cnn(width: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Two convolutions with spatial dropout, pooling, and a dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.Dropout2d(0.1), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3), nn.ReLU(), nn.Dropout2d(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 10),
    ), (1, 28, 28)  # fmt: skip


def transformer(width: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Two post-norm layers on 32 positions with dropout everywhere."""
    layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=4 * width, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False), (32, width)


NETWORKS: dict[str, Callable[[int], tuple[nn.Module, tuple[int, ...]]]] = {
    "mlp": mlp, "cnn": cnn, "transformer": transformer
}  # fmt: skip


def point(network: str, axis: str, size: int) -> dict[str, float]:
    """Seconds and MiB of one point, of caveat and of the loop; in this process."""
    import caveat

    torch.set_num_threads(1)
    torch.manual_seed(0)
    at = USUAL | {axis: size}
    made = [NETWORKS[network](at["width"]) for _ in range(at["members"] if axis == "members" else 1)]
    models, shape = [model.eval() for model, _ in made], made[0][1]
    x = torch.randn(at["rows"], *shape)
    output = caveat.Mean() if network == "transformer" else caveat.Logits()
    kind = "values" if network == "transformer" else "logits"
    if axis == "members":
        sampler: Any = caveat.ensemble(models, output=output)
        calls = {"caveat": lambda: caveat.predict(sampler, x), "loop": lambda: over_members(models, x, kind)}
    else:
        sampler = caveat.mc_dropout(models[0], output=output)
        calls = {
            "caveat": lambda: caveat.predict(sampler, x, n=at["draws"]),
            "loop": lambda: loop(models[0], x, at["draws"], kind),
        }
    found = dict[str, float]()
    for name, call in calls.items():
        call()
        taken = list[float]()
        for _ in range(3):
            start = time.process_time()
            call()
            taken.append(time.process_time() - start)
        found[f"{name} s"] = statistics.median(taken)
        found[f"{name} MiB"] = peak_above(call)[1]
    return found


@torch.inference_mode()
def over_members(models: list[nn.Module], x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """The mean and variance over members, one after another."""
    values = torch.stack([model(x) for model in models])
    values = values.softmax(-1) if kind == "logits" else values
    return values.mean(0), values.var(0)


def measure() -> None:
    """All points, each in a process of its own; printed, and written to the table."""
    rows = list[dict[str, Any]]()
    for network in NETWORKS:
        for axis, sizes in AXES.items():
            for size in sizes:
                if size > LARGEST.get((network, axis), size):
                    continue
                command = [sys.executable, "-m", "benchmarks.growth", "--point", network, axis, str(size)]
                env = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
                rows.append({"network": network, "axis": axis, "size": size, **json.loads(done.stdout)})
                shown = (f"{v:<12.4g}" if isinstance(v, float) else f"{v:<12}" for v in rows[-1].values())
                print(" ".join(shown), flush=True)
    with TABLE.open("w", newline="") as file:
        file.write(f"# {processor()}\n")
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows)


def draw() -> None:
    """The table as a picture: a column for each axis, time above memory, a color for each network."""
    import matplotlib.pyplot as plt

    named, *lines = TABLE.read_text().splitlines()
    rows = list(csv.DictReader(lines))
    figure, axes = plt.subplots(2, 4, figsize=(13, 6), sharex="col", sharey="row", layout="constrained")
    colors = dict(zip(NETWORKS, ("C0", "C1", "C2"), strict=True))
    for column, axis in enumerate(AXES):
        for network, color in colors.items():
            mine = [row for row in rows if (row["network"], row["axis"]) == (network, axis)]
            for line, unit in enumerate(("s", "MiB")):
                for who, style in (("caveat", "-o"), ("loop", ":x")):
                    label = f"{network}, {who}" if who == "caveat" else f"{network}, plain loop"
                    sizes = [int(row["size"]) for row in mine]
                    values = [max(float(row[f"{who} {unit}"]), 0.1 if line else 1e-5) for row in mine]
                    axes[line, column].plot(sizes, values, style, color=color, label=label, markersize=4)
        axes[1, column].set_xlabel({"draws": "draws T", "rows": "rows B"}.get(axis, axis))
        for ax in axes[:, column]:
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xticks(AXES[axis], [f"{size:,}" for size in AXES[axis]])
            ax.minorticks_off()
            ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("seconds of the processor")
    axes[1, 0].set_ylabel("MiB above the network's")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"Cost as work grows ({named.removeprefix('# ')}, one thread)", fontsize=11)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--point", nargs=3, metavar=("NETWORK", "AXIS", "SIZE"))
    parser.add_argument("--draw", action="store_true", help="only the picture")
    arguments = parser.parse_args()
    if arguments.point:
        network, axis, size = arguments.point
        print(json.dumps(point(network, axis, int(size))))
        return
    if not arguments.draw:
        measure()
    draw()


if __name__ == "__main__":
    main()
