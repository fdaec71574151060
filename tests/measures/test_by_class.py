"""Uncertainty class by class: closed forms, sums that must agree, a slow reference, and errors."""

from __future__ import annotations

import math

import pytest
import torch

from caveat.errors import InvalidArgumentError
from caveat.measures import entropy_by_class, mean_by_predicted_class, mutual_information, predictive_entropy
from caveat.predictive import BinaryLogit, Categorical, Logits, Mean, Probabilities


def _segmentation(seed: int = 0) -> Categorical:
    """Five draws of two images of 6 x 7 pixels, four classes, the last of which is never predicted."""
    scores = torch.randn(5, 2, 6, 7, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores[..., 3] -= 20
    return Logits().summarize(scores)


def test_terms_have_their_closed_form() -> None:
    # Two draws, mean (1/2, 1/4, 1/4): 1/2 log 2, then twice 1/4 log 4 = 1/2 log 2.
    draws = torch.tensor([[[0.5, 0.5, 0.0]], [[0.5, 0.0, 0.5]]], dtype=torch.float64)
    terms = entropy_by_class(Probabilities().summarize(draws))
    torch.testing.assert_close(terms, torch.full((1, 3), math.log(2) / 2, dtype=torch.float64))


def test_a_class_ruled_out_or_certain_has_a_term_of_zero() -> None:
    assert entropy_by_class(Probabilities().summarize(torch.tensor([[[1.0, 0.0]]]))).tolist() == [[0.0, 0.0]]


def test_largest_term_is_that_of_probability_one_over_e() -> None:
    p = torch.linspace(0, 1, 1001, dtype=torch.float64)
    terms = entropy_by_class(Probabilities().summarize(torch.stack([p, 1 - p], -1)[None]))
    assert float(terms.max()) == pytest.approx(1 / math.e, abs=1e-6)
    assert float(p[terms[:, 0].argmax()]) == pytest.approx(1 / math.e, abs=1e-3)


def test_terms_sum_to_the_predictive_entropy() -> None:
    pred = _segmentation()
    terms = entropy_by_class(pred)
    assert terms.shape == (2, 6, 7, 4)
    torch.testing.assert_close(terms.sum(-1), predictive_entropy(pred))


def test_a_label_has_a_term_for_no_and_one_for_yes() -> None:
    terms = entropy_by_class(BinaryLogit().summarize(torch.tensor([[math.log(3)]])))
    expected = torch.tensor([[-0.25 * math.log(0.25), -0.75 * math.log(0.75)]])
    torch.testing.assert_close(terms, expected)


@pytest.mark.parametrize("given", [False, True])
def test_means_against_a_double_loop(given: bool) -> None:
    pred = _segmentation(3)
    values = mutual_information(pred) if given else predictive_entropy(pred)
    means = mean_by_predicted_class(pred, values) if given else mean_by_predicted_class(pred)
    for image in range(2):
        for k in range(4):
            pixels = values[image][pred.predicted[image] == k]
            expected = pixels.mean() if len(pixels) else torch.tensor(math.nan, dtype=torch.float64)
            torch.testing.assert_close(means[image, k], expected, equal_nan=True)
    assert means[:, 3].isnan().all()
    assert not means[:, :3].isnan().any()


def test_means_weighted_by_pixels_are_the_mean_of_the_image() -> None:
    pred = _segmentation(4)
    counts = torch.stack([(pred.predicted == k).flatten(1).sum(1) for k in range(4)], -1)
    whole = (mean_by_predicted_class(pred).nan_to_num() * counts).sum(-1) / counts.sum(-1)
    torch.testing.assert_close(whole, predictive_entropy(pred).flatten(1).mean(1))


def test_one_image_does_not_change_anothers_means() -> None:
    pred = _segmentation(5)
    both, second = mean_by_predicted_class(pred), mean_by_predicted_class(pred.rows(slice(1, 2)))
    torch.testing.assert_close(second, both[1:], equal_nan=True)


def test_regression_has_no_classes() -> None:
    with pytest.raises(InvalidArgumentError, match="entropy_by_class is a measure of classification"):
        entropy_by_class(Mean(noise_variance=1.0).summarize(torch.zeros(2, 3, 1)))
    with pytest.raises(InvalidArgumentError, match="mean_by_predicted_class is a measure of classification"):
        mean_by_predicted_class(Mean(noise_variance=1.0).summarize(torch.zeros(2, 3, 1)))


def test_means_need_pixels_and_a_value_for_each() -> None:
    with pytest.raises(InvalidArgumentError, match="class_dim=1"):
        mean_by_predicted_class(Logits().summarize(torch.zeros(2, 3, 4)))
    with pytest.raises(InvalidArgumentError, match="same shape"):
        mean_by_predicted_class(_segmentation(), torch.zeros(2, 6))
