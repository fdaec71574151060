"""The observation precision that a dropout rate, a length scale and a weight decay imply."""

from __future__ import annotations

from caveat._checks import require_number


def model_precision(length_scale: float, dropout: float, n_train: int, weight_decay: float) -> float:
    """Model precision tau = l^2 (1 - p) / (2 N lambda); its inverse is the noise variance of `Mean`.

    The lambda is the one of the paper: the factor of |W|^2 beside the mean over examples of half the squared
    error. An optimizer's L2 `weight_decay` w beside `mse_loss` (no half; one target) is lambda = w / 4.

    Args:
        length_scale: prior length scale l, in units of the standardized inputs; above 0.
        dropout: the rate p at which units are dropped, in [0, 1).
        n_train: number of training examples N.
        weight_decay: lambda, above 0.

    Returns:
        tau, in 1 / (target unit)^2. Predictive variance = 1 / tau + variance over draws.

    Raises:
        InvalidArgumentError: `dropout` is outside [0, 1); another argument is not a positive finite number.

    See "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", Gal and
    Ghahramani, 2016, https://arxiv.org/abs/1506.02142, equation (7).

    Example:
        >>> from caveat.predictive import Mean
        >>> tau = model_precision(length_scale=1.0, dropout=0.5, n_train=100, weight_decay=0.0025)
        >>> Mean(noise_variance=1 / tau)
        Mean(noise_variance=1.0)
    """
    require_number(dropout, "dropout", "[0, 1)")
    positive = {"length_scale": length_scale, "n_train": n_train, "weight_decay": weight_decay}
    for name, value in positive.items():
        fix = "the value that the network was trained with; without weight decay there is no finite precision"
        require_number(value, name, "(0, inf)", fix=fix)
    return length_scale**2 * (1 - dropout) / (2 * n_train * weight_decay)
