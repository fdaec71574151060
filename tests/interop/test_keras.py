"""Keras 3 on each of its back ends, beside Keras' own dropout; each back end in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import caveat
from caveat.errors import MissingExtraError

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

BACKENDS = ("torch", "jax", "tensorflow")
NETWORKS = ("dropout", "spatial", "gaussian", "alpha", "lstm", "gru", "attention", "by hand", "noise beside", "written")
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


@pytest.mark.parametrize("network", NETWORKS)
def test_jax_and_tensorflow_give_the_same_draws(network: str) -> None:
    one, other = (results(backend)["networks"][network]["draws"] for backend in ("jax", "tensorflow"))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ("without dropout", "NothingRandomError: The network must be able to vary"),
        ("rate 1", ("InvalidRateError", "NothingRandomError")),  # Keras on torch makes zeros of it and draws nothing
        ("unbuilt", "InvalidArgumentError: A Keras model must be built"),
        ("no model", "InvalidArgumentError: model must be a keras.Model"),
        ("only noise", "NothingRandomError: The network must be able to vary"),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cannot_be_drawn_from_is_named(backend: str, situation: str, words: str | tuple[str, str]) -> None:
    assert results(backend)["errors"][situation].startswith(words)


def test_missing_or_old_keras_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[keras\]"'):
        caveat.interop.keras_mc_dropout(None, output=caveat.Mean())
    old = ModuleType("keras")
    old.__dict__["__version__"] = "2.15.0"
    monkeypatch.setitem(sys.modules, "keras", old)
    with pytest.raises(MissingExtraError, match=r"keras 3.8 or newer"):
        caveat.interop.keras_mc_dropout(None, output=caveat.Mean())
