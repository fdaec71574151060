"""Gaussian dropout: multiplicative noise with the mean and variance of dropout's.

See "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", Srivastava et al., 2014, section 10.
"""

from __future__ import annotations

from typing import cast, final

import torch
from torch import Tensor, nn

from caveat._checks import require_rate
from caveat._dropping import drop, elementwise
from caveat._random_numbers import uniform_numbers


@final
class GaussianDropout(nn.Module):
    """Multiplies each element by Gaussian noise of mean 1 and variance p / (1 - p): dropout's, without the zeros.

    Nothing is scaled in eval mode, since the mean is 1.

    Args:
        p: the rate of the dropout whose variance the noise has, in [0, 1).

    Shapes:
        any; the same comes out.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1).

    See "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", Srivastava et al., 2014.

    Example:
        >>> GaussianDropout(0.2).variance
        0.25
        >>> GaussianDropout(0.2).eval()(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = require_rate(p)

    @property
    def variance(self) -> float:
        """The variance of the noise: p / (1 - p)."""
        return self.p / (1 - self.p)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` times noise in training and in draws; ``x`` itself in eval mode."""
        uniform = uniform_numbers(x, elementwise, "gaussian_dropout", self.p, self.training)
        if uniform is None or self.p == 0:
            return x
        normal = cast(Tensor, torch.special.ndtri(uniform))
        return drop(x, 1 + self.variance**0.5 * normal)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"p={self.p}"
