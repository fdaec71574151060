"""Heads that say how noisy the data is: a mean or logits, and a log-variance for each.

See "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast, final

from torch import Tensor, nn

from caveat._checks import require_integer, require_number
from caveat.errors import InvalidArgumentError

Layer = Callable[[int, int], nn.Module]


@final
class MeanAndLogVarianceHead(nn.Module):
    """The mean of each of D targets and the log-variance of its noise: a pair of (B..., D).

    Train it with ``caveat.losses.gaussian_nll`` or ``beta_nll``, read it with ``caveat.MeanAndLogVariance()``. The
    variance starts as one number for all inputs, so that training starts as least squares.

    Args:
        in_features: features (or channels) that come in.
        targets: D.
        initial_variance: Variance of the noise before training, (target unit)^2; above 0.
        layer: makes both maps from (in, out): ``nn.Linear``, or a convolution for one answer per pixel.

    Raises:
        InvalidArgumentError: a size below 1, or an initial variance that is not a positive number.

    See "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal, 2017,
    https://arxiv.org/abs/1703.04977.

    Example:
        >>> import torch
        >>> mean, log_variance = MeanAndLogVarianceHead(16, targets=3)(torch.randn(4, 16))
        >>> mean.shape, log_variance.exp().mean().item()
        (torch.Size([4, 3]), 1.0)
    """

    def __init__(
        self, in_features: int, targets: int = 1, *, initial_variance: float = 1.0, layer: Layer = nn.Linear
    ) -> None:
        super().__init__()
        require_integer(in_features, "in_features", 1)
        require_integer(targets, "targets", 1)
        self.mean = layer(in_features, targets)
        self.log_variance = _constant_at_first(layer(in_features, targets), initial_variance)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of features (B..., in_features)."""
        return self.mean(features), self.log_variance(features)


@final
class LogitsAndLogVarianceHead(nn.Module):
    """The logits of C classes and the log-variance of Gaussian noise on each: a pair of (B, C), or (B, C, H, W).

    Train it with ``caveat.losses.attenuated_cross_entropy``; ``caveat.Logits(select=0)`` reads the logits to predict.

    Args:
        in_features: features (or channels) that come in.
        classes: C.
        shared: one log-variance per row or pixel for all classes, (B, 1, ...), in place of one per class.
        initial_variance: Variance of the noise before training, in squared logits; above 0.
        layer: makes both maps from (in, out): ``nn.Linear``, or for one answer per pixel
            ``functools.partial(nn.Conv2d, kernel_size=1)``.

    Raises:
        InvalidArgumentError: a size below 1, fewer than two classes, or an initial variance that is not a positive
            number.

    See "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal, 2017,
    https://arxiv.org/abs/1703.04977, section 3.3.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> head = LogitsAndLogVarianceHead(8, classes=5, layer=partial(nn.Conv2d, kernel_size=1))
        >>> logits, log_variance = head(torch.randn(2, 8, 16, 16))
        >>> logits.shape == log_variance.shape
        True
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        shared: bool = False,
        initial_variance: float = 1.0,
        layer: Layer = nn.Linear,
    ) -> None:
        super().__init__()
        require_integer(in_features, "in_features", 1)
        require_integer(classes, "classes", 2)
        self.logits = layer(in_features, classes)
        self.log_variance = _constant_at_first(layer(in_features, 1 if shared else classes), initial_variance)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and log-variances of features (B, in_features) or (B, in_features, H, W)."""
        return self.logits(features), self.log_variance(features)


def _constant_at_first(layer: nn.Module, variance: float) -> nn.Module:
    """The layer, changed to return log(variance) whatever comes in."""
    fix = "leave it out for 1, the variance of a standardized target"
    require_number(variance, "initial_variance", "(0, inf)", cause="a log-variance", fix=fix)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    bias = cast(Any, getattr(layer, "bias", None))
    if isinstance(bias, Tensor):
        nn.init.constant_(bias, math.log(variance))
    elif variance != 1:
        raise InvalidArgumentError(
            "An initial variance other than 1 needs a layer with a bias.",
            got=f"initial_variance={variance!r} and {type(layer).__name__} without a bias",
            cause="layer=functools.partial(nn.Linear, bias=False)",
            fix="a layer with a bias, or initial_variance=1",
        )
    return layer
