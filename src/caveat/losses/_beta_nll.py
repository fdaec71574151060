"""Gaussian negative log-likelihood weighted by the variance to a power: noise no longer hides a bad mean.

See "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks", Seitzer et al.,
2022.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from caveat._checks import require_number
from caveat.losses._gaussian_nll import ceiling, normal_nll, standard_parts
from caveat.losses._reduce import Reduction, check_reduction, reduce_loss


def beta_nll(
    returned: Any,
    target: Tensor,
    *,
    beta: float = 0.5,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Gaussian negative log-likelihood times variance^beta, through which no gradient goes.

    With plain likelihood the mean's gradient is divided by the variance, so inputs that look noisy are hardly fitted
    and stay so. beta = 0 is `gaussian_nll`; beta = 1 gives the mean the gradient of half the squared error.

    Args:
        returned: mean and log-variance: a pair of (B..., D), or one (B..., 2D) with the means first.
        target: (B..., D), of the shape of the mean. NaN is a missing target: it counts for nothing.
        beta: Exponent of the variance, in [0, 1].
        mask: True where the target was observed, (B..., D) or of leading axes such as (B,).
        weight: Weight of each row, (B,), or of each element; not negative.
        reduction: "mean" over the observed elements (weighted), "sum", or "none" (B..., D).

    Returns:
        The loss, one number, or (B..., D) for "none". Its gradient is what it is for; its value is no likelihood:
        choose by `gaussian_nll` on validation data.

    Raises:
        OutputMismatchError: `returned` is not a mean and a log-variance of one shape.
        InvalidArgumentError: beta is outside [0, 1]; the target, mask or weight has another shape.

    See "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks", Seitzer,
    Tavakoli, Antic and Martius, 2022, https://arxiv.org/abs/2203.09168, equation (5).

    Example:
        >>> import torch
        >>> log_variance = torch.tensor([[4.0]]).log()
        >>> beta_nll((torch.zeros(1, 1), log_variance), torch.full((1, 1), 2.0))     # 4^0.5 (4/4 + log 4) / 2
        tensor(2.3863)
    """
    check_reduction(reduction)
    require_number(beta, "beta", "[0, 1]", fix="beta=0.5, the authors' recommendation; 0 is the plain likelihood")
    residual, log_variance, observed = standard_parts(returned, target, mask)
    limit = 2 * ceiling(log_variance.dtype)  # where the likelihood is continued, the weight stands still
    attention = (beta * log_variance.detach().clamp(-limit, limit)).exp()
    return reduce_loss(normal_nll(residual, log_variance) * attention, observed, weight, reduction)
