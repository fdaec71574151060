"""Digests of what every sampler, training and command gives for one seed: two processes must print the same lines.

    python tests/conformance/same_digits.py

``test_same_digits.py`` compares two runs, one of them beside busy processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import caveat
from caveat import samplers
from caveat.cli._cli import main as command
from caveat.layers import RandomFeatureGaussianProcess, update_precision

ROWS = torch.randn(40, 6, generator=torch.Generator().manual_seed(3))
IMAGES = torch.rand(70, 1, 12, 12, generator=torch.Generator().manual_seed(4))

OF_THE_RUN = {"model", "data", "report", "out", "seconds", "made", "files", "folder"}
NETWORK = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2)), torch.zeros(3, 4)
"""


def dense(last: nn.Module | None = None) -> nn.Sequential:
    body = (nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.Tanh())
    return nn.Sequential(*body, nn.Dropout(0.2), last or nn.Linear(16, 2)).eval()


def convolutional() -> nn.Sequential:
    first = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.2))
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(100, 24), nn.ReLU(), nn.Dropout(0.4), nn.Linear(24, 5)).eval()


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(6, 8, num_layers=2, dropout=0.3, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def digest(values: Any) -> str:
    """SHA-256 of the bytes of tensors, in their order."""
    whole = hashlib.sha256()
    for leaf in torch.utils._pytree.tree_leaves(values):
        whole.update(leaf.detach().contiguous().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode())
    return whole.hexdigest()[:16]


def drawn() -> Iterator[tuple[str, caveat.samplers.Ensemble[Any] | Any, Tensor, int | None]]:
    """(name, sampler, batch, draws) of every sampler."""
    torch.manual_seed(0)
    mean, logits = caveat.Mean(), caveat.Logits()
    yield "mc_dropout, dense", caveat.mc_dropout(dense(), output=mean), ROWS, 40
    yield "mc_dropout, one row", caveat.mc_dropout(dense(), output=mean), ROWS[:1], 100
    yield "mc_dropout, images", caveat.mc_dropout(convolutional(), output=logits), IMAGES, 30
    attending = caveat.mc_dropout(Attending().eval(), output=logits)
    yield "mc_dropout, attention", attending, torch.randn(6, 9, 16), 12
    yield "mc_dropout, recurrent", caveat.mc_dropout(Recurrent().eval(), output=mean), torch.randn(6, 7, 6), 12
    yield "mc_dropout, masks per row", caveat.mc_dropout(dense(), output=mean, masks="per_row"), ROWS, 12
    for rows in (1, 40):
        members = [dense() for _ in range(5)]
        yield f"ensemble, dense, {rows} rows", caveat.ensemble(members, output=mean), ROWS[:rows], None
    yield "ensemble, images", caveat.ensemble([convolutional() for _ in range(4)], output=logits), IMAGES, None
    unlike = [dense(), nn.Sequential(nn.Linear(6, 2)).eval()]
    yield "ensemble, unlike members", caveat.ensemble(unlike, output=mean), ROWS, None
    parts = [caveat.mc_dropout(dense(), output=mean) for _ in range(2)]
    yield "mixture", caveat.mixture(parts), ROWS, 20
    yield "mc_batch_norm", samplers.mc_batch_norm(dense(), ROWS, output=mean, batch_size=8), ROWS, 8
    base = dense()
    states = [{name: value + 0.01 * k for name, value in base.state_dict().items()} for k in range(3)]
    yield "swag", samplers.swag(base, states, output=mean, data=ROWS), ROWS, 6

    def noise(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + 0.1 * torch.randn(x.shape[1:], generator=generator)

    yield "test_time_augmentation", samplers.test_time_augmentation(dense(), noise, output=mean), ROWS, 8
    model = dense(RandomFeatureGaussianProcess(16, 2, features=32))
    update_precision(model, ROWS)
    yield "gaussian_process_head", samplers.gaussian_process_head(model, output=mean), ROWS, 8
    yield (
        "moments",
        samplers.moments(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 2)), output=mean),
        ROWS,
        8,
    )


def trained() -> Iterator[tuple[str, Any]]:
    """Weights that trainings end with."""
    y = ROWS[:, :2].sin()

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 2))

    torch.manual_seed(0)
    model = build()
    caveat.fit(model, nn.MSELoss(), (ROWS, y), epochs=6, seed=5)
    yield "fit", list(model.state_dict().values())
    found = caveat.fit_ensemble(build, nn.MSELoss(), (ROWS, y), members=4, epochs=6, seed=5)
    yield "fit_ensemble", [list(one.state_dict().values()) for one in found]


def commanded(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files that the commands write."""
    for target, kind in (("price", "numbers"), ("label", "classes")):
        rows = [f"{i % 7},{'red' if i % 3 else 'blue'}," for i in range(240)]
        ends = [f"{(i * 37) % 11}" if kind == "numbers" else "ab"[(i % 7 + i // 3) % 2] for i in range(240)]
        table = folder / f"{kind}.csv"
        table.write_text(f"size,color,{target}\n" + "".join(f"{a}{b}\n" for a, b in zip(rows, ends, strict=True)))
        model, answers = folder / f"model_{kind}", folder / f"answers_{kind}.csv"
        steps = (
            ["fit", str(table), "--target", target, "--out", str(model), "--seed", "3"],
            ["predict", str(model), str(table), "--out", str(answers)],
        )
        for step in steps:
            assert command(step) == 0, step
        yield f"caveat fit, {kind}", next(model.glob("*.safetensors")).read_bytes()
        yield f"caveat predict, {kind}", answers.read_bytes()
        aim = ["--budget", "0.2"] if kind == "numbers" else ["--human-cost", "0.3"]
        yield f"caveat decide, {kind}", printed("decide", str(model), str(table), *aim)
        yield f"caveat evaluate, {kind}", printed("evaluate", str(model), str(table))
        assert command(["calibrate", str(model), str(table)]) == 0
        yield f"caveat calibrate, {kind}", next(model.glob("*.safetensors")).read_bytes()
    (folder / "same_digits_network.py").write_text(NETWORK)
    sys.path.insert(0, str(folder))
    yield "caveat audit", printed("audit", "same_digits_network:make")
    yield "caveat demo", printed("demo", "--quick", "--out", str(folder / "demo"))


def printed(*arguments: str) -> bytes:
    """The numbers that a command prints as JSON, without what is of this run: its folders, seconds and time."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert command([*arguments, "--json"]) == 0, arguments
    found = json.loads(shown.getvalue())
    kept = {key: value for key, value in found.items() if key not in OF_THE_RUN}
    assert len(kept) > 1, found.keys()
    return json.dumps(kept, sort_keys=True).encode()


def lines() -> Iterator[tuple[str, str]]:
    """(what, digest) of all."""
    measure: Callable[[Any], Any] = lambda pred: [pred.mean, pred.variance, pred.standard_error()]  # noqa: E731
    for name, sampler, x, n in drawn():
        yield name, digest(caveat.draws(sampler, x, n, seed=7))
        for turn in ("first", "second", "third"):
            yield f"{name}, {turn} predict", digest(measure(caveat.predict(sampler, x, n, seed=7)))
    for name, weights in trained():
        yield name, digest(weights)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in commanded(Path(folder)):
            yield name, hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, value in lines():
        sys.stderr.write(f"= {name}: {value}\n")
