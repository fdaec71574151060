"""Tables: TabM's 32 members that share weights, beside caveat's ensemble of 5 networks; both without trees.

On a fifth of the training rows of each table, never on its test rows: one split, one thread. TabM (Gorishniy and
others, 2025) gets the same encoded rows, and at most twice the process time that caveat's training took.
Run: python experiments/tabular_tables/tabm_trial.py resources/rdata/csv [--width 256] [--density]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))
from run import Columns, classes, numbers_of
from unseen_tables import split_of, table

from caveat._estimators._objectives import loss_of
from caveat._tables import Table, TableReader, TrainingTable, learn_table, row_place
from caveat.tabular import Classifier, Regressor
from caveat.tabular._network import TableNetwork
from caveat.tabular._settings import Settings, complete
from caveat.tabular._training import pieces_of, shape_of

TABLES = ("energy", "concrete", "kin8nm", "covertype", "diamonds", "Computers")
MEMBERS, BLOCKS, DROPOUT = 32, 3, 0.1
RATE, DECAY = 2e-3, 3e-4
STAGES = ((1, 1), (5, 3))  # by how much steps and patience are divided: caveat's training has two such stages
LEAST_PATIENCE = 16  # else that of caveat's networks
MOST_TIMES = 2.0  # of caveat's process time
VALIDATION, NOISE, STOPPING = 0.2, 0.15, 0.12


class SharedLinear(nn.Module):
    """One weight for all members, and of each member factors of what goes in and out: BatchEnsemble's."""

    def __init__(self, given: int, returned: int, signs: bool) -> None:
        super().__init__()
        own = nn.Linear(given, returned)
        self.weight = own.weight
        self.bias = nn.Parameter(own.bias.detach().repeat(MEMBERS, 1))
        r = torch.randint(0, 2, (MEMBERS, given)) * 2.0 - 1 if signs else torch.ones(MEMBERS, given)
        self.r, self.s = nn.Parameter(r), nn.Parameter(torch.ones(MEMBERS, returned))

    def forward(self, x: Tensor) -> Tensor:
        """Rows (B, 1 or K, given) to (B, K, returned)."""
        return (x * self.r) @ self.weight.T * self.s + self.bias


class TabM(nn.Module):
    """Caveat's features of a row, blocks that share weights, and a head of each member: (B, K, outputs)."""

    def __init__(self, inputs: TableNetwork, width: int, outputs: int) -> None:
        super().__init__()
        self.inputs, features = inputs, inputs.first.in_features
        sizes = [features] + [width] * BLOCKS
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(SharedLinear(sizes[k], width, signs=k == 0), nn.ReLU(), nn.Dropout(DROPOUT))
                for k in range(BLOCKS)
            )
        )
        bound = width**-0.5
        self.heads = nn.Parameter(torch.empty(MEMBERS, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(MEMBERS, outputs).uniform_(-bound, bound))

    def forward(self, rows: Tensor) -> Tensor:
        """Returns what each member says of each row."""
        hidden = self.blocks(self.inputs.features(rows)[:, None])
        return torch.einsum("bkw,kwo->bko", hidden, self.heads) + self.bias

    @torch.no_grad()
    def mean(self, rows: Tensor, of_classes: bool) -> Tensor:
        """The members' mean: of probabilities (B, C), or of what they say of numbers (B, 1 or 2)."""
        self.eval()
        found = torch.cat([self(part) for part in rows.split(512)])
        return (found.softmax(-1) if of_classes else found).mean(1)


def train(
    X: Columns, y: np.ndarray, width: int, density: bool, most: float
) -> tuple[Callable[[Columns], Tensor], int]:
    """Returns what predicts, and the number of epochs; ``y`` is labels or standardized numbers.

    Of numbers the loss is the square, or with ``density`` that of caveat's networks: of a mean and a log-variance.
    """
    end, of_classes = time.process_time() + most, y.dtype.kind == "i"
    words = {name for name, values in X.items() if values.dtype == object}
    schema, typed = learn_table(X, words, row_place)
    table, reader = TrainingTable(schema, typed.numbers, schema.encode(typed)), TableReader(schema)
    rows = table.encoded
    outputs = int(y.max()) + 1 if of_classes else 1 + density
    target = torch.tensor(y) if of_classes else torch.tensor(y, dtype=torch.float32)[:, None]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    out, kept = order[: int(STOPPING * len(y))], order[int(STOPPING * len(y)) :]
    torch.manual_seed(0)
    edges = pieces_of(table, kept.numpy(), of_classes)
    settings: Any = complete(Settings(), len(kept), of_classes)
    model = TabM(TableNetwork(shape_of(schema, edges, outputs, of_classes, settings), edges), width, outputs)
    loss = loss_of(of_classes, weighted=False) if of_classes or density else nn.functional.mse_loss
    batch, epochs, best, state = settings.batch_size, 0, float("inf"), deepcopy(model.state_dict())
    for divided, shorter in STAGES:
        model.load_state_dict(state)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE / divided, weight_decay=DECAY)
        waited, patience = 0, max(LEAST_PATIENCE, settings.patience) // shorter
        while waited < patience and time.process_time() < end:
            model.train()
            for chosen in kept[torch.randperm(len(kept))].split(batch):
                said = model(rows[chosen]).flatten(0, 1)  # the mean over rows and members: each has its own loss
                optimizer.zero_grad()
                loss(said, target[chosen].repeat_interleave(MEMBERS, 0)).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            said, epochs = model.mean(rows[out], of_classes), epochs + 1
            now = float(nn.functional.nll_loss(said.log(), target[out]) if of_classes else loss(said, target[out]))
            waited = 0 if now < best else waited + 1
            if now < best:
                best, state = now, deepcopy(model.state_dict())
    model.load_state_dict(state)
    return lambda T: model.mean(reader.read(Table(T, row_place)), of_classes), epochs


def compare(name: str, X: Columns, y: np.ndarray, most: int, width: int, density: bool) -> str:
    """A row of the table: caveat's networks / TabM."""
    order = np.random.default_rng(0).permutation(len(y))[:most]
    first = int(VALIDATION * len(order))
    scored, rest = order[:first], order[first:]
    noise, kept = rest[: int(NOISE * len(rest))], rest[int(NOISE * len(rest)) :]
    V, N, K = ({key: values[part] for key, values in X.items()} for part in (scored, noise, kept))
    of_classes, started = y.dtype.kind not in "f", time.process_time()
    words = [key for key, values in X.items() if values.dtype == object]
    settings: dict[str, Any] = {"calibration": 0, "categorical": words}
    with patch("caveat.tabular._training.boost", return_value=None):  # of numbers, trees need rows that calibrate
        model = (Classifier if of_classes else Regressor)(**settings).fit(K, y[kept])
    ours = time.process_time() - started
    labels, codes = np.unique(y, return_inverse=True)
    center, scale = (0, 1) if of_classes else (y[kept].mean(), y[kept].std())
    started = time.process_time()
    answers = codes[kept] if of_classes else (y[kept] - center) / scale
    predict, epochs = train(K, answers, width, density, MOST_TIMES * ours)
    seconds = time.process_time() - started
    if of_classes:
        assert len(model.classes_) == len(labels)
        said = [np.asarray(model.predict_proba(V), float), predict(V).double().numpy()]
        error = [float((p.argmax(1) != codes[scored]).mean()) for p in said]
        nll = [float(-np.log(p[np.arange(len(p)), codes[scored]]).mean()) for p in said]
        own = nll[0]
    else:
        both = (lambda T: model.predict(T), lambda T: predict(T)[:, 0].double().numpy() * scale + center)
        square = [((one(V) - y[scored]) ** 2).mean() for one in both]
        variance = [((one(N) - y[noise]) ** 2).mean() for one in both]
        error = [float(one**0.5) for one in square]
        nll = [float(0.5 * np.log(2 * np.pi * v) + 0.5 * s / v) for s, v in zip(square, variance, strict=True)]
        own = -float(model.predictive(V).log_prob(torch.tensor(y[scored])[:, None]).mean())
    cells = [f"{error[0]:.4g} / {error[1]:.4g}", f"{nll[0]:.4g} / {nll[1]:.4g}", f"{own:.4g}"]
    return " | ".join(["", name, str(len(kept)), *cells, f"{seconds / ours:.2f} ({ours:.0f} s)", f"{epochs} |"]).strip()


def main() -> None:
    """Prints a row for each table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--density", action="store_true", help="numbers: train TabM by caveat's loss, not the square")
    parser.add_argument("--only", nargs="*", default=TABLES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| table | rows | RMSE or error | NLL | caveat's own NLL | process time, TabM's over caveat's | epochs |")
    for name in options.only:
        if name == "covertype":
            (X, y, _, _), most = classes(name), 5_000
        elif name == "diamonds":
            (X, y, _, _), most = split_of(*table(options.folder, "ggplot2/diamonds", "price"), 0), 5_000
        elif name == "Computers":
            (X, y, _, _), most = split_of(*table(options.folder, "Ecdat/Computers", "price"), 0), 2_000
        else:
            (X, y, _, _), most = numbers_of(name, 0), 2_000
        print(compare(name, X, y, most, options.width, options.density), flush=True)


if __name__ == "__main__":
    main()
