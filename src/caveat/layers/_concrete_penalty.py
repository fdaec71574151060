"""What holds a learned dropout rate in place: the divergence of Concrete dropout from its prior.

See "Concrete Dropout", Gal, Hron and Kendall, 2017, equations 3 and 4.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caveat._checks import require_integer, require_number
from caveat.errors import InvalidArgumentError, explain
from caveat.layers._concrete_dropout import ConcreteDropout


def concrete_penalty(
    model: nn.Module, N: int, *, length_scale: float = 1e-2, model_precision: float | None = 1.0
) -> Tensor:
    """The penalty to add to a loss averaged over rows: one number, a sum over all Concrete dropout of ``model``.

    For each such layer with weights W, K dropped inputs and rate p::

        l^2 / (tau N) * ||W||^2 / (1 - p)  +  2 / (tau N) * K * (p log p + (1 - p) log(1 - p))

    This is the authors' regularizer, right beside their loss, the mean squared error (y - f)^2 of noise precision tau:
    2 / tau times the divergence, as the squared error is 2 / tau times the negative log-likelihood. Beside a loss that
    *is* a negative log-likelihood (cross-entropy, ``caveat.losses.gaussian_nll``) pass ``model_precision=None``: the
    divergence itself, l^2 / (2 N) and 1 / N. Of layers that have no Concrete dropout, such as the first or the last,
    use weight decay.

    Args:
        model: holds ``ConcreteDropout`` anywhere in it.
        N: how many rows the training set has.
        length_scale: l of the prior on the weights; larger means smoother functions, so a stronger pull to 0.
        model_precision: tau, 1 / (target unit)^2; None for a loss that is a negative log-likelihood.

    Returns:
        0-d, differentiable by the weights and the rates; nats times 2 / tau (or 1).

    Raises:
        InvalidArgumentError: no Concrete dropout in ``model``, N below 1, or a scale or precision that is not above
            0.

    See "Concrete Dropout", Gal, Hron and Kendall, 2017, https://arxiv.org/abs/1705.07832.

    Example:
        >>> layer = ConcreteDropout(nn.Linear(3, 1, bias=False), p=0.5)
        >>> _ = nn.init.ones_(layer.weight)
        >>> penalty = concrete_penalty(layer, N=2, length_scale=1.0)       # 1/2 * 3 / 0.5 - 2/2 * 3 * log 2
        >>> round(penalty.item(), 4)
        0.9206
    """
    _check(N, length_scale, model_precision)
    layers = [layer for layer in model.modules() if isinstance(layer, ConcreteDropout)]
    if not layers:
        raise InvalidArgumentError(_none_found(model))
    factor = 1.0 if model_precision is None else 2.0 / model_precision
    terms = torch.stack([_divergence(layer, length_scale) for layer in layers])
    return factor / N * terms.sum()


def _divergence(layer: ConcreteDropout, length_scale: float) -> Tensor:
    """The divergence of the layer's weights from their prior, up to a constant: l^2 ||W||^2 / (2 (1 - p)) - K H(p)."""
    weight = cast(Tensor, layer.weight)
    logit = layer.logit.to(torch.promote_types(weight.dtype, torch.float32))
    p = logit.sigmoid()
    # From the logit, p log p and 1 / (1 - p) keep their digits where p is near 0 or 1.
    negative_entropy = p * F.logsigmoid(logit) + (1 - p) * F.logsigmoid(-logit)
    squares = weight.to(logit.dtype).square().sum()
    return length_scale**2 / 2 * squares * (1 + logit.exp()) + layer.dropped_features * negative_entropy


def _check(N: int, length_scale: float, model_precision: float | None) -> None:
    require_integer(N, "N", 1, fix="N=len(training_set)")
    require_number(length_scale, "length_scale", "(0, inf)", fix="length_scale=0.01")
    require_number(model_precision, "model_precision", "(0, inf)", optional=True, fix="1 / noise_variance")


def _none_found(network: nn.Module) -> str:
    return explain(
        "concrete_penalty needs Concrete dropout in the network.",
        got=f"{type(network).__name__} without any",
        cause="the layers were not replaced, or another network was passed",
        fix="caveat.layers.replace(network, which=nn.Linear, "
        "by=caveat.layers.ConcreteDropout)",
    )
