"""Samplers as estimators of scikit-learn, and MAPIE on top of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import caveat
from caveat.errors import InvalidArgumentError

pytest.importorskip("mapie")

from caveat.calibrate import fit_conformal_intervals, fit_conformal_sets
from caveat.interop._mapie import mapie_estimator


def network(outputs: int, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs)).eval()


X = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
LABELS = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()


def test_sets_are_those_of_split_conformal() -> None:
    from mapie.classification import SplitConformalClassifier

    sampler = caveat.mc_dropout(network(3), output=caveat.Logits())
    estimator = mapie_estimator(sampler, n=20, classes=3, batch_size=64)
    p = caveat.predict(sampler, X, n=20, seed=0).mean
    torch.testing.assert_close(torch.from_numpy(estimator.predict_proba(X.numpy())).float(), p)
    conformal = SplitConformalClassifier(estimator, confidence_level=0.8, prefit=True)
    conformal.conformalize(X[:200].numpy(), LABELS[:200].numpy())
    predicted, sets = conformal.predict_set(X[200:].numpy())
    assert (predicted == p[200:].argmax(-1).numpy()).all()
    ours = fit_conformal_sets(p[:200], LABELS[:200], level=0.8)(p[200:])
    assert torch.equal(torch.from_numpy(sets[..., 0]), ours)


def test_intervals_are_those_of_split_conformal() -> None:
    from mapie.regression import SplitConformalRegressor

    sampler = caveat.mc_dropout(network(1), output=caveat.Mean(0.1))
    y = X[:, 0] - X[:, 1]
    conformal = SplitConformalRegressor(mapie_estimator(sampler, n=20), confidence_level=0.8, prefit=True)
    conformal.conformalize(X[:200].numpy(), y[:200].numpy())
    _, ends = conformal.predict_interval(X[200:].numpy())
    mean = caveat.predict(sampler, X, n=20, seed=0).mean[:, 0]
    low, high = fit_conformal_intervals(mean[:200], y[:200], level=0.8)(mean[200:])
    torch.testing.assert_close(torch.from_numpy(ends[:, :, 0]).float(), torch.stack((low, high), -1), atol=1e-4, rtol=0)


def test_a_sampler_of_the_other_kind() -> None:
    classes = caveat.mc_dropout(network(3), output=caveat.Logits())
    numbers = caveat.mc_dropout(network(2), output=caveat.Mean(0.1))
    with pytest.raises(InvalidArgumentError, match="classes, one label per row"):
        mapie_estimator(numbers, n=2, classes=2).predict(X.numpy())
    for sampler in (classes, numbers):
        with pytest.raises(InvalidArgumentError, match="one number per row"):
            mapie_estimator(sampler, n=2).predict(X.numpy())
    with pytest.raises(InvalidArgumentError, match="at least 2"):
        mapie_estimator(classes, classes=1)
    with pytest.raises(InvalidArgumentError, match="batch_size must be"):
        mapie_estimator(numbers, batch_size=0)


@pytest.mark.parametrize("columns", [1, None])
def test_a_logit_of_yes_is_two_classes_also_in_a_column(columns: int | None) -> None:
    model = network(1) if columns else nn.Sequential(network(1), nn.Flatten(0))
    sampler = caveat.mc_dropout(model, output=caveat.BinaryLogit())
    p = mapie_estimator(sampler, n=20, classes=2).predict_proba(X.numpy())
    assert p.shape == (300, 2)
    yes = caveat.predict(sampler, X, n=20, seed=0).mean.reshape(-1)
    torch.testing.assert_close(torch.from_numpy(p[:, 1]).float(), yes)


def test_an_ensemble_gives_all_its_members() -> None:
    classes = caveat.ensemble([network(3), network(3, seed=1)], output=caveat.Logits())
    numbers = caveat.ensemble([network(1), network(1, seed=1)], output=caveat.Mean(0.1))
    p = mapie_estimator(classes, classes=3).predict_proba(X.numpy())
    torch.testing.assert_close(torch.from_numpy(p).float(), caveat.predict(classes, X).mean)
    mean = mapie_estimator(numbers).predict(X.numpy())
    torch.testing.assert_close(torch.from_numpy(mean).float(), caveat.predict(numbers, X).mean[:, 0])
