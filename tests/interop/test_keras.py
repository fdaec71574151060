"""Keras 3 on each of its back ends, beside Keras' own dropout; each back end in a process of its own."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import caveat
from caveat.errors import MissingExtraError

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

BACKENDS = ("torch", "jax", "tensorflow")
NETWORKS = ("dropout", "spatial", "gaussian", "alpha", "lstm", "gru", "attention", "by hand", "written")
NETWORKS += ("noise beside", "augmented")
DRAWS, COPIES = 120, 4000


@cache
def results(backend: str) -> dict[str, Any]:
    script = Path(__file__).with_name("keras_networks.py")
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_draws_have_the_law_of_keras_own_dropout(backend: str, network: str) -> None:
    found = {name: np.array(value) for name, value in results(backend)["networks"][network].items()}
    error = np.sqrt(found["brute variance"] * (1 / DRAWS + 1 / COPIES))
    assert (abs(found["mean"] - found["brute mean"]) < 4.5 * error).all()
    # A variance of so few draws: heavy tails of products of masks are allowed for.
    assert (abs(np.log(found["variance"] / found["brute variance"])) < 0.6).all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_model_is_untouched(backend: str, network: str) -> None:
    found = results(backend)["networks"][network]
    assert found["moved"] == found["left"] == []
    if network != "spatial":  # whose spatial dropout is on in inference as well
        assert found["at rest"] == 0


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_alone_gives_what_it_gives_among_others(backend: str, network: str) -> None:
    assert results(backend)["networks"][network]["alone"] < 1e-4


def test_a_pass_that_failed_leaves_no_mask_to_the_next() -> None:
    found = results("torch")["networks"]["conv lstm"]
    assert found["moved"] == found["left"] == []
    assert found["alone"] < 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_jax_and_tensorflow_give_the_same_draws(network: str) -> None:
    one, other = (results(backend)["networks"][network]["draws"] for backend in ("jax", "tensorflow"))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ("without dropout", "NothingRandomError: The network must be able to vary"),
        ("rate 1", ("InvalidArgumentError", "NothingRandomError")),  # Keras on torch makes zeros of it, draws nothing
        ("unbuilt", "InvalidArgumentError: A Keras model must be built"),
        ("no model", "InvalidArgumentError: model must be a keras.Model"),
        ("only noise", "NothingRandomError: The network must be able to vary"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cannot_be_drawn_from_is_named(backend: str, situation: str, words: str | tuple[str, str]) -> None:
    assert results(backend)["errors"][situation].startswith(words)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_that_changes_is_looked_at_again(backend: str) -> None:
    assert results(backend)["switched"]


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "examples" / f"{name}.py"))


@pytest.mark.filterwarnings("ignore")
def test_variance_is_that_of_the_tutorials_formula() -> None:
    code = example("keras_regression")
    model, x, n = code["build"](), torch.linspace(-2, 2, 5)[:, None], 200
    model.set_weights([np.random.default_rng(0).normal(size=w.shape) * 0.4 for w in model.weights])
    sampler = caveat.interop.keras_mc_dropout(model, output=caveat.MeanAndLogVariance())
    pred, draws = caveat.predict(sampler, x, n), caveat.draws(sampler, x, n)[:, :, 0].numpy()
    mean, variance = code["predict_by_hand"](draws)
    np.testing.assert_allclose(pred.mean[:, 0], mean, rtol=1e-5, atol=1e-6)
    ours = pred.aleatoric_variance + pred.epistemic_variance * (n - 1) / n  # the formula divides by n, not n - 1
    np.testing.assert_allclose(ours[:, 0], variance, rtol=1e-4)
    assert (pred.epistemic_variance > 1e-3).all()


@pytest.mark.filterwarnings("ignore")
def test_loss_is_the_gaussian_likelihood() -> None:
    code = example("keras_regression")
    returned, y = torch.tensor([[0.5, 0.3], [-1.0, -2.0]]), torch.tensor([[0.1], [2.0]])
    expected = caveat.losses.gaussian_nll(returned, y)
    np.testing.assert_allclose(float(code["likelihood"](y, returned)), float(expected), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_entropy_is_that_of_the_tutorials_formula() -> None:
    code = example("keras_classifier")
    model, x, n = code["build"](), torch.rand(4, 8, 8, 1), 40
    sampler = caveat.interop.keras_mc_dropout(model, output=caveat.Probabilities())
    pred, draws = caveat.predict(sampler, x, n), caveat.draws(sampler, x, n).numpy()
    mean, entropy = code["predict_by_hand"](draws)
    np.testing.assert_allclose(pred.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(caveat.predictive_entropy(pred), entropy, rtol=1e-4)
    assert (draws.std(0) > 1e-4).all()


def test_missing_or_old_keras_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[keras\]"'):
        caveat.interop.keras_mc_dropout(None, output=caveat.Mean())
    old = ModuleType("keras")
    old.__dict__["__version__"] = "2.15.0"
    monkeypatch.setitem(sys.modules, "keras", old)
    with pytest.raises(MissingExtraError, match=r"keras 3.8 or newer"):
        caveat.interop.keras_mc_dropout(None, output=caveat.Mean())
