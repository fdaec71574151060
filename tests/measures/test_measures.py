"""Measures: golden numbers with their derivations, laws, slow references and errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from caveat import measures
from caveat._engine import as_output
from caveat._measure_kinds import Measure
from caveat.errors import DrawsNotKeptError, InvalidArgumentError
from caveat.measures import MEASURES, decompose
from caveat.predictive import (
    BinaryLogit,
    Logits,
    Mean,
    MeanAndVariance,
    Predictive,
    Probabilities,
    concatenate,
)

LOG2 = math.log(2)
CLASSIFICATION = [m for m in MEASURES.values() if m.kind == "classification"]
REGRESSION = [m for m in MEASURES.values() if m.kind == "regression"]

# Two draws of three classes. Mean (1/2, 1/4, 1/4).
DRAWS = torch.tensor([[[0.5, 0.5, 0.0]], [[0.5, 0.0, 0.5]]], dtype=torch.float64)

GOLDEN = {
    # 1/2 log 2 + 2 * 1/4 log 4 = 3/2 log 2.
    "predictive_entropy": 1.5 * LOG2,
    # Each draw: log 2.
    "expected_entropy": LOG2,
    "mutual_information": 0.5 * LOG2,
    # Both draws tie at 1/2; the first class at it wins: class 0 both times.
    "variation_ratio": 0.0,
    # Classes 1 and 2: 1/2 and 0, mean 1/4, unbiased 2 * (1/4)^2 / 1 = 1/8.
    "max_class_variance": 1 / 8,
    # (0 + 2 sqrt(1/8)) / 3.
    "mean_standard_deviation": 2 * math.sqrt(1 / 8) / 3,
    "margin": 1 / 4,
    "least_confidence": 1 / 2,
    # Each way: class 0 nothing, the other 1/2 (log 1/2 - floor), the floor being log of the least float64.
    "pairwise_kl": 0.5 * (-LOG2 - math.log(torch.finfo(torch.float64).tiny)),
}


def one_draw(z: Tensor) -> Predictive:
    return Logits().summarize(z[:1])


scores = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6),
    elements=st.floats(-30, 30, width=32),
).map(torch.from_numpy)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_classification(name: str) -> None:
    pred = Probabilities().summarize(DRAWS)
    assert MEASURES[name](pred).tolist() == [pytest.approx(GOLDEN[name], rel=1e-12, abs=1e-12)]


def test_golden_classification_is_complete() -> None:
    assert set(GOLDEN) == {m.name for m in CLASSIFICATION}


def test_golden_variation_ratio() -> None:
    # Votes 3, 1, 1 of 5: 1 - 3/5.
    z = torch.eye(3)[[0, 0, 0, 1, 2]][:, None]
    assert measures.variation_ratio(Logits().summarize(z)).item() == pytest.approx(0.4)


def test_golden_regression() -> None:
    # Means 1, 3; noise 0.5, 1.5: epistemic 2, aleatoric 1, total 3.
    # The middle 90 % of N(2, 3) are 2 * 1.6448536 * sqrt 3 wide.
    pred = MeanAndVariance().summarize(torch.tensor([[[[1.0, 0.5]]], [[[3.0, 1.5]]]]))
    assert measures.epistemic_variance(pred).tolist() == [[2.0]]
    assert measures.aleatoric_variance(pred).tolist() == [[1.0]]
    assert measures.total_variance(pred).tolist() == [[3.0]]
    assert measures.interval_width(pred).item() == pytest.approx(2 * 1.6448536269514722 * math.sqrt(3))
    split = {k: v.item() for k, v in decompose(pred).items()}
    assert split == {"total": 3.0, "aleatoric": 1.0, "epistemic": 2.0}


def test_golden_bernoulli() -> None:
    # Probabilities of yes 1/2 and 3/4 (logit log 3), as two classes: mean 5/8.
    pred = BinaryLogit().summarize(torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64))
    total = -(5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8))
    expected = (LOG2 + 2 * LOG2 - 0.75 * math.log(3)) / 2
    assert measures.predictive_entropy(pred).item() == pytest.approx(total)
    assert measures.expected_entropy(pred).item() == pytest.approx(expected)
    assert measures.mutual_information(pred).item() == pytest.approx(total - expected)
    assert measures.max_class_variance(pred).item() == pytest.approx(1 / 32)
    assert measures.margin(pred).item() == pytest.approx(1 / 4)
    # The tie is a no, the other draw a yes.
    assert measures.variation_ratio(pred).item() == pytest.approx(1 / 2)


@settings(deadline=None)
@given(scores)
def test_information_laws(z: Tensor) -> None:
    pred = Logits().summarize(z.double())
    total, noise = measures.predictive_entropy(pred), measures.expected_entropy(pred)
    gain = measures.mutual_information(pred)
    assert (gain >= 0).all()
    assert (noise >= 0).all()
    assert (gain <= total + 1e-12).all()
    assert (total <= math.log(z.shape[-1]) + 1e-12).all()
    torch.testing.assert_close(gain + noise, total, rtol=0, atol=1e-12)
    # Two draws at random, possibly the same one: by convexity their divergence bounds the information.
    s = z.shape[0]
    assert (gain <= measures.pairwise_kl(pred) * (s - 1) / s + 1e-9).all()


@settings(deadline=None)
@given(scores)
def test_ranges(z: Tensor) -> None:
    pred, most = Logits().summarize(z), 1 - 1 / z.shape[-1]
    highs = {"variation_ratio": most, "least_confidence": most, "margin": 1, "max_class_variance": 0.5}
    for name, high in highs.items():
        values = MEASURES[name](pred)
        assert (values >= 0).all()
        assert (values <= high + 1e-6).all()


@settings(deadline=None)
@given(scores)
def test_one_draw_has_no_epistemic_part(z: Tensor) -> None:
    pred = one_draw(z)
    for name in ("mutual_information", "pairwise_kl", "variation_ratio", "max_class_variance"):
        assert torch.equal(MEASURES[name](pred), torch.zeros(z.shape[1]))
    regression = Mean(noise_variance=0.3).summarize(z[:1])
    assert torch.equal(measures.epistemic_variance(regression), torch.zeros(z.shape[1:]))


@settings(deadline=None)
@given(scores, st.randoms(use_true_random=False))
def test_permuting_and_splitting_draws_changes_nothing(z: Tensor, random: Any) -> None:
    order = random.sample(range(len(z)), len(z))
    cut = random.randrange(1, len(z))
    whole, shuffled = Logits().summarize(z), Logits().summarize(z[order])
    merged = Logits().summarize(z[:cut]).merge(Logits().summarize(z[cut:]))
    for m in CLASSIFICATION:
        torch.testing.assert_close(m(shuffled), m(whole), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(m(merged), m(whole), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(scores)
def test_pairwise_kl_against_a_double_loop(z: Tensor) -> None:
    log_p = torch.log_softmax(z.double(), -1)
    n = len(z)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    slow = torch.stack([(log_p[i].exp() * (log_p[i] - log_p[j])).sum(-1) for i, j in pairs]).mean(0)
    torch.testing.assert_close(measures.pairwise_kl(Logits().summarize(z.double())), slow, rtol=1e-9, atol=1e-10)


def test_against_plain_formulas() -> None:
    z = torch.randn(50, 6, 4, dtype=torch.float64)
    p, pred = z.softmax(-1), Logits().summarize(z)
    mean = p.mean(0)
    ordered = mean.sort(-1, descending=True).values
    modes = torch.nn.functional.one_hot(z.argmax(-1), 4).sum(0).amax(-1)
    expected = {
        "predictive_entropy": -(mean * mean.log()).sum(-1),
        "expected_entropy": -(p * p.log()).sum(-1).mean(0),
        "variation_ratio": 1 - modes.double() / 50,
        "max_class_variance": p.var(0).amax(-1),
        "mean_standard_deviation": p.std(0).mean(-1),
        "margin": ordered[:, 0] - ordered[:, 1],
        "least_confidence": 1 - ordered[:, 0],
    }
    for name, values in expected.items():
        torch.testing.assert_close(MEASURES[name](pred), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda m: m.name)
def test_shapes_and_dtypes(measure: Measure, dtype: torch.dtype) -> None:
    out = torch.promote_types(dtype, torch.float32)
    if measure.kind == "regression":
        cases: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = [
            (Mean(0.1), (5, 4, 2), (4, 2)),
            (Mean(0.1), (5, 4), (4,)),
        ]
    else:
        cases = [
            (Logits(), (5, 4, 3), (4,)),
            (Logits(class_dim=1), (5, 4, 8, 8, 3), (4, 8, 8)),
            (BinaryLogit(), (5, 4), (4,)),
            (BinaryLogit(), (5, 4, 3), (4, 3)),
        ]
    for output, shape, expected in cases:
        pred = output.summarize(torch.randn(shape).to(dtype))
        values = measure(pred)
        assert values.shape == expected
        assert values.dtype == out
        assert values.isfinite().all()
        assert measure.fits(pred)


def test_rows_of_different_counts() -> None:
    z = torch.randn(9, 4, 2, 3)
    short, long = Logits().summarize(z[:1]), Logits().summarize(z)
    odd, even = torch.tensor([1, 3]), torch.tensor([0, 2])
    joined = concatenate([short.rows(odd), long.rows(even)], indices=[odd, even])
    for m in CLASSIFICATION:
        torch.testing.assert_close(m(joined)[odd], m(short)[odd])
        torch.testing.assert_close(m(joined)[even], m(long)[even])


def test_registry() -> None:
    several_numbers_a_row = {"decompose", "entropy_by_class", "mean_by_predicted_class"}  # nothing to rank rows by
    functions = {name for name in measures.__all__ if name.islower()} - several_numbers_a_row
    assert set(MEASURES) == functions
    assert all(getattr(measures, name) is m.function and m.name == name for name, m in MEASURES.items())
    assert [m.name for m in MEASURES.values() if not m.higher_is_less_sure] == ["margin"]


def test_uncertainty_ranks_the_surest_last() -> None:
    sure, unsure = [8.0, 0.0, 0.0], [0.2, 0.1, 0.0]
    z = torch.tensor([sure, unsure]) + 0.05 * torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(0))
    pred = Logits().summarize(z)
    assert measures.margin(pred)[0] > measures.margin(pred)[1]
    for m in CLASSIFICATION:
        values = m.uncertainty(pred)
        assert values[1] > values[0], m.name


def test_interval_width_of_the_mixture() -> None:
    pred = Mean(noise_variance=1.0).summarize(torch.tensor([[[-50.0]], [[50.0]]]), keep=True)
    # Its 0.95 quantile is the upper half's 0.9: 50 + 1.28155; the lower end mirrors it.
    width = measures.interval_width(pred, 0.9, mixture=True)
    assert width.item() == pytest.approx(100 + 2 * 1.2815515655446004, rel=1e-6)
    with pytest.raises(DrawsNotKeptError):
        measures.interval_width(Mean().summarize(torch.zeros(2, 3, 1)), mixture=True)


def test_decompose_by_head() -> None:
    output = as_output({"kind": Logits(), "size": Mean(0.5)})
    pred = output.summarize({"kind": torch.randn(9, 4, 3), "size": torch.randn(9, 4, 2)})
    split = decompose(pred)
    assert {name: {k: tuple(v.shape) for k, v in parts.items()} for name, parts in split.items()} == {
        "kind": {"total": (4,), "aleatoric": (4,), "epistemic": (4,)},
        "size": {"total": (4, 2), "aleatoric": (4, 2), "epistemic": (4, 2)},
    }
    for parts in split.values():
        torch.testing.assert_close(parts["aleatoric"] + parts["epistemic"], parts["total"])


# The errors.


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda m: m.name)
def test_the_wrong_kind_says_which_measures_fit(measure: Measure) -> None:
    classes, regression = Logits().summarize(torch.zeros(2, 4, 3)), Mean().summarize(torch.zeros(2, 4, 3))
    wrong, fitting = (regression, REGRESSION) if measure.kind == "classification" else (classes, CLASSIFICATION)
    names = ", ".join(m.name for m in fitting)
    got = type(wrong).__name__
    with pytest.raises(InvalidArgumentError, match=rf"(?s){measure.name} is a.*Got: {got}.*cause:.*Fix:.*{names}"):
        measure(wrong)
    assert not measure.fits(wrong)


@pytest.mark.parametrize("function", [measures.margin, measures.total_variance])
def test_several_heads_say_how_to_take_one(function: Callable[[Predictive], Tensor]) -> None:
    pred = as_output({"kind": Logits()}).summarize({"kind": torch.zeros(2, 4, 3)})
    with pytest.raises(InvalidArgumentError, match=r"(?s)several heads: kind.*Fix: \w+\(pred\['kind'\]\)"):
        function(pred)


def test_what_is_not_a_predictive() -> None:
    for function in (measures.predictive_entropy, decompose):
        with pytest.raises(
            InvalidArgumentError, match=r"(?s)is a measure of a predictive.*Got: Tensor.*what caveat\.predict returns"
        ):
            function(torch.zeros(4, 3))  # type: ignore[arg-type]
