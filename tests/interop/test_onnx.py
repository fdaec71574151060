"""Samplers as ONNX files: ONNX Runtime draws what Python draws, for any batch, seed and number of draws."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat._engine import Sampler
from caveat._inputs import as_inputs
from caveat.errors import InvalidArgumentError, MissingExtraError, UnsupportedModelError
from caveat.interop._onnx_recording import functions_of

# (rows, draws, seed), none of them those of the batch that is exported with
ASKED = [(1, 3, 0), (2, 7, -5), (9, 20, 2**62 + 3)]


def dense(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs))


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.Dropout2d(0.3), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.Dropout2d(0.3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(256, 84), nn.ReLU(), nn.Dropout(0.5), nn.Linear(84, 10)),
    )


class Recurrent(nn.Module):
    def __init__(self, layers: nn.RNNBase, outputs: int) -> None:
        super().__init__()
        features = layers.hidden_size * (2 if layers.bidirectional else 1)
        self.layers, self.head = layers, nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x)[0][:, -1])


class Encoder(nn.Module):
    """Reads padded sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(16, 3)

    def forward(self, words: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.layers(self.words(words), src_key_padding_mask=padding).mean(1))


def sentences(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randint(20, (rows, 6)), torch.arange(6) >= torch.randint(2, 7, (rows, 1))


class DropsAtTheEnd(nn.Module):
    """Torch would run the layers before as one fused operation."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 1), nn.Sequential(nn.Dropout(0.4), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x)[torch.arange(len(x)), -1])


def hugging_face(name: str, **settings: Any) -> Callable[[], Sampler]:
    """A classifier of transformers, tiny; it looks whether anything is padded, and attends otherwise if not."""

    def make() -> Sampler:
        transformers = pytest.importorskip("transformers")
        small = {"vocab_size": 20, "pad_token_id": 0, "num_labels": 3, **settings}
        config = getattr(transformers, f"{name}Config")(**small)
        model = getattr(transformers, f"{name}ForSequenceClassification")(config)
        return mc(model.eval(), output=caveat.Logits(select="logits"))

    return make


def tokens(rows: int) -> dict[str, Tensor]:
    mask = (torch.arange(6) < torch.randint(2, 7, (rows, 1))).long()
    return {"input_ids": torch.randint(1, 20, (rows, 6)) * mask, "attention_mask": mask}


class ByHand(nn.Module):
    """Dropout written by hand, Gaussian noise, two heads, and two inputs of which one has another rank."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.kind, self.size = nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor, n: Tensor) -> dict[str, Tensor]:
        h = self.body(x).relu() * n[:, None]
        h = h * (torch.rand_like(h) > 0.3) * (1 + 0.2 * torch.randn_like(h))
        return {"kind": self.kind(h), "size": self.size(h)}


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.dropout2d(F.silu(self.norm(self.down(x))), 0.3, self.training))


class Siamese(nn.Module):
    """Two inputs go through one network as one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = dense()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.encoder(torch.cat([a, b])).chunk(2)
        return a - b


def normal(*sizes: int) -> Callable[[int], Tensor]:
    return lambda rows: torch.randn(*(size or rows for size in sizes))


mc = caveat.mc_dropout
CASES: dict[str, tuple[Callable[[], Sampler], Callable[[int], Any]]] = {
    "MLP": (lambda: mc(dense(), output=caveat.Logits()), normal(0, 4)),
    "LeNet": (lambda: mc(lenet(), output=caveat.Logits()), normal(0, 1, 28, 28)),
    "LSTM": (
        lambda: mc(Recurrent(nn.LSTM(5, 8, 2, dropout=0.3, batch_first=True), 1), output=caveat.Mean(0.25)),
        normal(0, 7, 5),
    ),
    "transformer": (lambda: mc(Encoder(), output=caveat.Logits()), sentences),
    "a mask for each row": (lambda: mc(dense(2), output=caveat.MeanAndLogVariance(), masks="per_row"), normal(0, 4)),
    "heads by hand": (
        lambda: mc(ByHand(), output={"kind": caveat.Logits(), "size": caveat.MeanAndLogVariance()}),
        lambda rows: (torch.randn(rows, 4), torch.rand(rows)),
    ),
    "bags of words": (
        lambda: mc(nn.Sequential(nn.EmbeddingBag(9, 4), dense()), output=caveat.Logits()),
        lambda rows: torch.randint(9, (rows, 5)),
    ),
    "two in one batch": (
        lambda: mc(Siamese(), output=caveat.Logits()),
        lambda rows: (torch.randn(rows, 4), torch.randn(rows, 4)),
    ),
    "maps": (lambda: mc(Maps(), output=caveat.Logits(class_dim=1)), normal(0, 3, 8, 8)),
    "both ways": (
        lambda: mc(
            Recurrent(nn.LSTM(5, 8, 2, dropout=0.3, batch_first=True, bidirectional=True), 1),
            output=caveat.BinaryLogit(),
        ),
        normal(0, 3, 5),
    ),
    "GRU": (
        lambda: mc(Recurrent(nn.GRU(5, 8, 2, dropout=0.3, batch_first=True), 2), output=caveat.Logits()),
        normal(0, 3, 5),
    ),
    "probabilities": (
        lambda: mc(nn.Sequential(dense(), nn.Softmax(-1)), output=caveat.Probabilities()),
        normal(0, 4),
    ),
    "float64": (lambda: mc(dense().double(), output=caveat.Mean()), lambda rows: torch.randn(rows, 4).double()),
    "dropout after fused layers": (lambda: mc(DropsAtTheEnd(), output=caveat.Logits()), normal(0, 5, 16)),
    "BERT": (
        hugging_face("Bert", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
        tokens,
    ),
    "GPT-2": (hugging_face("GPT2", n_embd=16, n_layer=1, n_head=2), tokens),
    "ensemble": (lambda: caveat.ensemble([dense() for _ in range(20)], output=caveat.Logits()), normal(0, 4)),
}
FOUR = ("MLP", "LeNet", "LSTM", "transformer")


@pytest.fixture(params=[*FOUR, *(pytest.param(name, marks=pytest.mark.slow) for name in CASES if name not in FOUR)])
def case(request: pytest.FixtureRequest) -> tuple[Sampler, Callable[[int], Any]]:
    torch.manual_seed(0)
    make, batch = CASES[request.param]
    return make(), batch


def run(path: Path, x: Any, n: int, seed: int) -> dict[str, Any]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path)
    tensors = [x] if isinstance(x, Tensor) else list(x.values() if isinstance(x, dict) else x)
    *names, seed_name, n_name = [given.name for given in session.get_inputs()]
    assert (seed_name, n_name) == ("seed", "n")
    feed = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
    outputs = [made.name for made in session.get_outputs()]
    given = {**feed, "seed": np.array(seed), "n": np.array(n)}
    return dict(zip(outputs, session.run(outputs, given), strict=True))


def measured(pred: Any, name: str) -> Tensor:
    if isinstance(pred, caveat.Heads):
        head, _, rest = name.partition("_")
        return measured(pred[head], rest)
    return getattr(pred, name) if hasattr(pred, name) else getattr(caveat.measures, name)(pred)


@pytest.mark.heavy
def test_its_draws_are_those_of_python(case: tuple[Sampler, Callable[[int], Any]], tmp_path: Path) -> None:
    sampler, batch = case
    path = caveat.export_onnx(sampler, batch(4), tmp_path / "model.onnx", what="draws")
    for rows, n, seed in ASKED:
        x = batch(rows)
        expected = caveat.draws(sampler, x, n=n, seed=seed)
        heads = {"draws": expected} if isinstance(expected, Tensor) else {f"{k}_draws": v for k, v in expected.items()}
        made = run(path, x, n, seed)
        assert made.keys() == heads.keys()
        for name, draws in heads.items():
            torch.testing.assert_close(torch.from_numpy(made[name]), draws, rtol=1e-5, atol=1e-5)
            assert n == 1 or isinstance(sampler, caveat.samplers.Ensemble) or (draws[0] != draws[1]).any()


@pytest.mark.heavy
def test_its_summary_is_that_of_python(case: tuple[Sampler, Callable[[int], Any]], tmp_path: Path) -> None:
    sampler, batch = case
    path = caveat.export_onnx(sampler, batch(4), tmp_path / "model.onnx")
    for rows, n, seed in [*ASKED, (3, 1, 8)]:
        x = batch(rows)
        pred = caveat.predict(sampler, x, n=n, seed=seed)
        made = run(path, x, n, seed)
        assert len(made) in (4, 5, 9)
        for name, values in made.items():
            torch.testing.assert_close(torch.from_numpy(values), measured(pred, name), rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
def test_what_comes_before_the_first_site_runs_once(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    sampler = caveat.mc_dropout(lenet(), output=caveat.Logits())
    model = onnx.load(caveat.export_onnx(sampler, torch.zeros(2, 1, 28, 28), tmp_path / "model.onnx"))
    (loop,) = [node for node in model.graph.node if node.op_type == "Loop"]
    kinds = [node.op_type for node in loop.attribute[0].g.node]
    assert len(loop.output) == len(loop.input) - 2  # running sums and nothing that grows with the draws
    assert [node.op_type for node in model.graph.node].count("Conv") == 1
    assert kinds.count("Conv") == 1
    assert kinds.count("Keep") == 3


@pytest.mark.heavy
def test_the_network_is_as_it_was(tmp_path: Path) -> None:
    model = lenet().train()
    x, state = torch.randn(2, 1, 28, 28), {name: value.clone() for name, value in model.state_dict().items()}
    random, grad = torch.get_rng_state(), torch.is_grad_enabled()
    caveat.export_onnx(caveat.mc_dropout(model, output=caveat.Logits()), x, tmp_path / "m.onnx")
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled() == grad
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


# -- what cannot be exported -------------------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A batch of four, written in."""

    def __init__(self) -> None:
        super().__init__()
        self.body = dense()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.reshape(4, 4))


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = dense()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y * 2 if y.sum() > 1e6 else y


class Special(nn.Module):
    """An operator that ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class CountsItsRows(nn.Module):
    """Divides by a number that follows the batch and not the row."""

    def __init__(self) -> None:
        super().__init__()
        self.body = dense()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * (1 + 1e-7 / len(x))


class InParts(nn.Module):
    """Goes through the batch eight rows at a time: one part in all small batches."""

    def __init__(self) -> None:
        super().__init__()
        self.body = dense()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(part) for part in x.split(8)])


def export(model: nn.Module, path: Path, **settings: Any) -> None:
    caveat.export_onnx(caveat.mc_dropout(model, output=caveat.Logits(), **settings), torch.randn(4, 4), path / "m.onnx")


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:caveat cannot separate")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Fixed, "one batch size only"),
        (lambda: torch.export.export(dense(), (torch.zeros(4, 4),)).module(), "one batch size only"),
        (CountsItsRows, "for a batch of"),
        (InParts, "holds for batches of at most 8 rows"),
        (lambda: nn.Sequential(Decides(), nn.Identity()), r"depends on values, in '0'"),
        (lambda: nn.Sequential(dense(), Special()), r"aten.special_bessel_j0 in '1'"),
    ],
)
def test_what_cannot_be_exported_is_named(model: Callable[[], nn.Module], words: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(UnsupportedModelError, match=words):
        export(model(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.heavy
def test_weights_too_large_for_one_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caveat.interop._onnx_network._MOST_BYTES", 4 * 131 - 1)
    with pytest.raises(UnsupportedModelError, match="less than 2 GiB"):
        export(dense(), tmp_path)  # of 80 + 51 numbers
    monkeypatch.setattr("caveat.interop._onnx_network._MOST_BYTES", 4 * 131)
    export(dense(), tmp_path)


@pytest.mark.heavy
def test_without_dropout_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(caveat.NothingRandomError):
        export(nn.Linear(4, 3), tmp_path)


@pytest.mark.heavy
def test_samplers_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="stratified masks"):
        export(dense(), tmp_path, strata=4)
    mixture = caveat.mixture([caveat.mc_dropout(dense(), output=caveat.Logits()) for _ in range(2)])
    with pytest.raises(UnsupportedModelError, match="a sampler of type"):
        caveat.export_onnx(mixture, torch.zeros(4, 4), tmp_path / "m.onnx")
    with pytest.raises(InvalidArgumentError, match="The first argument is a sampler"):
        caveat.export_onnx(dense(), torch.zeros(4, 4), tmp_path / "m.onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize("library", ["onnx", "onnxscript"])
def test_a_missing_library_is_named_with_its_pip_line(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript"):
        present = importlib.util.find_spec(name) is not None
        if name == library or not present:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[onnx\]"'):
        export(dense(), tmp_path)


@pytest.mark.heavy
def test_a_library_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr(onnx, "__version__", "1.9.0")
    with pytest.raises(MissingExtraError, match=r"onnx 1\.17 or newer"):
        export(dense(), tmp_path)


@pytest.mark.parametrize("rows", [2, 40])
def test_a_batch_of_any_size_is_recorded_as_the_same_operations(rows: int) -> None:
    """Drawing pools large batches by maxima and small ones by torch's kernel; what is exported may not."""
    sampler = caveat.mc_dropout(lenet(), output=caveat.Logits())
    inputs = as_inputs(torch.randn(2, 1, 28, 28), torch.device("cpu"))
    function, *_ = functions_of([sampler.model], inputs, sampler.output.read, sampler.live, False, None)
    functions = [[step.func for step in function.record(size).program.steps] for size in (rows, 3)]
    assert functions[0] == functions[1]


def test_the_adapters_load_no_onnx() -> None:
    code = "import sys, caveat; caveat.export_onnx; assert not {'onnx', 'onnxscript'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- programs of the compiler's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["exported", "exported in train mode", "compiled"])
def test_programs_of_the_compiler_are_drawn_from(way: str) -> None:
    """Against the plain network's own dropout in a loop."""
    torch.manual_seed(1)
    model, x = dense().eval(), torch.randn(3, 4)
    if way == "compiled":
        program = torch.compile(model, backend="eager")
    else:
        sizes = ({0: torch.export.Dim("rows")},)
        program = torch.export.export(model.train(way != "exported"), (x,), dynamic_shapes=sizes).module()
    draws = caveat.draws(caveat.mc_dropout(program, output=caveat.Logits()), x, n=4000)
    if way == "compiled":
        assert torch.equal(draws, caveat.draws(caveat.mc_dropout(model, output=caveat.Logits()), x, n=4000))
    with torch.no_grad():
        truth = torch.stack([model.train()(x) for _ in range(4000)])
    error = (draws.var(0) / 4000 + truth.var(0) / 4000).sqrt()
    assert ((draws.mean(0) - truth.mean(0)).abs() < 5 * error).all()
    torch.testing.assert_close(draws.std(0), truth.std(0), rtol=0.08, atol=0)


@pytest.mark.heavy
def test_programs_of_the_compiler_are_exported(tmp_path: Path) -> None:
    x = torch.randn(4, 4)
    sizes = ({0: torch.export.Dim("rows")},)
    for model in (
        torch.export.export(dense(), (x,), dynamic_shapes=sizes).module(),
        torch.compile(dense(), backend="eager"),
    ):
        sampler = caveat.mc_dropout(model, output=caveat.Logits())
        path = caveat.export_onnx(sampler, x, tmp_path / "m.onnx", what="draws")
        made = run(path, x[:3], 5, 2)["draws"]
        torch.testing.assert_close(torch.from_numpy(made), caveat.draws(sampler, x[:3], n=5, seed=2))


@pytest.mark.parametrize("place", ["missing/model.onnx", "."])
def test_a_place_that_cannot_hold_the_file_is_said_first(place: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    sampler = caveat.mc_dropout(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)), output=caveat.Mean())
    with pytest.raises(InvalidArgumentError, match="path must name a file in a folder that is there"):
        caveat.interop.export_onnx(sampler, torch.zeros(2, 4), tmp_path / place)
    assert not list(tmp_path.iterdir())
