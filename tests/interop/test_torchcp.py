"""Samplers as TorchCP's models: what it makes of them is split conformal prediction, and its other predictors run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import caveat
from caveat.calibrate import APS, fit_conformal_intervals, fit_conformal_sets
from caveat.errors import InvalidArgumentError
from caveat.interop._torchcp import torchcp_model

# TorchCP warns of a setting of its own that it sets itself.
pytestmark = pytest.mark.filterwarnings("ignore:The 'temperature' parameter:DeprecationWarning")

X = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
LABELS = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
TARGETS = X[:, 0] - X[:, 1]


@pytest.fixture(scope="module")
def torchcp() -> Iterator[Any]:
    """TorchCP, also where it was installed alone: its graph and ranking parts, which are not used here, need more."""
    if importlib.util.find_spec("torchcp") is None:
        pytest.skip("TorchCP is not installed")
    parts = ("torchsort", "networkx", *(f"torch_geometric{part}" for part in ("", ".nn", ".loader", ".utils")))
    missing = {name for name in parts if "." not in name and importlib.util.find_spec(name) is None}
    with pytest.MonkeyPatch.context() as patch:
        for name in (*parts, "torch_geometric.utils.convert"):
            if name.split(".")[0] in missing:
                patch.setitem(sys.modules, name, MagicMock())
        yield pytest.importorskip("torchcp")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchcp"]:
        del sys.modules[name]


def network(outputs: int, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs)).eval()


def loader(targets: Tensor, rows: slice) -> Any:
    return DataLoader(TensorDataset(X[rows], targets[rows]), batch_size=64)


def test_its_softmax_is_the_mean_of_the_draws() -> None:
    sampler = caveat.mc_dropout(network(3), output=caveat.Logits())
    model = torchcp_model(sampler, n=20, batch_size=64)
    torch.testing.assert_close(model(X).softmax(-1), caveat.predict(sampler, X, n=20, seed=0).mean)
    torch.testing.assert_close(model(X[70:75]), model(X)[70:75])
    assert next(model.parameters()).device == torch.device("cpu")
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_class_that_no_draw_gives_keeps_a_finite_score() -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([0.0, -1e4]).expand(len(x), 2)

    model = torchcp_model(caveat.ensemble([Sure(), Sure()], output=caveat.Logits()), n=2)
    logits = model(torch.zeros(3, 1))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(-1), torch.tensor([[1.0, 0.0]]).expand(3, 2))


def test_two_classes_of_one_logit() -> None:
    sampler = caveat.mc_dropout(network(1), output=caveat.BinaryLogit())
    p = torchcp_model(sampler, n=10)(X).exp()
    assert p.shape == (400, 2)
    torch.testing.assert_close(p.sum(-1), torch.ones(400))


# At an alpha of 0.2 APS's threshold is the sum of all three probabilities: 1, give or take the last digit.
@pytest.mark.parametrize(("score", "alpha"), [("LAC", 0.2), ("APS", 0.5)])
def test_sets_are_those_of_split_conformal(torchcp: Any, score: str, alpha: float) -> None:
    sampler = caveat.mc_dropout(network(3), output=caveat.Logits())
    theirs = getattr(torchcp.classification.score, score)(**({"randomized": False} if score == "APS" else {}))
    predictor = torchcp.classification.predictor.SplitPredictor(theirs, torchcp_model(sampler, n=20), alpha=alpha)
    predictor.calibrate(loader(LABELS, slice(200)))
    p = caveat.predict(sampler, X, n=20, seed=0).mean
    ours = fit_conformal_sets(p[:200], LABELS[:200], level=1 - alpha, score=None if score == "LAC" else APS())
    assert torch.equal(predictor.predict(X[200:]).bool(), ours(p[200:]))


def test_its_other_predictors_run_and_cover(torchcp: Any) -> None:
    # 300 rows calibrate each of three classes: at alpha 0.2 coverage of the other 100 is 0.8 +- 0.05 (one sd).
    sampler = caveat.ensemble([network(3), network(3, seed=1)], output=caveat.Logits())
    model = torchcp_model(sampler, n=2)
    predictor = torchcp.classification.predictor.ClassConditionalPredictor(
        torchcp.classification.score.LAC(), model, alpha=0.2
    )
    predictor.calibrate(loader(LABELS, slice(300)))
    sets = predictor.predict(X[300:]).bool()
    covered = sets.gather(1, LABELS[300:, None]).double().mean()
    assert covered > 0.65


def test_intervals_are_those_of_split_conformal(torchcp: Any) -> None:
    sampler = caveat.mc_dropout(network(1), output=caveat.Mean(0.1))
    score = torchcp.regression.score.ABS()
    predictor = torchcp.regression.predictor.SplitPredictor(score, torchcp_model(sampler, n=20), alpha=0.2)
    predictor.calibrate(loader(TARGETS, slice(200)))
    ends = predictor.predict(X[200:])[:, 0]
    mean = caveat.predict(sampler, X, n=20, seed=0).mean[:, 0]
    low, high = fit_conformal_intervals(mean[:200], TARGETS[:200], level=0.8)(mean[200:])
    torch.testing.assert_close(ends, torch.stack((low, high), -1), atol=1e-5, rtol=0, check_dtype=False)


def test_quantiles_are_the_predictives_and_conformal_ones_cover(torchcp: Any) -> None:
    sampler = caveat.mc_dropout(network(1), output=caveat.Mean(0.1))
    model = torchcp_model(sampler, quantiles=(0.1, 0.9), n=20)
    pred = caveat.predict(sampler, X, n=20, seed=0)
    # The 90 % quantile of the standard normal is 1.2815515655.
    reach = 1.2815515655 * pred.variance.sqrt()
    torch.testing.assert_close(model(X), torch.cat([pred.mean - reach, pred.mean + reach], -1))
    predictor = torchcp.regression.predictor.SplitPredictor(torchcp.regression.score.CQR(), model, alpha=0.2)
    predictor.calibrate(loader(TARGETS, slice(300)))
    low, high = predictor.predict(X[300:])[:, 0].unbind(-1)
    # 100 rows: 0.8 less four standard deviations of 0.046 (theirs and those of 300 calibrating rows).
    assert ((low <= TARGETS[300:]) & (TARGETS[300:] <= high)).double().mean() > 0.62


def test_what_torchcp_has_no_place_for() -> None:
    classes = caveat.mc_dropout(network(3), output=caveat.Logits())
    several = caveat.mc_dropout(network(2), output=caveat.Mean(0.1))
    maps = caveat.mc_dropout(nn.Sequential(network(6), nn.Unflatten(-1, (2, 3))), output=caveat.Logits())
    with pytest.raises(InvalidArgumentError, match="classes, one label per row"):
        torchcp_model(maps, n=2)(X)
    for sampler, quantiles in ((classes, (0.1, 0.9)), (several, None), (several, (0.1, 0.9))):
        with pytest.raises(InvalidArgumentError, match="one number per row"):
            torchcp_model(sampler, quantiles=quantiles, n=2)(X)


@pytest.mark.parametrize("quantiles", [(0.9, 0.1), (0.0, 0.9), (5, 95), (0.1, 0.5, 0.9), (float("nan"), 0.9)])
def test_bad_quantiles(quantiles: Any) -> None:
    sampler = caveat.mc_dropout(network(1), output=caveat.Mean(0.1))
    with pytest.raises(InvalidArgumentError, match="rising probabilities"):
        torchcp_model(sampler, quantiles=quantiles)


def test_bad_batch_size() -> None:
    sampler = caveat.mc_dropout(network(3), output=caveat.Logits())
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        torchcp_model(sampler, batch_size=0)


def test_an_ensemble_gives_all_its_members() -> None:
    sampler = caveat.ensemble([network(3), network(3, seed=1)], output=caveat.Logits())
    torch.testing.assert_close(torchcp_model(sampler)(X).softmax(-1), caveat.predict(sampler, X).mean)
