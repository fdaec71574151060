"""Outputs: by its type, each says how to read what a network returns and how to summarize draws of it.

Nothing is guessed from values. `read` sees one pass, without a draw axis, and runs inside `torch.vmap`;
`summarize` takes draws stacked first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from caveat._checks import require_draws
from caveat._numerics import FEW_NUMBERS, accumulator, log_softmax, public_dtype
from caveat._postponed import postponed_for
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.predictive._bernoulli import Bernoulli
from caveat.predictive._categorical import Categorical
from caveat.predictive._checks import check_finite, check_variance, checked_probabilities
from caveat.predictive._gaussian import Gaussian
from caveat.predictive._protocol import Predictive, Select
from caveat.predictive._reading import check_class_dim, classes_last, one_tensor, stacked_pair
from caveat.predictive._scores import ScoresByRows, add_scores, are_many, can_be_added
from caveat.predictive._select import check_select, selected

_LARGEST_LOG_VARIANCE = 80.0
"""Below it, a variance overflows in no dtype that is added in."""


@final
@dataclass(frozen=True)
class Logits:
    """Unnormalized scores of C >= 2 exclusive classes; read as (B..., C), summarized as `Categorical`.

    Args:
        class_dim: the axis of the classes in what the network returns: 1 for images (B, C, H, W), -1 for the last.
            The last if not given; values of four or more axes are not read without it.
        select: Part of the return to read: a key or attribute, an index, or a function; all of it if None.

    Example:
        >>> import torch
        >>> pred = Logits(class_dim=1).summarize(Logits(class_dim=1).read(torch.zeros(2, 5, 8, 8))[None])
        >>> pred.mean.shape
        torch.Size([2, 8, 8, 5])
    """

    class_dim: int | None = None
    select: Select = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        check_class_dim(self.class_dim)
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Scores (B..., C), the class axis moved last.

        Raises:
            OutputMismatchError: not one floating-point tensor of at least two axes and two classes.
        """
        return classes_last(one_tensor(self, self.select, returned), self.class_dim, self)

    def summarize(self, draws: Tensor, *, keep: bool = False) -> Categorical:
        """The summary of scores (S, B..., C), by softmax in float64, or in float32 of more than 2^19 scores in float32.

        Raises:
            NotFiniteError: NaN in any draw.
        """
        if _may_wait(draws, keep=keep):
            own = draws.clone()
            return Categorical.later(lambda: log_softmax(own), dtype=own.dtype)
        require_draws(draws)
        dtype = public_dtype(draws.dtype)
        if are_many(draws, keep=keep):
            return add_scores(None, draws, dtype)
        return Categorical.from_log_probabilities(log_softmax(draws), dtype=dtype, keep=keep)

    def add(self, summary: Predictive, draws: Tensor, *, keep: bool = False, count: int | None = None) -> Predictive:
        """The summary of the draws known and of more, as ``summary.merge(self.summarize(draws))`` gives it.

        Where scores are many, the known summary, which nobody may use again, is written over: memory then does not grow
        by a second one. ``count`` is how many draws are known; to read it from the summary waits for its device.

        Raises:
            NotFiniteError, CannotMergeError: as ``summarize`` and ``merge``.

        Example:
            >>> import torch
            >>> Logits().add(Logits().summarize(torch.zeros(3, 1, 2)), torch.zeros(4, 1, 2)).count.item()
            7
        """
        if isinstance(summary, Categorical) and are_many(draws, keep=keep) and can_be_added(summary, draws):
            return add_scores(summary, draws, summary.dtype, count)
        return summary.merge(self.summarize(draws, keep=keep))

    def by_rows(self, rows: int) -> ScoresByRows:
        """An empty summary of ``rows`` rows, to be filled for some after the others."""
        return ScoresByRows(rows)


@final
@dataclass(frozen=True)
class Probabilities:
    """Probabilities of C >= 2 exclusive classes; read as (B..., C), summarized as `Categorical`.

    Example:
        >>> import torch
        >>> Probabilities().summarize(torch.tensor([[[0.25, 0.75]]])).mean
        tensor([[0.2500, 0.7500]])
    """

    class_dim: int | None = None
    select: Select = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        check_class_dim(self.class_dim)
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Probabilities (B..., C), the class axis moved last.

        Raises:
            OutputMismatchError: not one floating-point tensor of at least two axes and two classes.
        """
        return classes_last(one_tensor(self, self.select, returned), self.class_dim, self)

    def summarize(self, draws: Tensor, *, keep: bool = False) -> Categorical:
        """The summary of probabilities (S, B..., C), scaled to sum to exactly one.

        Raises:
            NotFiniteError: NaN in any draw.
            NotProbabilitiesError: negative, or not summing to one within 1e-3.
        """
        require_draws(draws)
        p = draws.to(accumulator(draws.device))
        check_finite(p.sum(0), "Probabilities")
        log_p = checked_probabilities(p, draws.dtype).log()
        return Categorical.from_log_probabilities(log_p, dtype=public_dtype(draws.dtype), keep=keep)


@final
@dataclass(frozen=True)
class BinaryLogit:
    """The logit of yes, for one label (B,) or (B, 1), or K labels (B, K); summarized as `Bernoulli`.

    Example:
        >>> import torch
        >>> BinaryLogit().summarize(torch.tensor([[0.0], [40.0]])).mean
        tensor([0.7500])
    """

    select: Select = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Logits (B...) as they are.

        Raises:
            OutputMismatchError: not one floating-point tensor with a batch axis.
        """
        return one_tensor(self, self.select, returned)

    def summarize(self, draws: Tensor, *, keep: bool = False) -> Bernoulli:
        """The summary of logits (S, B...).

        Raises:
            NotFiniteError: NaN in any draw.
        """
        wide = accumulator(draws.device)
        if _may_wait(draws, keep=keep):
            own = draws.clone()
            return Bernoulli.later(lambda: own.to(wide), dtype=own.dtype)
        require_draws(draws)
        return Bernoulli.from_logits(draws.to(wide), dtype=public_dtype(draws.dtype), keep=keep)


@final
@dataclass(frozen=True)
class Mean:
    """The mean of each target, with one noise variance for all; read as it is, summarized as `Gaussian`.

    Args:
        noise_variance: Variance of the noise of an observation, (target unit)^2; 1 / `model_precision(...)`.
        select: Part of the return to read: a key or attribute, an index, or a function; all of it if None.

    Example:
        >>> import torch
        >>> pred = Mean(noise_variance=0.5).summarize(torch.tensor([[[1.0]], [[3.0]]]))
        >>> pred.epistemic_variance.item(), pred.variance.item()
        (2.0, 2.5)
    """

    noise_variance: float = 0.0
    select: Select = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        check_select(self.select)
        if not (math.isfinite(self.noise_variance) and self.noise_variance >= 0):
            raise InvalidArgumentError(
                "noise_variance must be a finite number, at least 0.",
                got=f"noise_variance={self.noise_variance!r}",
                cause="a log-variance, or the inverse of a precision of zero",
                fix="Mean(noise_variance=1 / caveat.model_precision(...))",
            )

    def read(self, returned: Any) -> Tensor:
        """Means (B..., D) as they are; (B,) stays (B,).

        Raises:
            OutputMismatchError: not one floating-point tensor with a batch axis.
        """
        return one_tensor(self, self.select, returned)

    def summarize(self, draws: Tensor, *, keep: bool = False) -> Gaussian:
        """The summary of means (S, B..., D).

        Raises:
            NotFiniteError: NaN or infinity in any draw.
        """
        if _may_wait(draws, keep=keep):
            own, noise = draws.clone(), self.noise_variance
            return Gaussian.later(lambda: own, lambda: noise)
        return Gaussian.from_draws(draws, self.noise_variance, keep=keep)


@final
@dataclass(frozen=True)
class MeanAndVariance:
    """Mean and noise variance of each target: a pair of (B..., D), or one (B, 2D) or (B, T, 2D) with the means first.

    Example:
        >>> import torch
        >>> output = MeanAndVariance()
        >>> output.read((torch.zeros(4, 1), torch.ones(4, 1))).shape
        torch.Size([4, 1, 2])
        >>> output.read(torch.zeros(4, 6)).shape
        torch.Size([4, 3, 2])
    """

    select: Select = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Means and variances stacked, (B..., D, 2).

        Raises:
            OutputMismatchError: neither a pair of one shape nor a tensor whose last axis is even.
        """
        return stacked_pair(selected(returned, self.select), self)

    def summarize(self, draws: Tensor, *, keep: bool = False) -> Gaussian:
        """The summary of stacked means and variances (S, B..., D, 2).

        Raises:
            NotFiniteError: NaN or infinity in any draw.
            OutputMismatchError: a variance is negative.
        """
        require_draws(draws)
        means, variances = draws.unbind(-1)
        check_variance(variances)
        if _may_wait(draws, keep=keep):
            own = draws.clone()
            return Gaussian.later(lambda: own[..., 0], lambda: own[..., 1])
        return Gaussian.from_draws(means, variances, keep=keep)


@final
@dataclass(frozen=True)
class MeanAndLogVariance:
    """Mean and log noise variance (nats) of each target: a pair of (B..., D), or one (B, 2D) or (B, T, 2D).

    Example:
        >>> import torch
        >>> pred = MeanAndLogVariance().summarize(torch.zeros(10, 4, 1, 2))
        >>> pred.variance.flatten()
        tensor([1., 1., 1., 1.])
    """

    select: Select = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Means and log-variances stacked, (B..., D, 2).

        Raises:
            OutputMismatchError: neither a pair of one shape nor a tensor whose last axis is even.
        """
        return stacked_pair(selected(returned, self.select), self)

    def summarize(self, draws: Tensor, *, keep: bool = False) -> Gaussian:
        """The summary of stacked means and log-variances (S, B..., D, 2).

        Raises:
            NotFiniteError: NaN or infinity in any draw, also where the variance overflows.
        """
        wide = accumulator(draws.device)
        if _may_wait(draws, keep=keep) and draws.amax().item() < _LARGEST_LOG_VARIANCE:
            own = draws.clone()
            return Gaussian.later(lambda: own[..., 0], lambda: own[..., 1].to(wide).exp())
        require_draws(draws)
        means, log_variances = draws.unbind(-1)
        return Gaussian.from_draws(means, log_variances.to(wide).exp(), keep=keep)


def _may_wait(draws: Tensor, *, keep: bool) -> bool:
    """Returns whether these draws (S, ...) are few and all finite, so that their summary may be made later."""
    light = not keep and draws.dim() > 0 and 0 < draws.numel() <= FEW_NUMBERS and not draws.requires_grad
    at_once = draws.is_cpu or postponed_for(draws) is None
    return light and at_once and math.isfinite(draws.sum().item())
