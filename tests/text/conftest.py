"""Small sets of sentences whose truth is known, and models that were trained on them once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from caveat.text import Classifier, Regressor

QUICK: dict[str, Any] = {"epochs": 8, "width": 24, "draws": 20, "batch_size": 16}

VERBS = {
    "music": ("play", "sing", "start"),
    "food": ("book", "order", "reserve"),
    "light": ("dim", "brighten", "switch"),
}
THINGS = {
    "music": ("jazz", "blues", "songs", "album", "radio"),
    "food": ("table", "pizza", "dinner", "seats", "sushi"),
    "light": ("lamp", "kitchen", "bulb", "hallway", "bedroom"),
}
FILLERS = ("please", "now", "for me", "today", "the", "some", "my", "quickly")

Corpus = tuple[list[str], np.ndarray]


def commands(rows: int = 300, seed: int = 0) -> Corpus:
    """Requests of three kinds, told by their verbs and things."""
    random = np.random.default_rng(seed)
    kinds = random.choice(list(VERBS), rows)
    texts = [
        " ".join(
            [str(random.choice(FILLERS)), str(random.choice(VERBS[kind])), str(random.choice(FILLERS)),
             str(random.choice(THINGS[kind])), *random.choice(FILLERS, random.integers(0, 4))]
        )
        for kind in kinds
    ]  # fmt: skip
    return texts, kinds


def opinions(rows: int = 300, seed: int = 0) -> Corpus:
    """Sentences whose target is the sum of their words' worth, with noise."""
    random = np.random.default_rng(seed)
    worth = {"fine": 1.0, "funny": 0.7, "dull": -1.0, "long": -0.5, "bright": 0.5, "noisy": -0.7, "film": 0.0, "a": 0.0}
    texts, values = list[str](), list[float]()
    for _ in range(rows):
        words = random.choice(list(worth), random.integers(2, 7))
        texts.append(" ".join(words))
        values.append(sum(worth[str(word)] for word in words) + random.normal(0, 0.2))
    return texts, np.array(values)


def gibberish(rows: int = 60, seed: int = 0) -> list[str]:
    """Words that nobody has seen."""
    random = np.random.default_rng(seed)
    letters = list("bcdfghjklmnpqrstvwxz")
    return [
        " ".join("".join(random.choice(letters, random.integers(4, 9))) for _ in range(random.integers(3, 8)))
        for _ in range(rows)
    ]


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier(**QUICK).fit(*commands())


@pytest.fixture(scope="session")
def regressor() -> Regressor:
    return Regressor(**QUICK | {"epochs": 15}).fit(*opinions())


@pytest.fixture(scope="session")
def corpus() -> Callable[..., Corpus]:
    return commands


@pytest.fixture(scope="session")
def rated() -> Callable[..., Corpus]:
    return opinions


@pytest.fixture(scope="session")
def unheard() -> list[str]:
    return gibberish()


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    return dict(QUICK)
