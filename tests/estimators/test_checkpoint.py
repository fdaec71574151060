"""A training that was killed is gone on with by the same call, and ends in the same model: for each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from caveat import image, tabular, text
from caveat.errors import InvalidArgumentError
from caveat.train._checkpoint import Checkpoint


class Killed(Exception):
    pass


def of_kind(kind: str) -> tuple[Any, Any, Any]:
    """An estimator, hardly to be trained, its rows and their answers."""
    random = np.random.default_rng(0)
    if kind == "tables":
        return tabular.Classifier(members=2, epochs=8, width=8, draws=4), random.normal(size=(40, 2)), ["a", "b"] * 20
    if kind == "few rows of a table":  # which are calibrated by folds
        return tabular.Regressor(members=1, epochs=8, width=8, draws=4), random.normal(size=(30, 2)), np.arange(30.0)
    if kind == "sentences":
        rows = [f"{word} number {row}" for row in range(30) for word in ("play", "cook")]
        return text.Classifier(epochs=3, width=8, draws=4), rows, ["music", "food"] * 30
    rows = random.integers(0, 255, (40, 8, 8), dtype=np.uint8)
    return image.Classifier(epochs=3, width=4, draws=4), rows, ["a", "b"] * 20


@pytest.mark.parametrize(
    ("kind", "stop"),
    [("tables", 2), ("tables", 9), ("few rows of a table", 12), ("sentences", 2), ("pictures", 2)],
)
def test_killed_and_called_again(kind: str, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, X, y = of_kind(kind)
    unbroken = estimator.fit(X, y).model_
    saves, save = list[int](), Checkpoint.save

    def saved(self: Checkpoint, training: Any) -> None:
        self._rhythm._due = 0.0
        save(self, training)
        saves.append(training.epoch)
        if len(saves) == stop:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", saved)
        with pytest.raises(Killed):
            estimator.fit(X, y, checkpoint=tmp_path / "kept")
    resumed = estimator.fit(X, y, checkpoint=tmp_path / "kept").model_
    for one, other in zip(unbroken.networks, resumed.networks, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])
    assert torch.equal(unbroken.calibration.scores, resumed.calibration.scores)


@pytest.mark.parametrize("kind", ["tables", "sentences", "pictures"])
def test_a_checkpoint_of_other_answers_is_refused(kind: str, tmp_path: Path) -> None:
    estimator, X, y = of_kind(kind)
    estimator.fit(X, y, checkpoint=tmp_path)
    with pytest.raises(InvalidArgumentError, match="checkpoint"):
        estimator.fit(X, y[::-1], checkpoint=tmp_path)
