"""What is kept of draws of a regression: running moments of the means, and the mean of the noise variances.

Predictive variance = mean over draws of the noise variance (aleatoric) + variance over draws (epistemic).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from caveat._checks import require_number, require_same_shape
from caveat._numerics import Moments, concatenate_moments, merged_mean, public_dtype
from caveat.errors import CannotMergeError, InvalidArgumentError
from caveat.predictive._checks import check_finite
from caveat.predictive._describe import FIRST, describe_predictive, html_of_first, text_of_first
from caveat.predictive._mixture import (
    empirical_quantile,
    mixture_cdf,
    mixture_log_prob,
    mixture_quantile,
    normal_log_prob,
)
from caveat.predictive._protocol import Predictive, RowIndex
from caveat.predictive._rows import (
    SOURCE,
    all_fields,
    check_same_features,
    check_same_rows,
    concatenated_draws,
    field_of_source,
    merged_draws,
    require_kept,
    row_index,
    same_kind,
)
from caveat.predictive._student import student_cdf, student_crps, student_log_prob, student_quantile


@final
@dataclass(frozen=True, eq=False, repr=False)
class Gaussian:
    """Summary of S draws of a normal for each target, (B..., D) or (B,).

    Questions of distribution (`quantile`, `interval`, `cdf`, `log_prob`) are answered by the normal of the
    same mean and `variance`, or by Student's t of them where `freedom` says so; with `mixture=True` by the mixture of
    the S normals, if draws were kept.

    Fields:
        moments: Moments of the means over draws, (B..., D), in float64.
        noise: (B..., D), the mean over draws of the noise variance, in (target unit)^2.
        dtype: Dtype of the results: the network's, but at least float32.
        kept: (S, B..., D) means of the draws, or None.
        kept_noise: (S, B..., D) noise variances of the draws, or None.
        freedom: (D,) degrees of freedom of Student's t, whole numbers from 3 or infinity, where held-out rows showed
            tails; None for a normal.

    Example:
        >>> from caveat.predictive import Mean
        >>> pred = Mean(noise_variance=0.25).summarize(torch.tensor([[[1.0]], [[2.0]], [[3.0]]]))
        >>> pred
        Gaussian(shape=(1, 1), draws=3, float32)
          row  mean  variance  epistemic variance
            0     2      1.25                   1
        >>> pred.mean.item(), pred.epistemic_variance.item(), pred.variance.item()
        (2.0, 1.0, 1.25)
    """

    moments: Moments
    noise: Tensor
    dtype: torch.dtype
    kept: Tensor | None = None
    kept_noise: Tensor | None = None
    freedom: Tensor | None = None

    if not TYPE_CHECKING:  # to a type checker every name would be an attribute
        __getattr__, __getstate__ = field_of_source, all_fields

    @classmethod
    def from_draws(cls, means: Tensor, variances: Tensor | float, *, keep: bool = False) -> Gaussian:
        """Summarizes means (S, B..., D) with noise variances of the same shape, or one number for all.

        Raises:
            NotFiniteError: NaN or infinity in any draw.
        """
        of = _OfMeans(lambda: means, lambda: variances)
        check_finite(of.moments.mean, "Means")
        if isinstance(variances, Tensor):
            check_finite(of.noise, "Noise variances")
        if not keep:
            return cls(of.moments, of.noise, of.dtype)
        kept = means.to(of.dtype, copy=True)
        kept_noise = torch.as_tensor(variances, dtype=of.dtype, device=means.device)
        return cls(of.moments, of.noise, of.dtype, kept, kept_noise.expand_as(kept))

    @classmethod
    def later(cls, means: Callable[[], Tensor], variances: Callable[[], Tensor | float]) -> Gaussian:
        """The same of what both will return, which must be finite: each field is made when it is asked for."""
        late = object.__new__(cls)
        vars(late)[SOURCE] = _OfMeans(means, variances)
        return late

    @property
    def count(self) -> Tensor:
        """The number of draws: int64, 0-d, or (B, 1, ...) broadcastable to the mean where rows differ."""
        return self.moments.count

    @property
    def row_count(self) -> int:
        """The number of rows along the first batch axis."""
        return self.noise.shape[0]

    @property
    def mean(self) -> Tensor:
        """Mean over draws, (B..., D), in target units."""
        return self.moments.mean.to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """Predictive variance, (B..., D), in (target unit)^2: aleatoric plus epistemic."""
        return self._total_variance().to(self.dtype)

    @property
    def epistemic_variance(self) -> Tensor:
        """Unbiased variance over draws of the means, (B..., D); zeros with one draw."""
        return self.moments.variance.to(self.dtype)

    @property
    def aleatoric_variance(self) -> Tensor:
        """Mean over draws of the noise variance, (B..., D)."""
        return self.noise.to(self.dtype)

    @property
    def draws(self) -> Tensor:
        """The kept means of each draw, (S, B..., D).

        Raises:
            DrawsNotKeptError: the draws were not kept.
        """
        return require_kept(self.kept)

    @property
    def noise_draws(self) -> Tensor:
        """The kept noise variances of each draw, (S, B..., D).

        Raises:
            DrawsNotKeptError: the draws were not kept.
        """
        return require_kept(self.kept_noise)

    def standard_error(self) -> Tensor:
        """Monte-Carlo error of the mean, (B..., D), NaN with one draw (or one block of dependent draws)."""
        return self.moments.standard_error.to(self.dtype)

    def quantile(self, q: float, *, mixture: bool = False) -> Tensor:
        """The value that the target is below with probability q, (B..., D).

        Of a mixture without noise it is the smallest draw with a fraction q of the draws at or below it.

        Raises:
            InvalidArgumentError: q is not between 0 and 1.
            DrawsNotKeptError: `mixture=True` and the draws were not kept.
        """
        require_number(q, "q", "(0, 1)")
        if mixture:
            means, variances = self._components()
            noiseless = not bool((variances > 0).any())
            values = empirical_quantile(q, means) if noiseless else mixture_quantile(q, means, variances)
            return values.to(self.dtype)
        z = NormalDist().inv_cdf(q) if self.freedom is None else student_quantile(q, self.freedom)
        return (self.moments.mean + z * self._total_variance().sqrt()).to(self.dtype)

    def interval(self, level: float = 0.9, *, mixture: bool = False) -> tuple[Tensor, Tensor]:
        """The central interval that holds the target with probability `level`: (low, high), each (B..., D).

        Raises:
            InvalidArgumentError: level is not between 0 and 1.
            DrawsNotKeptError: `mixture=True` and the draws were not kept.
        """
        require_number(level, "level", "(0, 1)")
        low, high = (1 - level) / 2, (1 + level) / 2
        return self.quantile(low, mixture=mixture), self.quantile(high, mixture=mixture)

    def cdf(self, y: Tensor | float, *, mixture: bool = False) -> Tensor:
        """Probability that the target is at most y, (B..., D); y has the mean's shape or is one number.

        Raises:
            InvalidArgumentError: y is of another shape.
            DrawsNotKeptError: `mixture=True` and the draws were not kept.
        """
        y = self._target(y)
        if mixture:
            return mixture_cdf(y, *self._components()).to(self.dtype)
        mean, variance = self.moments.mean, self._total_variance()
        if self.freedom is not None:
            return student_cdf(y, mean, variance, self.freedom).to(self.dtype)
        return mixture_cdf(y, mean[None], variance[None]).to(self.dtype)

    def log_prob(self, y: Tensor | float, *, mixture: bool = False) -> Tensor:
        """Log density at y of each target by itself, (B..., D), nats; y is shaped as the mean, or one number.

        Raises:
            InvalidArgumentError: y is of another shape, or a variance is zero so that there is no density.
            DrawsNotKeptError: `mixture=True` and the draws were not kept.
        """
        y = self._target(y)
        if mixture:
            means, variances = self._components()
            _check_density(variances, "noise variance in each draw")
            return mixture_log_prob(y, means, variances).to(self.dtype)
        total = self._total_variance()
        _check_density(total, "total variance")
        if self.freedom is not None:
            return student_log_prob(y, self.moments.mean, total, self.freedom).to(self.dtype)
        return normal_log_prob(y, self.moments.mean, total).to(self.dtype)

    def crps(self, y: Tensor | float) -> Tensor:
        """Continuous ranked probability score at y of each target, (B..., D), in its unit; y as in `log_prob`.

        Raises:
            InvalidArgumentError: y is of another shape, or a variance is zero.
        """
        y, total = self._target(y), self._total_variance()
        _check_density(total, "total variance")
        freedom = total.new_tensor(torch.inf) if self.freedom is None else self.freedom
        return student_crps(y, self.moments.mean, total, freedom).to(self.dtype)

    def merge(self, other: Predictive) -> Gaussian:
        """The summary of both sets of draws, for the same rows.

        Raises:
            CannotMergeError: the other is of another kind, shape or device.
        """
        (other,) = same_kind(self, [other], "merge")
        check_same_rows(self.moments, other.moments)
        return Gaussian(
            self.moments.merge(other.moments),
            merged_mean(self.count, self.noise, other.count, other.noise),
            torch.promote_types(self.dtype, other.dtype),
            merged_draws(self.kept, other.kept),
            merged_draws(self.kept_noise, other.kept_noise),
            _same_freedom([self, other]),
        )

    def as_block(self) -> Gaussian:
        """The same summary of draws that depend on each other: they count as one in a standard error."""
        return replace(self, moments=self.moments.as_block())

    def rows(self, index: RowIndex) -> Gaussian:
        """The summary of these rows of the first batch axis."""
        i = row_index(index, self.row_count, self.noise.device)
        return Gaussian(
            self.moments.rows(i),
            self.noise[i],
            self.dtype,
            None if self.kept is None else self.kept[:, i],
            None if self.kept_noise is None else self.kept_noise[:, i],
            self.freedom,
        )

    def concatenate(self, *others: Predictive) -> Gaussian:
        """These rows, then the rows of the others.

        Raises:
            CannotMergeError: they differ in kind, in device or in an axis that is not the first.
        """
        parts = [self, *same_kind(self, others, "join")]
        check_same_features([p.moments for p in parts])
        return replace(
            self,
            moments=concatenate_moments([p.moments for p in parts]),
            noise=torch.cat([p.noise for p in parts]),
            kept=concatenated_draws([p.kept for p in parts]),
            kept_noise=concatenated_draws([p.kept_noise for p in parts]),
            freedom=_same_freedom(parts),
        )

    def to(self, device: torch.device | str) -> Gaussian:
        """The same summary on another device."""
        moments = self.moments.to(device)
        return Gaussian(
            moments,
            self.noise.to(device, moments.mean.dtype),
            self.dtype,
            None if self.kept is None else self.kept.to(device),
            None if self.kept_noise is None else self.kept_noise.to(device),
            None if self.freedom is None else self.freedom.to(device, moments.mean.dtype),
        )

    def __repr__(self) -> str:
        return text_of_first(self._line(), self.noise.shape, self._columns())

    def _repr_html_(self) -> str:
        return html_of_first(self._line(), self.noise.shape, self._columns())

    def _columns(self) -> dict[str, Tensor]:
        mean, epistemic, noise = (x.reshape(-1)[:FIRST] for x in (self.moments.mean, self.moments.variance, self.noise))
        return {"mean": mean, "variance": noise + epistemic, "epistemic variance": epistemic}

    def _line(self) -> str:
        shape = tuple(self.noise.shape)
        return describe_predictive(
            "Gaussian", kept=self.kept is not None, count=self.count, dtype=self.dtype, shape=shape
        )

    def _total_variance(self) -> Tensor:
        return self.noise + self.moments.variance

    def _components(self) -> tuple[Tensor, Tensor]:
        """Means and variances of the mixture, each (S, B..., D), in the accumulator's dtype."""
        wide = self.noise.dtype
        return self.draws.to(wide), self.noise_draws.to(wide)

    def _target(self, y: Tensor | float) -> Tensor:
        target = torch.as_tensor(y, dtype=self.noise.dtype, device=self.noise.device)
        require_same_shape(target, self.noise.shape, "y")
        return target


class _OfMeans:
    """The fields of a `Gaussian`, each made when it is asked for."""

    def __init__(self, means: Callable[[], Tensor], variances: Callable[[], Tensor | float]) -> None:
        self._means, self._variances = means, variances

    @property
    def dtype(self) -> torch.dtype:
        return public_dtype(self._means().dtype)

    @cached_property
    def moments(self) -> Moments:
        return Moments.from_draws(self._means())

    @cached_property
    def noise(self) -> Tensor:
        variances, mean = self._variances(), self.moments.mean
        if not isinstance(variances, Tensor):
            return torch.full_like(mean, variances)
        return variances.to(mean.dtype).mean(0)


def _same_freedom(parts: Sequence[Gaussian]) -> Tensor | None:
    """The degrees of freedom that all parts have, or `CannotMergeError`."""
    first = parts[0].freedom
    for freedom in (part.freedom for part in parts[1:]):
        alike = first is freedom or (first is not None and freedom is not None and torch.equal(first, freedom))
        if not alike:
            raise CannotMergeError(
                "Predictives merge and join if their tails are alike.",
                got=f"degrees of freedom {first} and {freedom}; None is a normal",
                cause="they are of models that were calibrated by different rows",
                fix="join those of one model, or replace(pred, freedom=None)",
            )
    return first


def _check_density(variance: Tensor, what: str) -> None:
    zero = variance <= 0
    if bool(zero.any()):
        raise InvalidArgumentError(
            f"A density needs a positive {what}.",
            got=f"zero variance at {int(zero.sum())} of {zero.numel()} values",
            cause="Mean() declares no observation noise, so a draw is a point and not a normal",
            fix="say the noise: Mean(noise_variance=1 / caveat.model_precision(...)), or let the "
            "network return it and declare MeanAndVariance() or MeanAndLogVariance()",
        )
