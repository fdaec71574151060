"""A BERT-base-sized encoder on padded sentences: `python -m benchmarks.bert [--rows 6] [--longest 32] [--draws 50]`.

Twelve layers of width 768 with random weights (transformers' ``BertForSequenceClassification``), sentences of mixed
lengths. The loop is T passes with dropout on and running sums of the probabilities; the passes without dropout are as
many in eval mode. "by length" gives the rows sorted, in two batches, each padded to its own longest: a row's draws do
not depend on its padding. One thread, seconds of the process's own time, least of the rounds, taken in turns. Peaks are
above the model's, each in a process of its own, after a first prediction of a tiny network, which loads code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import caveat
from benchmarks.memory import peak_above
from benchmarks.pixels import ROOT
from benchmarks.results import machine

WANTED_TIME, WANTED_MEMORY = 1.15, 2.0
Batch = dict[str, Tensor]


def bert(layers: int) -> nn.Module:
    """The network with the numbers of seed 0."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(num_hidden_layers=layers, num_labels=3)).eval()


def sentences(rows: int, longest: int) -> Batch:
    """Sentences of a quarter of the longest to the longest, in no order, padded to the longest."""
    lengths = torch.linspace(longest / 4, longest, rows).round().long()
    lengths = lengths[torch.randperm(rows, generator=torch.Generator().manual_seed(1))]
    ids = torch.randint(100, 30_000, (rows, longest), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def by_length(batch: Batch) -> list[Batch]:
    """The rows from the shortest to the longest, in two batches, each as long as its longest."""
    lengths = batch["attention_mask"].sum(1)
    halves = lengths.argsort().chunk(2)
    return [{name: value[rows, : int(lengths[rows].max())] for name, value in batch.items()} for rows in halves]


@torch.inference_mode()
def loop(model: nn.Module, batches: list[Batch], draws: int) -> Any:
    """T passes with dropout on, and the mean probabilities."""
    model.train()
    for batch in batches:
        sums = torch.zeros(())
        for _ in range(draws):
            sums = sums + torch.softmax(model(**batch).logits, -1)
    model.eval()
    return sums / draws


@torch.inference_mode()
def without_dropout(model: nn.Module, batches: list[Batch], draws: int) -> Any:
    """T passes in eval mode."""
    for batch in batches:
        for _ in range(draws):
            logits = model(**batch).logits
    return logits


def ours(model: nn.Module, batches: list[Batch], draws: int) -> Any:
    """The same number of draws by caveat, a second call of the sampler where this is one."""
    sampler = SAMPLERS.setdefault(id(model), caveat.mc_dropout(model, output=caveat.Logits()))
    return [caveat.predict(sampler, batch, n=draws, seed=0).mean for batch in batches]


SAMPLERS: dict[int, Any] = {}
WAYS: dict[str, Callable[[nn.Module, list[Batch], int], Any]] = {
    "loop": loop, "no dropout": without_dropout, "caveat": ours
}  # fmt: skip


def peak(way: str, options: argparse.Namespace) -> float:
    """MiB above the model's, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "benchmarks.bert", "--peak", way, "--rows", str(options.rows)]
    command += ["--longest", str(options.longest), "--draws", str(options.draws), "--layers", str(options.layers)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_peak(way: str, options: argparse.Namespace) -> None:
    """Print the peak of one way in this process."""
    tiny = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 3)).eval()
    caveat.predict(caveat.mc_dropout(tiny, output=caveat.Logits()), torch.zeros(8, 4), n=20)
    model, batch = bert(options.layers), sentences(options.rows, options.longest)
    with torch.inference_mode():
        model(**{name: value[:1] for name, value in batch.items()})
    print(peak_above(lambda: WAYS[way](model, [batch], options.draws))[1])


def main() -> None:
    """Print times and peaks, and whether they are what is wanted."""
    parser = argparse.ArgumentParser(description="A BERT-base-sized encoder on padded sentences.")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--longest", type=int, default=32)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peak", default="", help="print the peak of one way in this process, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print_peak(options.peak, options)
        return
    print(machine(), end="\n\n")
    model, batch = bert(options.layers), sentences(options.rows, options.longest)
    print(f"{options.rows} sentences of {batch['attention_mask'].sum(1).tolist()} tokens, T = {options.draws}\n")
    print("| rows | loop, s | no dropout, s | caveat, s | / loop | / no dropout | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, batches in {"as they come": [batch], "by length": by_length(batch)}.items():
        times = {way: list[float]() for way in WAYS}
        ours(model, batches, options.draws)
        for _ in range(options.rounds):
            for way, run in WAYS.items():
                start = time.process_time()
                run(model, batches, options.draws)
                times[way].append(time.process_time() - start)
        looped, plain, mine = (min(times[way]) for way in WAYS)
        verdict = "met" if mine / plain <= WANTED_TIME else "**falls short**"
        cells = [f"{looped:.1f}", f"{plain:.1f}", f"{mine:.1f}", f"{mine / looped:.2f}", f"{mine / plain:.2f}"]
        print(f"| {name} | {' | '.join(cells)} | {verdict} ({WANTED_TIME:.2f}) |", flush=True)
    looped, mine = peak("loop", options), peak("caveat", options)
    verdict = "met" if mine / looped <= WANTED_MEMORY else "**falls short**"
    print("\n| peak of the loop, MiB | of caveat, MiB | / loop | |\n| --- | --- | --- | --- |")
    print(f"| {looped:.0f} | {mine:.0f} | {mine / looped:.2f} | {verdict} ({WANTED_MEMORY:.1f}) |")


if __name__ == "__main__":
    main()
