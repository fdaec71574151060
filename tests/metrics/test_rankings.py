"""Curves over a ranking: risk and coverage, sparsification, detection; ties in expectation."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.decide import NoThresholdError, threshold_for_cost, threshold_for_risk
from caveat.errors import InvalidArgumentError, NotFiniteError
from caveat.metrics import (
    augrc,
    aupr,
    aurc,
    auroc,
    ause,
    class_auroc,
    detection,
    excess_aurc,
    fpr_at_tpr,
    out_of_distribution,
    referral_curve,
    risk_coverage,
    sparsification,
)
from caveat.predictive import Logits

AREAS = [aurc, excess_aurc, augrc]
DETECTIONS = [auroc, aupr, fpr_at_tpr]


@st.composite
def ranked(draw: st.DrawFn, most: int = 30) -> tuple[Tensor, Tensor]:
    """Losses and uncertainty, with ties in both, and losses of either kind."""
    n = draw(st.integers(2, most))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    doubt = torch.randint(0, draw(st.integers(1, 2 * n)), (n,), generator=generator).double() + 0.5  # not 0 and 1
    loss = torch.rand(n, generator=generator, dtype=torch.float64)
    return (loss.round() if draw(st.booleans()) else loss), doubt


def mean_over_orders(of: Callable[[Tensor], float], loss: Tensor, doubt: Tensor) -> float:
    """The mean over every order that the ties allow of a function of the ordered losses."""
    groups = [[i for i in range(len(doubt)) if doubt[i] == value] for value in doubt.unique()]
    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    return float(np.mean([of(loss[[i for group in order for i in group]]) for order in orders]))


def area_of(ordered: Tensor) -> float:
    return float((ordered.cumsum(0) / torch.arange(1, len(ordered) + 1)).mean())


@given(ranked(most=6))
def test_ties_are_the_mean_over_their_orders(data: tuple[Tensor, Tensor]) -> None:
    loss, doubt = data
    assert aurc(doubt, loss).item() == pytest.approx(mean_over_orders(area_of, loss, doubt), abs=1e-12)
    risk = risk_coverage(doubt, loss)
    for k in range(1, len(loss) + 1):
        expected = mean_over_orders(lambda ordered, k=k: float(ordered[:k].mean()), loss, doubt)
        assert risk.at(k / len(loss)) == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(risk.risk.mean(), aurc(doubt, loss))
    best = area_of(loss.sort().values)
    assert excess_aurc(doubt, loss).item() == pytest.approx(aurc(doubt, loss).item() - best, abs=1e-12)

    def generalized(ordered: Tensor) -> float:
        curve = torch.cat((torch.zeros(1), ordered.cumsum(0) / len(ordered)))
        return float(torch.trapezoid(curve, dx=1 / len(ordered)))

    assert augrc(doubt, loss).item() == pytest.approx(mean_over_orders(generalized, loss, doubt), abs=1e-12)


@given(ranked())
def test_augrc_is_what_the_paper_says_of_auroc(data: tuple[Tensor, Tensor]) -> None:
    # Traub et al., 2024, equation 6: AUGRC = (1 - AUROC) a (1 - a) + (1 - a)^2 / 2.
    loss, doubt = data[0].round(), data[1]
    a = 1 - loss.mean().item()
    if 0 < a < 1:
        expected = (1 - auroc(doubt, loss).item()) * a * (1 - a) + (1 - a) ** 2 / 2
        assert augrc(doubt, loss).item() == pytest.approx(expected, abs=1e-12)


@given(ranked())
def test_no_ranking_beats_the_oracle_and_a_constant_one_is_flat(data: tuple[Tensor, Tensor]) -> None:
    loss, doubt = data
    curve = risk_coverage(doubt, loss)
    assert (curve.oracle <= curve.risk + 1e-12).all()
    assert excess_aurc(doubt, loss) >= 0
    assert excess_aurc(loss, loss).item() == pytest.approx(0, abs=1e-12)
    flat = risk_coverage(torch.zeros_like(doubt), loss)
    torch.testing.assert_close(flat.risk, loss.mean().expand_as(loss))
    torch.testing.assert_close(aurc(torch.zeros_like(doubt), loss), loss.mean())


@given(ranked(), st.integers(0, 1000))
def test_a_weight_is_a_repeated_row(data: tuple[Tensor, Tensor], seed: int) -> None:
    loss, doubt = data
    times = torch.randint(0, 4, loss.shape, generator=torch.Generator().manual_seed(seed))
    positive = loss.round()
    loss[0], times[0], positive[0], positive[1], times[1] = 0.5, 1, 1, 0, 1
    both = torch.stack((times.double(), torch.ones_like(loss)))

    def again(x: Tensor) -> Tensor:
        return x.repeat_interleave(times)

    for area in [*AREAS, ause]:
        expected = torch.stack((area(again(doubt), again(loss)), area(doubt, loss)))
        torch.testing.assert_close(area(doubt, loss, weights=both), expected)
        torch.testing.assert_close(area(doubt, loss, weights=both[0]), expected[0])
    for found in DETECTIONS:
        expected = torch.stack((found(again(doubt), again(positive)), found(doubt, positive)))
        torch.testing.assert_close(found(doubt, positive, weights=both), expected)


@given(ranked(), st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter_nor_does_a_rising_map(data: tuple[Tensor, Tensor], seed: int) -> None:
    loss, doubt = data
    mixed = torch.randperm(len(loss), generator=torch.Generator().manual_seed(seed))
    for area in AREAS:
        torch.testing.assert_close(area(doubt[mixed], loss[mixed]), area(doubt, loss))
        torch.testing.assert_close(area((doubt / 60).exp(), loss), area(doubt, loss))


def test_golden_areas() -> None:
    # Ordered by uncertainty the losses are 0, 1, 0, 1. Risks 0, 1/2, 1/3, 1/2: AURC = (4/3) / 4 = 1/3.
    # The best order 0, 0, 1, 1 has 0, 0, 1/3, 1/2: 5/24, so E-AURC = 1/8.
    # Generalized risks 0, 1/4, 1/4, 2/4 from 0: trapezoid (0 + 1/8 + 1/4 + 3/8) / 4 = 3/16.
    loss, doubt = torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([0.4, 0.3, 0.2, 0.1])
    assert aurc(doubt, loss).item() == pytest.approx(1 / 3)
    assert excess_aurc(doubt, loss).item() == pytest.approx(1 / 8)
    assert augrc(doubt, loss).item() == pytest.approx(3 / 16)


# Sparsification.


def test_golden_sparsification() -> None:
    # Errors 4, 1, 1 with the largest thought surest. Kept: 3, 2, 1 values: by measure 2, 2.5, 4; oracle 2, 1, 1;
    # over the whole mean 2: 1, 1.25, 2 and 1, 0.5, 0.5. AUSE = (0 + 0.75 + 1.5) / 3.
    errors, doubt = torch.tensor([4.0, 1.0, 1.0]), torch.tensor([0.1, 0.2, 0.3])
    curve = sparsification(doubt, errors)
    assert curve.removed.tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert curve.by_measure.tolist() == pytest.approx([1, 1.25, 2])
    assert curve.oracle.tolist() == pytest.approx([1, 0.5, 0.5])
    assert ause(doubt, errors).item() == pytest.approx(0.75)
    rooted = sparsification(doubt, errors, root=True)
    assert rooted.by_measure.tolist() == pytest.approx([1, math.sqrt(1.25), math.sqrt(2)])


@given(ranked())
def test_ause_is_excess_aurc_over_the_mean_error(data: tuple[Tensor, Tensor]) -> None:
    errors, doubt = data[0] + 0.1, data[1]
    torch.testing.assert_close(ause(doubt, errors), excess_aurc(doubt, errors) / errors.mean())
    assert ause(errors, errors, root=True).item() == pytest.approx(0, abs=1e-12)


@given(ranked(), st.floats(0.01, 3))
def test_rows_that_count_in_part_count_in_part(data: tuple[Tensor, Tensor], weight: float) -> None:
    errors, doubt = data[0] + 0.1, data[1]
    weights = torch.full_like(errors, weight)
    weights[0] = 1.0
    mean = (weights * errors).sum() / weights.sum()
    found = ause(doubt, errors, weights=weights)
    torch.testing.assert_close(found, excess_aurc(doubt, errors, weights=weights) / mean)


def test_the_root_of_errors_takes_whole_weights() -> None:
    errors, doubt = torch.tensor([4.0, 1.0, 1.0]), torch.tensor([0.1, 0.2, 0.2])
    with pytest.raises(InvalidArgumentError, match=r"whole numbers(.|\n)*weight of 0\.5"):
        referral_curve(partial(ause, root=True), doubt, errors, uncertainty=doubt, fractions=(0.7,))
    kept = referral_curve(ause, doubt, errors, uncertainty=doubt, fractions=(0.7,)).values
    torch.testing.assert_close(kept[0], ause(doubt, errors, weights=torch.tensor([1.0, 0.5, 0.5])))


def test_no_row_counts_infinitely_often() -> None:
    with pytest.raises(InvalidArgumentError, match="finite and at least 0"):
        aurc(torch.tensor([0.1, 0.2]), torch.tensor([1.0, 2.0]), weights=torch.tensor([1.0, torch.inf]))


# Detection.


@given(ranked())
def test_detection_is_that_of_scikit_learn(data: tuple[Tensor, Tensor]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    positive, scores = data[0].round(), data[1]
    positive[0], positive[1] = 1, 0
    y, s = positive.numpy(), scores.numpy()
    found = detection(scores, positive)
    assert found.auroc.item() == pytest.approx(metrics.roc_auc_score(y, s))
    assert found.aupr.item() == pytest.approx(metrics.average_precision_score(y, s))
    assert found.aupr_of_negatives.item() == pytest.approx(metrics.average_precision_score(1 - y, -s))
    fpr, tpr, _ = metrics.roc_curve(y, s, drop_intermediate=False)
    assert found.fpr_at_95_tpr.item() == pytest.approx(fpr[tpr >= 0.95].min())
    assert found.positives.item() == pytest.approx(y.mean())


def test_integers_that_no_float_tells_apart_have_their_order() -> None:
    scores, positive = torch.tensor([2**53, 2**53 + 1, 2**53 + 2, 0]), torch.tensor([0, 1, 1, 0])
    found = detection(scores, positive)
    assert [x.item() for x in (found.auroc, found.aupr, found.aupr_of_negatives)] == [1, 1, 1]


def test_auroc_is_that_of_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional")
    generator = torch.Generator().manual_seed(0)
    scores, positive = torch.rand(500, generator=generator), torch.randint(0, 2, (500,), generator=generator)
    assert auroc(scores, positive).item() == pytest.approx(functional.auroc(scores, positive, task="binary").item())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int64, torch.bool])
def test_scores_without_a_sign_detect_as_floats_do(dtype: torch.dtype) -> None:
    scores, y = torch.tensor([0, 1, 1, 2, 3, 3, 0, 2]).to(dtype), torch.tensor([0, 0, 1, 1, 1, 0, 0, 1])
    assert vars(detection(scores, y)) == vars(detection(scores.double(), y))


def test_golden_detection() -> None:
    # Known 0.1, 0.2, 0.3; unknown 0.25, 0.9. Of 6 pairs 5 are right: 5/6. Both unknown found at 0.25: 1 of 3 known.
    # Precision at 0.9: 1; at 0.25 (after 0.3): 2/3; mean 5/6.
    found = out_of_distribution(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.25, 0.9]))
    values = [x.item() for x in (found.auroc, found.aupr, found.fpr_at_95_tpr, found.positives)]
    assert values == pytest.approx([5 / 6, 5 / 6, 1 / 3, 0.4])
    flipped = detection(torch.tensor([0.9, 0.1]), torch.tensor([False, True]))
    assert flipped.auroc == 0
    assert flipped.fpr_at_95_tpr == 1


def test_chance_is_a_half_and_the_share() -> None:
    positive = torch.arange(10) < 3
    flat = detection(torch.zeros(10), positive)
    assert (flat.auroc.item(), flat.aupr.item()) == (0.5, pytest.approx(0.3))


def test_resamples_of_one_kind_detect_nothing() -> None:
    """No threshold finds 95 % of no positives, and all that is found is positive where there is nothing else."""
    scores, positive = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 1, 0, 1])
    for metric in (auroc, aupr, fpr_at_tpr):
        of_one_kind = torch.stack([(positive == kind).double() for kind in (0, 1)])
        assert metric(scores, positive, weights=of_one_kind).isnan().all()


def test_infinite_scores_have_a_rank() -> None:
    assert auroc(torch.tensor([torch.inf, 0.0, -torch.inf]), torch.tensor([1, 0, 0])) == 1


# The errors.


@pytest.mark.parametrize("area", [*AREAS, ause, risk_coverage, sparsification])
def test_bad_rankings(area: Callable[..., object]) -> None:
    good = torch.rand(4)
    with pytest.raises(NotFiniteError):
        area(good * torch.nan, good)
    with pytest.raises(NotFiniteError):
        area(good, good * torch.nan)
    with pytest.raises(InvalidArgumentError, match="at least one row"):
        area(good[:0], good[:0])
    with pytest.raises(InvalidArgumentError, match="same shape"):
        area(good, good[:, None])


RANKINGS = [*AREAS, ause, risk_coverage, sparsification, *DETECTIONS, detection]
THRESHOLDS = [partial(threshold_for_risk, target=0.9), partial(threshold_for_cost, deferral_cost=1.0)]
ENTROPY = torch.tensor([0.2, 0.7, 0.1])
WRONG = torch.tensor([False, True, True])


@pytest.mark.parametrize("of", [*RANKINGS, *THRESHOLDS])
@pytest.mark.parametrize("wrong", [WRONG, WRONG.int(), WRONG.float()])
def test_outcomes_before_the_uncertainty_are_noticed(of: Callable[..., object], wrong: Tensor) -> None:
    with pytest.raises(InvalidArgumentError, match=r"The order of arguments is|real numbers"):
        of(wrong, ENTROPY)
    with contextlib.suppress(NoThresholdError):
        of(ENTROPY, wrong)


@pytest.mark.parametrize("area", [*AREAS, ause, risk_coverage, sparsification])
def test_what_only_looks_like_another_order_is_ranked(area: Callable[..., object]) -> None:
    area(torch.zeros(3), ENTROPY)  # the random baseline
    area(torch.tensor([0, 2, 1]), ENTROPY)  # how many networks disagree
    area(WRONG, WRONG.flip(0))  # a yes or no against another
    area(2 * WRONG, ENTROPY)
    area(-ENTROPY, ENTROPY)  # the highest probability, negated


@pytest.mark.parametrize("area", [*AREAS, risk_coverage])
def test_losses_of_any_sign_and_whole_numbers_are_ranked(area: Callable[..., object]) -> None:
    area(ENTROPY, -ENTROPY)  # log scores of densities
    area(ENTROPY, torch.tensor([5, 0, 1]))  # costs, ordinal errors


def test_predictives_in_and_out_of_distribution_are_measured() -> None:
    sure, unsure = (Logits().summarize(scale * torch.eye(3).expand(2, 3, 3)) for scale in (9.0, 1.0))
    assert out_of_distribution(sure, unsure).auroc == 1


@pytest.mark.parametrize("found", [*DETECTIONS, detection])
def test_bad_detection(found: Callable[..., object]) -> None:
    scores, positive = torch.rand(4), torch.tensor([0, 1, 0, 1])
    for one_kind in (torch.zeros(4), torch.ones(4)):
        with pytest.raises(InvalidArgumentError, match="positives and negatives"):
            found(scores, one_kind)
    with pytest.raises(InvalidArgumentError, match="0 and 1"):
        found(scores, positive * 2)
    with pytest.raises(NotFiniteError):
        found(scores * torch.nan, positive)
    with pytest.raises(InvalidArgumentError, match="same shape"):
        found(scores, positive[:3])
    with pytest.raises(InvalidArgumentError, match="at least one row"):
        found(scores[:0], positive[:0])


@pytest.mark.parametrize("coverage", [0.0, 1.5, 80, math.nan, -0.1])
def test_a_coverage_is_a_fraction(coverage: float) -> None:
    with pytest.raises(InvalidArgumentError, match=r"coverage must lie in \(0, 1\]"):
        risk_coverage(torch.tensor([0.1, 0.9]), torch.tensor([0.0, 1.0])).at(coverage)


def test_other_bad_input() -> None:
    with pytest.raises(InvalidArgumentError, match="not all 0"):
        ause(torch.rand(3), torch.zeros(3))
    with pytest.raises(InvalidArgumentError, match="at least 0"):
        sparsification(torch.rand(2), torch.tensor([-1.0, 1.0]))
    with pytest.raises(InvalidArgumentError, match="tpr must lie"):
        fpr_at_tpr(torch.rand(2), torch.tensor([0, 1]), tpr=95)
    with pytest.raises(InvalidArgumentError, match="at least one row"):
        out_of_distribution(torch.rand(3), torch.rand(0))
    with pytest.raises(InvalidArgumentError, match="positive must be an integer from 0 to 1"):
        class_auroc(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([0, 1]), positive=2)
