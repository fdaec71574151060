"""Outputs: by its type, each says how to read what a network returns and how to summarise draws of it.

Nothing is guessed from values. `read` sees one pass, without a draw axis, and runs inside `torch.vmap`;
`summarise` takes draws stacked first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor

from caveat.errors import InvalidArgument, OutputMismatch, explain
from caveat.numerics import accumulator, log_softmax, public_dtype
from caveat.predictive.bernoulli import Bernoulli
from caveat.predictive.categorical import Categorical
from caveat.predictive.checks import check_finite, check_variance, checked_probabilities
from caveat.predictive.deferred import may_wait
from caveat.predictive.gaussian import Gaussian
from caveat.predictive.protocol import Select
from caveat.predictive.select import check_select, only_tensor, selected
from caveat.shapes import describe, require_draws, require_floating, require_rank

_MOST_AXES = 3
"""(B, C) and (B, T, C) have the classes last; with more axes it is as likely (B, C, H, W)."""

_LARGEST_LOG_VARIANCE = 80.0
"""Below it, a variance overflows in no dtype that is added in."""


@final
@dataclass(frozen=True)
class Logits:
    """Unnormalised scores of C >= 2 exclusive classes; read as (B..., C), summarised as `Categorical`.

    Args:
        class_dim: the axis of the classes in what the network returns: 1 for images (B, C, H, W), -1 for the last.
            The last if not given; values of four or more axes are not read without it.
        select: the part of the return to read.

    Example:
        >>> pred = Logits(class_dim=1).summarise(Logits(class_dim=1).read(torch.zeros(2, 5, 8, 8))[None])
        >>> pred.mean.shape
        torch.Size([2, 8, 8, 5])
    """

    class_dim: int | None = None
    select: Select = None

    def __post_init__(self) -> None:
        _check_class_dim(self.class_dim)
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Scores (B..., C), the class axis moved last.

        Raises:
            OutputMismatch: not one floating-point tensor of at least two axes and two classes.
        """
        return _classes_last(_tensor(self, returned), self.class_dim, self)

    def summarise(self, draws: Tensor, *, keep: bool = False) -> Categorical:
        """The summary of scores (S, B..., C), by softmax in float64.

        Raises:
            NotFinite: NaN in any draw.
        """
        require_draws(draws)
        dtype = public_dtype(draws.dtype)
        if may_wait(draws, keep=keep):
            own = draws.clone()
            return Categorical.later(lambda: log_softmax(own), dtype=dtype)
        return Categorical.from_log_probabilities(log_softmax(draws), dtype=dtype, keep=keep)


@final
@dataclass(frozen=True)
class Probabilities:
    """Probabilities of C >= 2 exclusive classes; read as (B..., C), summarised as `Categorical`.

    Example:
        >>> Probabilities().summarise(torch.tensor([[[0.25, 0.75]]])).mean
        tensor([[0.2500, 0.7500]])
    """

    class_dim: int | None = None
    select: Select = None

    def __post_init__(self) -> None:
        _check_class_dim(self.class_dim)
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Probabilities (B..., C), the class axis moved last.

        Raises:
            OutputMismatch: not one floating-point tensor of at least two axes and two classes.
        """
        return _classes_last(_tensor(self, returned), self.class_dim, self)

    def summarise(self, draws: Tensor, *, keep: bool = False) -> Categorical:
        """The summary of probabilities (S, B..., C), scaled to sum to exactly one.

        Raises:
            NotFinite: NaN in any draw.
            NotProbabilities: negative, or not summing to one within 1e-3.
        """
        require_draws(draws)
        p = draws.to(accumulator(draws.device))
        check_finite(p.sum(0), "Probabilities")
        log_p = checked_probabilities(p, draws.dtype).log()
        return Categorical.from_log_probabilities(log_p, dtype=public_dtype(draws.dtype), keep=keep)


@final
@dataclass(frozen=True)
class BinaryLogit:
    """The logit of yes, for one label (B,) or (B, 1), or K labels (B, K); summarised as `Bernoulli`.

    Example:
        >>> BinaryLogit().summarise(torch.tensor([[0.0], [40.0]])).mean
        tensor([0.7500])
    """

    select: Select = None

    def __post_init__(self) -> None:
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Logits (B...) as they are.

        Raises:
            OutputMismatch: not one floating-point tensor with a batch axis.
        """
        return _tensor(self, returned)

    def summarise(self, draws: Tensor, *, keep: bool = False) -> Bernoulli:
        """The summary of logits (S, B...).

        Raises:
            NotFinite: NaN in any draw.
        """
        require_draws(draws)
        dtype, wide = public_dtype(draws.dtype), accumulator(draws.device)
        if may_wait(draws, keep=keep):
            own = draws.clone()
            return Bernoulli.later(lambda: own.to(wide), dtype=dtype)
        return Bernoulli.from_logits(draws.to(wide), dtype=dtype, keep=keep)


@final
@dataclass(frozen=True)
class Mean:
    """The mean of each target, with one noise variance for all; read as it is, summarised as `Gaussian`.

    Args:
        noise_variance: of an observation about the function, (target unit)^2; 1 / `model_precision(...)`.
        select: the part of the return to read.

    Example:
        >>> pred = Mean(noise_variance=0.5).summarise(torch.tensor([[[1.0]], [[3.0]]]))
        >>> pred.variance.item(), pred.total_variance.item()
        (2.0, 2.5)
    """

    noise_variance: float = 0.0
    select: Select = None

    def __post_init__(self) -> None:
        check_select(self.select)
        if not (math.isfinite(self.noise_variance) and self.noise_variance >= 0):
            raise InvalidArgument(
                explain(
                    "noise_variance must be a finite number, at least 0.",
                    got=f"noise_variance={self.noise_variance!r}",
                    cause="a log-variance, or the inverse of a precision of zero",
                    fix="Mean(noise_variance=1 / caveat.model_precision(...))",
                )
            )

    def read(self, returned: Any) -> Tensor:
        """Means (B..., D) as they are; (B,) stays (B,).

        Raises:
            OutputMismatch: not one floating-point tensor with a batch axis.
        """
        return _tensor(self, returned)

    def summarise(self, draws: Tensor, *, keep: bool = False) -> Gaussian:
        """The summary of means (S, B..., D).

        Raises:
            NotFinite: NaN or infinity in any draw.
        """
        require_draws(draws)
        if may_wait(draws, keep=keep):
            own, noise = draws.clone(), self.noise_variance
            return Gaussian.later(lambda: own, lambda: noise, dtype=public_dtype(draws.dtype))
        return Gaussian.from_draws(draws, self.noise_variance, keep=keep)


@final
@dataclass(frozen=True)
class MeanAndVariance:
    """Mean and noise variance of each target: a pair of (B..., D), or one (B, 2D) or (B, T, 2D) with the means first.

    Example:
        >>> output = MeanAndVariance()
        >>> output.read((torch.zeros(4, 1), torch.ones(4, 1))).shape
        torch.Size([4, 1, 2])
        >>> output.read(torch.zeros(4, 6)).shape
        torch.Size([4, 3, 2])
    """

    select: Select = None

    def __post_init__(self) -> None:
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Means and variances stacked, (B..., D, 2).

        Raises:
            OutputMismatch: neither a pair of one shape nor a tensor whose last axis is even.
        """
        return _stacked_pair(selected(returned, self.select), self)

    def summarise(self, draws: Tensor, *, keep: bool = False) -> Gaussian:
        """The summary of stacked means and variances (S, B..., D, 2).

        Raises:
            NotFinite: NaN or infinity in any draw.
            OutputMismatch: a variance is negative.
        """
        require_draws(draws)
        means, variances = draws.unbind(-1)
        check_variance(variances)
        if may_wait(draws, keep=keep):
            own = draws.clone()
            return Gaussian.later(lambda: own[..., 0], lambda: own[..., 1], dtype=public_dtype(draws.dtype))
        return Gaussian.from_draws(means, variances, keep=keep)


@final
@dataclass(frozen=True)
class MeanAndLogVariance:
    """Mean and log noise variance (nats) of each target: a pair of (B..., D), or one (B, 2D) or (B, T, 2D).

    Example:
        >>> pred = MeanAndLogVariance().summarise(torch.zeros(10, 4, 1, 2))
        >>> pred.total_variance.flatten()
        tensor([1., 1., 1., 1.])
    """

    select: Select = None

    def __post_init__(self) -> None:
        check_select(self.select)

    def read(self, returned: Any) -> Tensor:
        """Means and log-variances stacked, (B..., D, 2).

        Raises:
            OutputMismatch: neither a pair of one shape nor a tensor whose last axis is even.
        """
        return _stacked_pair(selected(returned, self.select), self)

    def summarise(self, draws: Tensor, *, keep: bool = False) -> Gaussian:
        """The summary of stacked means and log-variances (S, B..., D, 2).

        Raises:
            NotFinite: NaN or infinity in any draw, also where the variance overflows.
        """
        require_draws(draws)
        wide = accumulator(draws.device)
        if may_wait(draws, keep=keep) and draws.amax().item() < _LARGEST_LOG_VARIANCE:
            own = draws.clone()
            return Gaussian.later(
                lambda: own[..., 0], lambda: own[..., 1].to(wide).exp(), dtype=public_dtype(draws.dtype)
            )
        means, log_variances = draws.unbind(-1)
        return Gaussian.from_draws(means, log_variances.to(wide).exp(), keep=keep)


def _tensor(output: Logits | Probabilities | BinaryLogit | Mean, returned: Any) -> Tensor:
    """The selected part, if it is a floating-point tensor with a batch axis."""
    bare = output.select is None and isinstance(returned, Tensor)
    part = returned if bare else selected(returned, output.select)
    x = part if isinstance(part, Tensor) else only_tensor(part, repr(output))
    _check_numbers(x, output)
    return x


def _check_numbers(x: Tensor, output: object) -> None:
    if x.is_floating_point() and x.ndim >= 1:  # before all words: they take longer than a small layer
        return
    require_floating(
        x,
        f"What {output} reads",
        cause="the network returns class indices (an argmax), or another part was meant",
        fix="return scores before argmax, or choose the part with select=",
        error=OutputMismatch,
    )
    require_rank(
        x,
        1,
        f"What {output} reads",
        cause="the network reduces over the batch, for instance because it returns its loss",
        fix="return one value a row, or choose the part with select=",
        error=OutputMismatch,
    )


def _check_class_dim(class_dim: object) -> None:
    if class_dim is not None and (isinstance(class_dim, bool) or not isinstance(class_dim, int)):
        raise InvalidArgument(
            explain(
                "class_dim must be an integer or None.",
                got=f"class_dim={class_dim!r}",
                cause="the number of classes or a name was passed, or a float",
                fix="Logits(class_dim=1) for (B, C, H, W), Logits() where classes are last",
            )
        )


def _classes_last(x: Tensor, class_dim: int | None, output: Logits | Probabilities) -> Tensor:
    """Scores with the class axis moved last, after checks of that axis."""
    if class_dim is None and 2 <= x.ndim <= _MOST_AXES and x.shape[-1] >= 2:  # before all words, see _check_numbers
        return x
    require_rank(
        x,
        2,
        f"What {output} reads",
        cause="a yes-or-no network that returns one logit a row, or a missing batch axis",
        fix="declare output=BinaryLogit(), or add the batch axis: x[None]",
        error=OutputMismatch,
    )
    if class_dim is None and x.ndim > _MOST_AXES:
        name = type(output).__name__
        raise OutputMismatch(
            explain(
                "The class axis of values with four or more axes must be said.",
                got=f"{describe(x)}, and no class_dim",
                cause="a network for images, whose classes are on axis 1: (B, C, H, W)",
                fix=f"output=caveat.{name}(class_dim=1), or class_dim=-1 where classes are last",
            )
        )
    class_dim = -1 if class_dim is None else class_dim
    axis = class_dim + x.ndim if class_dim < 0 else class_dim
    if not 0 < axis < x.ndim:
        raise OutputMismatch(
            explain(
                "class_dim must name an axis of the output that is not the batch axis 0.",
                got=f"class_dim={class_dim} for {describe(x)}",
                cause="the axis counted without the batch axis",
                fix="Logits(class_dim=1) for (B, C, H, W), Logits() where classes are last",
            )
        )
    if x.shape[axis] < 2:
        raise OutputMismatch(
            explain(
                f"{output} reads at least two classes.",
                got=f"{describe(x)} with {x.shape[axis]} along axis {class_dim}",
                cause="a yes-or-no network that returns one logit a row",
                fix="declare output=BinaryLogit(); of one probability p return torch.cat([1 - p, p], -1)",
            )
        )
    return x.movedim(axis, -1)


def _stacked_pair(part: Any, output: MeanAndVariance | MeanAndLogVariance) -> Tensor:
    """A pair of tensors, or the halves of one tensor's last axis, stacked as (B..., D, 2)."""
    if isinstance(part, Tensor):
        _check_numbers(part, output)
        if part.ndim > _MOST_AXES:
            raise OutputMismatch(
                explain(
                    f"{output} must be given a pair where values have four or more axes.",
                    got=f"one tensor of {describe(part)}, whose halves could be along any axis",
                    cause="a network for images, with means and variances on axis 1: (B, 2D, H, W)",
                    fix=f"{type(output).__name__}(select=lambda out: out.chunk(2, 1)), or chunk(2, -1)",
                )
            )
        if part.ndim >= 2 and part.shape[-1] == 2:
            return part.unsqueeze(-2)
        if part.ndim < 2 or part.shape[-1] % 2 or part.shape[-1] == 0:
            raise _pair_mismatch(output, describe(part))
        return torch.stack(part.chunk(2, -1), -1)
    items = cast("Sequence[Any]", part) if isinstance(part, tuple | list) else ()
    if len(items) != 2 or not all(isinstance(item, Tensor) for item in items):
        only_tensor(part, repr(output))
    mean, spread = cast("Sequence[Tensor]", items)
    _check_numbers(mean, output)
    _check_numbers(spread, output)
    if mean.shape != spread.shape:
        raise _pair_mismatch(output, f"{describe(mean)} and {describe(spread)}")
    dtype = torch.promote_types(mean.dtype, spread.dtype)
    return torch.stack([mean.to(dtype), spread.to(dtype)], -1)


def _pair_mismatch(output: object, got: str) -> OutputMismatch:
    return OutputMismatch(
        explain(
            f"{output} reads a pair of one shape (B..., D), or one tensor (B..., 2D) with the means first.",
            got=got,
            cause="a network that returns means only, or one variance for several targets",
            fix="declare output=Mean(noise_variance=...), or expand the variance to the mean's shape",
        )
    )
