"""Referral: what a metric comes to on the rows that are kept while the least sure are handed to a person.

See "Leveraging Uncertainty Information from Deep Neural Networks for Disease Detection", Leibig et al., 2017; "A
Systematic Comparison of Bayesian Deep Learning Robustness in Diabetic Retinopathy Tasks", Filos et al., 2019,
https://arxiv.org/abs/1912.10481.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import classified
from caveat._numerics import accumulator, entropy
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.metrics._registry import name_of
from caveat.metrics._retained import retained_values


@final
@dataclass(frozen=True, eq=False)
class ReferralCurve:
    """A metric against the fraction of rows that is kept.

    Fields:
        fractions: (F,) of rows kept, rising; the others are referred.
        values: (F,) the metric of the rows kept; NaN where it is not defined for them.
        low, high: (F,) the ends of a band, or None if none was asked for.
        metric: Its name, or "" where it has none.
    """

    fractions: Tensor
    values: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    metric: str = ""

    __repr__ = in_a_line

    def at(self, fraction: float) -> float:
        """The metric with this fraction of rows kept, on the straight line between the nearest two fractions.

        Raises:
            InvalidArgumentError: the fraction lies outside those of the curve.
        """
        return _between(self.fractions, self.values, fraction)

    def band_at(self, fraction: float) -> tuple[float, float]:
        """The band with this fraction of rows kept.

        Raises:
            InvalidArgumentError: the fraction lies outside those of the curve, or the curve has no band.
        """
        if self.low is None or self.high is None:
            raise InvalidArgumentError(
                "This curve has no band.",
                got="low=None, high=None",
                cause="no resamples were asked for",
                fix="referral_curve(..., resamples=1000), or ReferralCurve.over_seeds(curves)",
            )
        return _between(self.fractions, self.low, fraction), _between(self.fractions, self.high, fraction)

    @property
    def area(self) -> float:
        """The mean of the metric over the fractions' range, by the trapezoid rule: comparable whatever the range."""
        if len(self.fractions) == 1:
            return float(self.values[0])
        span = self.fractions[-1] - self.fractions[0]
        return float(torch.trapezoid(self.values, self.fractions) / span)

    @staticmethod
    def over_seeds(curves: Sequence[ReferralCurve]) -> ReferralCurve:
        """The mean of curves of the same fractions, one per seed, with a band of one standard deviation to either side.

        Raises:
            InvalidArgumentError: fewer than two curves, or curves of other fractions.

        Example:
            >>> ends = torch.tensor([0.5, 1.0])
            >>> seeds = [ReferralCurve(ends, torch.tensor([value, 0.75])) for value in (1.0, 0.5)]
            >>> both = ReferralCurve.over_seeds(seeds)
            >>> both.at(0.5), [round(end, 3) for end in both.band_at(0.5)]
            (0.75, [0.396, 1.104])
        """
        alike = len(curves) > 1 and all(
            c.fractions.shape == curves[0].fractions.shape and torch.allclose(c.fractions, curves[0].fractions)
            for c in curves
        )
        if not alike:
            raise InvalidArgumentError(
                "Curves over seeds must be at least two, with the same fractions.",
                got=f"{len(curves)} curves",
                cause="one seed, or curves made with different settings",
                fix="ReferralCurve.over_seeds([referral_curve(...) for ... in networks])",
            )
        values = torch.stack([c.values.to(accumulator(c.values.device)) for c in curves])
        mean, spread = values.mean(0), values.std(0)
        return ReferralCurve(curves[0].fractions, mean, mean - spread, mean + spread, curves[0].metric)

    @staticmethod
    def table(sets: Mapping[str, Mapping[str, ReferralCurve]], *, at: Sequence[float] = (0.5, 0.75, 1.0)) -> str:
        """Curves of several test sets side by side, as Markdown: a row a method, columns by set and fraction kept.

        Args:
            sets: curves by method, by test set: {"in distribution": {...}, "shifted": {...}}.
            at: the fractions of rows kept.

        Example:
            >>> curve = ReferralCurve(torch.tensor([0.5, 1.0]), torch.tensor([0.9, 0.8]))
            >>> print(ReferralCurve.table({"test": {"entropy": curve}, "shifted": {"entropy": curve}}, at=(0.5, 1.0)))
            | referred by | test, 50 % kept | test, 100 % kept | shifted, 50 % kept | shifted, 100 % kept |
            | --- | --- | --- | --- | --- |
            | entropy | 0.900 | 0.800 | 0.900 | 0.800 |
        """
        methods = list(dict.fromkeys(method for curves in sets.values() for method in curves))
        heads = [f"{name}, {100 * fraction:.0f} % kept" for name in sets for fraction in at]
        lines = [["referred by", *heads], ["---"] * (1 + len(heads))]
        for method in methods:
            cells = [
                f"{curves[method].at(fraction):.3f}" if method in curves else ""
                for curves in sets.values()
                for fraction in at
            ]
            lines.append([method, *cells])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@takes_arrays
def referral_curve(
    metric: Callable[..., Tensor],
    *tensors: Tensor,
    uncertainty: Tensor,
    fractions: Sequence[float] | Tensor | None = None,
    resamples: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> ReferralCurve:
    """Any metric of the rows kept, while the least sure are referred.

    At each fraction f the round(f B) surest rows are kept, at least one. Of rows that are equally unsure each is as
    likely to be kept: with a metric that takes `weights` they are kept in part, which for a mean over rows is the exact
    expectation; any other callable is averaged over eight seeded orders of the tied rows.

    Args:
        metric: a function of the tensors, such as `accuracy` or `class_auroc`, or one of yours.
        tensors: what it takes, rows on the first axis.
        uncertainty: (B,), any measure; higher is referred earlier.
        fractions: Fractions of rows kept, rising, in (0, 1]; 0.05, 0.1, ..., 1 if not given.
        resamples: Number of resamples for a percentile bootstrap band; 0 for none.
        level: Fraction of the resamples that the band holds.
        seed: Random seed for the resamples, and for the order of tied rows.

    Raises:
        InvalidArgumentError: rows that do not fit, fractions outside (0, 1], or what the metric itself raises.
        NotFiniteError: NaN among the uncertainty.

    Example:
        >>> from caveat.metrics import accuracy
        >>> p = torch.tensor([0.9, 0.8, 0.4, 0.45])
        >>> p, y = torch.stack((p, 1 - p), -1), torch.zeros(4, dtype=torch.int64)
        >>> curve = referral_curve(accuracy, p, y, uncertainty=1 - p.amax(-1), fractions=(0.5, 1.0))
        >>> curve.at(1.0), curve.at(0.5), curve.area
        (0.5, 1.0, 0.75)
    """
    shares = _checked_fractions(fractions).to(uncertainty.device)
    values, low, high = retained_values(
        metric, tensors, uncertainty, shares, resamples=resamples, level=level, seed=seed
    )
    return ReferralCurve(shares, values, low, high, name_of(metric))


@takes_arrays
def referral_with_baselines(
    metric: Callable[..., Tensor],
    probabilities: Tensor,
    labels: Tensor,
    *,
    uncertainty: Mapping[str, Tensor] | Tensor,
    deterministic: Tensor | None = None,
    fractions: Sequence[float] | Tensor | None = None,
    resamples: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, ReferralCurve]:
    """Referral curves of each measure, of a random and of a perfect order, and of a single network.

    Args:
        metric: Function of (probabilities, labels).
        probabilities: (B, C), of the predictive.
        labels: (B,), integers.
        uncertainty: measures (B,) by name, or a single one; higher is referred earlier.
        deterministic: (B, C) probabilities of the single network, if there is one.
        fractions, resamples, level, seed: as in `referral_curve`.

    Returns:
        A curve for each name in `uncertainty` ("uncertainty" for a single one); "deterministic": the single network's
        own probabilities, referred by their entropy; "random": in expectation; "oracle": wrong rows first, then those
        whose label is least probable, which no order surpasses.

    Raises:
        InvalidArgumentError: as `referral_curve`; or a measure with the name of a baseline.

    Example:
        >>> from caveat.metrics import accuracy
        >>> p = torch.tensor([0.9, 0.8, 0.4, 0.45])
        >>> p, y = torch.stack((p, 1 - p), -1), torch.zeros(4, dtype=torch.int64)
        >>> curves = referral_with_baselines(accuracy, p, y, uncertainty={"confidence": 1 - p.amax(-1)})
        >>> {name: curve.at(0.5) for name, curve in curves.items()}
        {'confidence': 1.0, 'random': 0.5, 'oracle': 1.0}
    """
    uncertainty = {"uncertainty": uncertainty} if isinstance(uncertainty, Tensor) else uncertainty
    taken = {"deterministic", "random", "oracle"} & set(uncertainty)
    if taken:
        raise InvalidArgumentError(
            "A measure must not have the name of a baseline.",
            got=", ".join(sorted(taken)),
            cause="a baseline that was computed by hand as well",
            fix="leave it out, or give it another name",
        )

    def curve(p: Tensor, by: Tensor) -> ReferralCurve:
        options = {"resamples": resamples, "seed": seed}
        return referral_curve(metric, p, labels, uncertainty=by, fractions=fractions, level=level, **options)

    curves = {name: curve(probabilities, by) for name, by in uncertainty.items()}
    if deterministic is not None:
        curves["deterministic"] = curve(deterministic, entropy(deterministic))
    curves["random"] = curve(probabilities, torch.zeros(len(labels), device=probabilities.device))
    curves["oracle"] = curve(probabilities, _oracle_uncertainty(probabilities, labels))
    return curves


def _oracle_uncertainty(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Returns a ranking that knows the labels, (B...): 1 if wrong, plus the probability missing on the label.

    No order gives a higher accuracy on what is kept.

    Example:
        >>> _oracle_uncertainty(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([0, 1]))
        tensor([0.2500, 1.7500], dtype=torch.float64)
    """
    p, y = classified(probabilities, labels)
    missing = 1 - p.gather(-1, y[:, None])[:, 0].to(accumulator(p.device))
    return ((p.argmax(-1) != y) + missing).reshape(labels.shape)


def _between(fractions: Tensor, values: Tensor, fraction: float) -> float:
    first, last = float(fractions[0]), float(fractions[-1])
    if not first - 1e-9 <= fraction <= last + 1e-9:
        raise InvalidArgumentError(
            f"The fraction must lie between {first:g} and {last:g}, the ends of the curve.",
            got=f"{fraction!r}",
            cause="the fraction referred in place of the fraction kept, or a fraction in percent",
            fix="1 - fraction, or ask for more fractions: referral_curve(..., fractions=...)",
        )
    nearest = int((fractions - fraction).abs().argmin())
    if abs(float(fractions[nearest]) - fraction) < 1e-9:
        return float(values[nearest])
    right = int(torch.searchsorted(fractions, torch.as_tensor(fraction, dtype=fractions.dtype)))
    left = right - 1
    part = (fraction - float(fractions[left])) / float(fractions[right] - fractions[left])
    return (1 - part) * float(values[left]) + part * float(values[right])


def _checked_fractions(fractions: Sequence[float] | Tensor | None) -> Tensor:
    if fractions is None:
        return torch.arange(1, 21, dtype=torch.float64) / 20
    shares = torch.as_tensor(fractions, dtype=torch.float64)
    rising = shares.ndim == 1 and len(shares) > 0 and bool((shares.diff() > 0).all())
    if not rising or not 0 < float(shares[0]) <= float(shares[-1]) <= 1:
        raise InvalidArgumentError(
            "fractions must rise and lie in (0, 1]: they are of the rows kept.",
            got=f"{shares.tolist()}",
            cause="fractions referred in place of kept, percents, or 0, where there is nothing to measure",
            fix="fractions=(0.5, 0.75, 1.0)",
        )
    return shares
