"""The model precision of Gal and Ghahramani."""

from __future__ import annotations

import pytest
import torch

from caveat.errors import InvalidArgumentError
from caveat.predictive import Mean, model_precision


def test_golden_precision() -> None:
    # l^2 (1 - p) / (2 N lambda): 1 * 0.5 / (2 * 100 * 0.0025) = 1.
    assert model_precision(1.0, 0.5, 100, 0.0025) == pytest.approx(1.0)
    # Solved for lambda, as in the authors' UCI code: 0.01^2 * 0.95 / (2 * 455 * 0.15) gives tau = 0.15.
    assert model_precision(0.01, 0.05, 455, 0.01**2 * 0.95 / (2 * 455 * 0.15)) == pytest.approx(0.15)


def test_its_inverse_is_the_noise_variance() -> None:
    tau = model_precision(1.0, 0.0, 10, 0.2)  # 1 / (2 * 10 * 0.2) = 0.25
    pred = Mean(noise_variance=1 / tau).summarize(torch.tensor([[[1.0]], [[3.0]]]))
    assert pred.variance.item() == pytest.approx(4.0 + 2.0)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 5, float("nan")])
def test_bad_rate(rate: float) -> None:
    with pytest.raises(InvalidArgumentError, match=r"(?s)\[0, 1\).*Got: dropout=.*Fix:"):
        model_precision(1.0, rate, 10, 1e-4)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("length_scale", (0.0, 0.1, 10, 1e-4)),
        ("n_train", (1.0, 0.1, 0, 1e-4)),
        ("weight_decay", (1.0, 0.1, 10, 0.0)),
        ("weight_decay", (1.0, 0.1, 10, float("inf"))),
    ],
)
def test_arguments_that_are_not_positive(name: str, args: tuple[float, float, int, float]) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"(?s){name} must be a finite number above 0.*Got: {name}=.*Fix:"):
        model_precision(*args)
