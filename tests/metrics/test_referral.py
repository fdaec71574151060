"""Referral: any metric of the rows kept, with baselines and bands."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.errors import InvalidArgumentError, NotFiniteError, NotProbabilitiesError
from caveat.metrics import (
    ReferralCurve,
    accuracy,
    auroc,
    brier_score,
    class_auroc,
    referral_curve,
    referral_with_baselines,
    risk_coverage,
)

from .classified import rows, some_rows

P, Y = rows(400, 3)
DOUBT = torch.special.entr(P).sum(-1)


def plain_accuracy(p: Tensor, y: Tensor) -> Tensor:
    return (p.argmax(-1) == y).double().mean()


def test_golden_curve() -> None:
    # Rows by uncertainty: right, right, wrong, right, wrong. Of 5 kept 0.6; of 4, 0.75; of 2, 1. The area over
    # 0.4 .. 1: (0.4 * (1 + 0.75) / 2 + 0.2 * (0.75 + 0.6) / 2) / 0.6 = (0.35 + 0.135) / 0.6.
    p = torch.tensor([[0.9, 0.1]] * 5)
    y, doubt = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([0.1, 0.9, 0.2, 0.3, 0.4])
    curve = referral_curve(accuracy, p, y, uncertainty=doubt, fractions=(0.4, 0.8, 1.0))
    assert curve.values.tolist() == pytest.approx([1, 0.75, 0.6])
    assert curve.area == pytest.approx(0.485 / 0.6)
    assert curve.at(0.6) == pytest.approx(0.875)
    assert curve.low is None


@given(some_rows(), st.integers(1, 10))
def test_a_mean_on_what_is_kept_is_one_minus_the_risk_ties_and_all(data: tuple[Tensor, Tensor], levels: int) -> None:
    p, y = data
    doubt = (torch.special.entr(p).sum(-1) * levels).round()
    curve = referral_curve(accuracy, p, y, uncertainty=doubt)
    risk = risk_coverage(doubt, (p.argmax(-1) != y).double())
    for fraction, value in zip(curve.fractions.tolist(), curve.values.tolist(), strict=True):
        kept = max(round(fraction * len(y)), 1)
        assert value == pytest.approx(1 - risk.risk[kept - 1].item(), abs=1e-12)


@given(some_rows(), st.integers(0, 1000))
def test_oracle_is_best_and_random_is_flat(data: tuple[Tensor, Tensor], seed: int) -> None:
    p, y = data
    doubt = torch.rand(len(y), generator=torch.Generator().manual_seed(seed))
    curves = referral_with_baselines(accuracy, p, y, uncertainty={"any": doubt}, deterministic=p)
    assert list(curves) == ["any", "deterministic", "random", "oracle"]
    for name in ("any", "deterministic", "random"):
        assert (curves["oracle"].values >= curves[name].values - 1e-12).all()
    torch.testing.assert_close(curves["random"].values, accuracy(p, y).expand(20))


def test_random_is_the_mean_over_random_orders() -> None:
    orders = [torch.rand(400, generator=torch.Generator().manual_seed(i)) for i in range(200)]
    for metric in (accuracy, class_auroc):
        drawn = torch.stack([referral_curve(metric, P, Y, uncertainty=u, fractions=(0.3, 0.7)).values for u in orders])
        flat = referral_curve(metric, P, Y, uncertainty=torch.zeros(400), fractions=(0.3, 0.7)).values
        assert (drawn.mean(0) - flat).abs().amax() < 0.01


def test_any_callable_gives_what_weights_give() -> None:
    fractions = (0.25, 0.5, 1.0)
    for metric, plain in ((accuracy, plain_accuracy), (class_auroc, lambda p, y: class_auroc(p, y))):
        ours = referral_curve(metric, P, Y, uncertainty=DOUBT, fractions=fractions, resamples=30)
        slow = referral_curve(plain, P, Y, uncertainty=DOUBT, fractions=fractions, resamples=30)
        torch.testing.assert_close(ours.values, slow.values)
        # A resample's tied copies are split in part by weights and one by one by rows.
        torch.testing.assert_close(ours.low, slow.low, atol=0.02, rtol=0)
    tied, again = (
        referral_curve(plain_accuracy, P, Y, uncertainty=torch.zeros(400), fractions=fractions) for _ in range(2)
    )
    assert (tied.values - accuracy(P, Y)).abs().amax() < 0.05
    assert torch.equal(tied.values, again.values)


def test_a_metric_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")

    def balanced(p: Tensor, y: Tensor) -> Tensor:
        return torch.tensor(metrics.balanced_accuracy_score(y.numpy(), p.argmax(-1).numpy()))

    curve = referral_curve(balanced, P, Y, uncertainty=DOUBT, fractions=(0.5, 1.0))
    assert curve.at(0.5) > curve.at(1.0)


def test_bands_hold_the_curve_and_shrink_with_rows() -> None:
    curve = referral_curve(accuracy, P, Y, uncertainty=DOUBT, resamples=200)
    few = referral_curve(accuracy, P[:50], Y[:50], uncertainty=DOUBT[:50], resamples=200)
    assert curve.low is not None
    assert (curve.low <= curve.values).all()
    low, high = curve.band_at(0.5)
    assert 0 < high - low < few.band_at(0.5)[1] - few.band_at(0.5)[0]
    again = referral_curve(accuracy, P, Y, uncertainty=DOUBT, resamples=200)
    assert torch.equal(curve.low, again.low)


def test_where_one_class_is_kept_the_auc_is_nan() -> None:
    scores, positive, doubt = torch.rand(10), torch.arange(10) > 4, torch.arange(10.0)
    for metric in (auroc, lambda s, y: auroc(s, y)):
        curve = referral_curve(metric, scores, positive, uncertainty=doubt, fractions=(0.5, 1.0))
        assert curve.values.isnan().tolist() == [True, False]


def test_the_single_network_is_measured_on_its_own_probabilities() -> None:
    other = P.roll(1, -1)
    curves = referral_with_baselines(accuracy, P, Y, uncertainty={"entropy": DOUBT}, deterministic=other)
    assert curves["deterministic"].at(1.0) == pytest.approx(accuracy(other, Y).item())
    assert curves["entropy"].at(1.0) == curves["oracle"].at(1.0) == pytest.approx(accuracy(P, Y).item())


def test_over_seeds_and_tables() -> None:
    curves = [referral_curve(accuracy, *rows(100, 3, seed=i), uncertainty=DOUBT[:100]) for i in range(4)]
    band = ReferralCurve.over_seeds(curves)
    values = torch.stack([curve.values for curve in curves])
    torch.testing.assert_close(band.values, values.mean(0))
    torch.testing.assert_close(band.high, values.mean(0) + values.std(0))
    table = ReferralCurve.table({"here": {"a": band}, "there": {"a": band, "b": curves[0]}}, at=(0.5, 1.0)).splitlines()
    assert len(table) == 4
    assert table[3].startswith("| b |  |  | 0.")


# The errors.


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"uncertainty": DOUBT[:9]}, InvalidArgumentError, "one number for each row"),
        ({"uncertainty": DOUBT[:, None]}, InvalidArgumentError, "one number for each row"),
        ({"uncertainty": DOUBT * torch.nan}, NotFiniteError, "uncertainty"),
        ({"fractions": (0.0, 1.0)}, InvalidArgumentError, "rows kept"),
        ({"fractions": (0.5, 0.5)}, InvalidArgumentError, "must rise"),
        ({"fractions": ()}, InvalidArgumentError, "must rise"),
        ({"fractions": (50.0,)}, InvalidArgumentError, "rows kept"),
        ({"resamples": -1}, InvalidArgumentError, "resamples"),
        ({"level": 95.0}, InvalidArgumentError, "level"),
    ],
)
def test_bad_input(options: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        referral_curve(accuracy, P, Y, **{"uncertainty": DOUBT, **options})  # type: ignore[arg-type]


def test_what_is_wrong_with_the_metrics_tensors_is_raised() -> None:
    for metric in (brier_score, lambda p, y: brier_score(p, y)):
        with pytest.raises(NotProbabilitiesError):
            referral_curve(metric, 2 * P, Y, uncertainty=DOUBT)
        with pytest.raises(InvalidArgumentError, match="numbered from 1"):
            referral_curve(metric, P, Y + 3, uncertainty=DOUBT)


def test_bad_questions() -> None:
    curve = referral_curve(accuracy, P, Y, uncertainty=DOUBT, fractions=(0.5, 1.0))
    with pytest.raises(InvalidArgumentError, match=r"between 0\.5 and 1"):
        curve.at(0.2)
    with pytest.raises(InvalidArgumentError, match="no band"):
        curve.band_at(0.5)
    with pytest.raises(InvalidArgumentError, match="at least two"):
        ReferralCurve.over_seeds([curve])
    with pytest.raises(InvalidArgumentError, match="same fractions"):
        ReferralCurve.over_seeds([curve, ReferralCurve(curve.fractions / 2, curve.values)])
    with pytest.raises(InvalidArgumentError, match="name of a baseline"):
        referral_with_baselines(accuracy, P, Y, uncertainty={"oracle": DOUBT})
    with pytest.raises(InvalidArgumentError, match="numbered from 1"):
        referral_with_baselines(accuracy, P, Y + 3, uncertainty=DOUBT)


def test_a_single_measure_needs_no_name() -> None:
    named = referral_with_baselines(accuracy, P, Y, uncertainty={"entropy": DOUBT})
    alone = referral_with_baselines(accuracy, P, Y, uncertainty=DOUBT)
    assert torch.equal(named["entropy"].values, alone["uncertainty"].values)
