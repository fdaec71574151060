"""Any sampler as the model of TorchCP's conformal predictors, so that all of its scores and predictors take it.

Split conformal sets and intervals need no library: see ``caveat.calibrate``. TorchCP adds the rest: class-conditional,
clustered and weighted conformal prediction, more scores, adaptive conformal inference over time. It asks of a model
only that it is a ``torch.nn.Module``; nothing is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from caveat._checks import require_integer
from caveat._engine import Sampler
from caveat.errors import InvalidArgumentError
from caveat.interop._one_prediction import numbers_of, predict_rows, probabilities_of
from caveat.predictive import Bernoulli, Categorical, Predictive

Read = Callable[[Predictive], Tensor]


@final
class SamplerModel(nn.Module):
    """A network whose forward pass is a prediction with n draws; made by ``torchcp_model``.

    It holds no weights, only an empty parameter by whose device TorchCP finds where the rows go. The rows are predicted
    in pieces of ``batch_size``, and the same rows always give the same numbers.
    """

    def __init__(
        self, sampler: Sampler, read: Read, n: int | None, seed: int, batch_size: int, device: torch.device | str
    ) -> None:
        super().__init__()
        require_integer(batch_size, "batch_size", 1)
        self.sampler, self.read, self.n, self.seed, self.batch_size = sampler, read, n, seed, batch_size
        self.place = nn.Parameter(torch.empty(0, device=device), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """What TorchCP's scores take, a row for each row of ``x`` (B, ...)."""
        return self.read(predict_rows(self.sampler, x, self.n, self.seed, self.batch_size))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{type(self.sampler).__name__}, n={self.n or 'default'}, seed={self.seed}"


def torchcp_model(
    sampler: Sampler,
    *,
    quantiles: tuple[float, float] | None = None,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """A sampler as the model of TorchCP's predictors, of classification or of regression.

    Args:
        sampler: with an output of classes, one label per row, or of one number per row.
        quantiles: For a regression, None for the mean, as the scores ``ABS`` and ``Sign`` take it; or two probabilities
            such as (0.05, 0.95), for the quantiles of a Gaussian with the predictive's mean and total variance, as
            ``CQR`` and its kin take them.
        n: draws for each prediction; 100, or all that the sampler has, if not given.
        seed: Random seed for the draws.
        batch_size: Number of rows at once.
        device: Device of the rows: that of the sampler's networks.

    Returns:
        A module; hand it to any predictor as ``model=``. Of classes it goes from rows (B, ...) to the logarithms of
        their mean probabilities (B, C), in nats: TorchCP's softmax of them is the mean of ``caveat.predict``. Of
        numbers to (B, 1) means, or (B, 2) quantiles, in the target's unit.

    Raises:
        InvalidArgumentError: quantiles that are not two rising probabilities, a batch size under one; when predicting,
            a sampler of maps or of several targets, or quantiles of classes.

    See "TorchCP: A Python Library for Conformal Prediction", Huang, Song, Zhang, Jing, Wei, 2024; "Conformalized
    Quantile Regression", Romano, Patterson, Candes, 2019.

    Example:
        >>> import caveat
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
        >>> model = torchcp_model(caveat.mc_dropout(network, output=caveat.Logits()), n=10)
        >>> torch.allclose(model(torch.zeros(2, 4)).exp().sum(-1), torch.ones(2))
        True
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)).eval()
        >>> sampler = caveat.mc_dropout(network, output=caveat.Mean(noise_variance=0.1))
        >>> torchcp_model(sampler, n=10)(torch.zeros(5, 4)).shape
        torch.Size([5, 1])
        >>> low, high = torchcp_model(sampler, quantiles=(0.05, 0.95), n=10)(torch.zeros(5, 4)).unbind(-1)
        >>> bool((low < high).all())
        True
    """
    if quantiles is None:
        return SamplerModel(sampler, _read, n, seed, batch_size, device)
    if len(quantiles) != 2 or not 0 < quantiles[0] < quantiles[1] < 1:
        raise InvalidArgumentError(
            "quantiles must be two rising probabilities between 0 and 1.",
            got=f"quantiles={quantiles!r}",
            cause="per cent, the upper one first, or the level of the interval alone",
            fix="quantiles=(0.05, 0.95) for an interval that is to hold 90 %",
        )

    def read(pred: Predictive) -> Tensor:
        mean, deviation = numbers_of(pred)
        places = cast(Tensor, cast(Any, torch.special).ndtri(torch.tensor(quantiles, dtype=torch.float64))).to(mean)
        return mean[:, None] + places * deviation[:, None]

    return SamplerModel(sampler, read, n, seed, batch_size, device)


def _read(pred: Predictive) -> Tensor:
    """The log-probabilities of classes, or the mean of a target."""
    if not isinstance(pred, (Bernoulli, Categorical)):
        return numbers_of(pred)[0][:, None]
    p = probabilities_of(pred)
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()  # a probability that is zero keeps its place, last
