"""Estimators and torch's own random state and modes: a model depends on neither, and is at rest by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")

from caveat import image, tabular, text

QUICK: dict[str, Any] = {"members": 2, "epochs": 2, "width": 8, "draws": 4}
TABLE = {"size": np.linspace(0, 1, 140), "color": np.array(["red", "blue"] * 70)}
SENTENCES = ["a fine film", "fine and funny", "a dull film", "dull and long"] * 35
PICTURES = np.random.default_rng(0).integers(0, 200, (140, 8, 8), dtype=np.uint8)
WORDS = ["yes", "no"] * 70

CASES = {
    **{
        f"{one.__name__} by {method}": (one(method=method, **QUICK), TABLE)
        for one in (tabular.Regressor, tabular.Classifier)
        for method in ("ensemble", "mc_dropout", "concrete_dropout", "sngp")
    },
    "Regressor of sentences": (text.Regressor(**QUICK), SENTENCES),
    "Classifier of sentences": (text.Classifier(**QUICK), SENTENCES),
    "Regressor of pictures": (image.Regressor(**QUICK), PICTURES),
    "Classifier of pictures": (image.Classifier(**QUICK), PICTURES),
}


@pytest.mark.parametrize("case", CASES)
def test_a_model_rests_in_eval_mode_and_does_not_depend_on_torchs_random_state(case: str, tmp_path: Path) -> None:
    estimator, X = CASES[case]
    y = WORDS if "Classifier" in case else TABLE["size"]
    found: list[Any] = []
    for seed in (0, 1):
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = type(estimator)(**estimator.get_params()).fit(X, y)
            pred, calibration = model.predictive(X), model.model_.calibration
            found.append([pred.mean, calibration.scores, calibration.factors, torch.tensor(calibration.noise or 0.0)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    model.save(tmp_path / "model")
    for one in (model, type(model).load(tmp_path / "model")):
        networks: tuple[nn.Module, ...] = one.model_.networks
        assert not [name for network in networks for name, module in network.named_modules() if module.training]
