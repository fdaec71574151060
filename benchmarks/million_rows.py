"""What a million rows cost on a cluster: `python -m benchmarks.million_rows`.

Measured, in seconds of one core (time that other processes take does not count): loading, reading and predicting some
rows of a Parquet file. All that stands under "extrapolated" is arithmetic with these numbers, by the model that is
printed with it: no cluster was run, and network, storage and stragglers are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caveat._estimators import load_model
from caveat._kinds import find_kind
from caveat._tables import read_chunks
from caveat.cli._predict_command import predict_file
from caveat.tabular import Regressor

COLUMNS = 10


def core_seconds(work: Callable[[], Any], rounds: int) -> float:
    """The fewest seconds of this process that the work takes."""
    found: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=int, default=50_000, help="rows that are measured")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows that are extrapolated to")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--start", type=float, default=15.0, help="seconds until a worker of a pool is up, assumed")
    parser.add_argument("--price", type=float, default=0.05, help="dollars of a core for an hour, assumed")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)

    import pyarrow
    import pyarrow.parquet

    numbers = np.random.default_rng(0)
    table = {f"x{k}": numbers.normal(size=args.measured) for k in range(COLUMNS)}
    target = sum(table.values()) + numbers.normal(size=args.measured)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        first = {column: values[:2000] for column, values in table.items()}
        Regressor(method="mc_dropout", epochs=5, draws=args.draws).fit(first, target[:2000]).save(place / "model")
        pyarrow.parquet.write_table(pyarrow.table(table), place / "rows.parquet")

        def predict() -> None:
            asked: dict[str, Any] = {"draws": None, "level": 0.9, "keep": ()}
            predict_file(place / "model", place / "rows.parquet", place / "out.csv", **asked, advance=lambda _: None)

        load = core_seconds(lambda: load_model(find_kind("tabular"), place / "model"), args.rounds)
        read = core_seconds(lambda: list(read_chunks(place / "rows.parquet")), args.rounds) / args.measured
        whole = (core_seconds(predict, args.rounds) - load) / args.measured

    print(f"measured on one core: {args.measured:,} rows of {COLUMNS} numbers, {args.draws} draws of a small network")
    print(f"  load the model {load:.3f} s; read {1e6 * read:.2f} µs a row; all of it {1e6 * whole:.1f} µs a row")
    print(f"extrapolated to {args.rows:,} rows: not run")
    print("  time = start + load + rows * (read + read + (all of it - read) / workers)")
    print("         every worker reads the file through once, and the driver before them to count its blocks")
    print("  cores paid for = workers * time;  dollars = cores paid for, in hours, * price")
    print(f"  assumed: start = {args.start:g} s, price = {args.price:g} dollars a core-hour")
    print(f"  {'workers':>7} {'time, s':>9} {'core-hours':>11} {'dollars':>8}")
    for workers in (1, 2, 4, 16, 64):
        seconds = args.start + load + args.rows * (2 * read + (whole - read) / workers)
        hours = workers * seconds / 3600
        print(f"  {workers:>7} {seconds:>9.1f} {hours:>11.3f} {hours * args.price:>8.4f}")


if __name__ == "__main__":
    main()
