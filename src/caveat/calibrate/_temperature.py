"""Temperature scaling: one number that makes every probability of a network softer or sharper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._numerics import public_dtype
from caveat._table_text import in_a_line
from caveat.calibrate._checks import GAP, as_scores, scored
from caveat.calibrate._likelihood import maximize_likelihood, pooled_nll
from caveat.calibrate._stored import state_of, stored

_LEAST, MOST, _TRIED = 0.01, 100.0, 13
_GAP = GAP * MOST  # what counts at the highest temperature


@stored
@final
@dataclass(frozen=True, eq=False)
class Temperature:
    """softmax(logits / temperature): the most probable class stays the most probable.

    Fields:
        temperature: 0-d, float64, positive; above 1 where the network was too sure.
    """

    temperature: Tensor

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (..., C) of logits (..., C), draws or no draws."""
        z = as_scores(logits, _GAP)
        return (z / self.temperature.to(z)).softmax(-1).to(public_dtype(logits.dtype))


@takes_arrays
def fit_temperature(logits: Tensor, labels: Tensor) -> Temperature:
    """The temperature with the greatest likelihood, never below 0.01 nor above 100.

    Where no row is wrong there is no greatest, and the search ends where probabilities are as good as 0 and 1.

    Args:
        logits: (B..., C); or (S, B..., C), and then of the mean over draws of softmax(logits / T), which is the
            predictive that calibrated draws pool to. Of a pooled predictive pass the log of its probabilities.
        labels: (B...), integers, of rows that the network was not trained on.

    Returns:
        A callable: logits (..., C) to probabilities (..., C).

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, or no rows.
        NotFiniteError: NaN or +inf among the logits.

    See "On Calibration of Modern Neural Networks", Guo et al., 2017, https://arxiv.org/abs/1706.04599;
    "Uncertainty Quantification and Deep Ensembles", Rahaman and Thiery, 2021, https://arxiv.org/abs/2007.08792.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, 0.0]]).repeat(4, 1)       # sure of class 0 with 0.98, right 3 times of 4
        >>> calibrated = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
        >>> round(calibrated.temperature.item(), 3), calibrated(logits[:1])     # 4 / ln 3
        (3.641, tensor([[0.7500, 0.2500]]))
    """
    z, y = scored(logits, labels, _GAP)

    def cooled(scores: Tensor, log_temperature: Tensor) -> Tensor:
        return scores * (-log_temperature).exp()

    least, most = math.log(_LEAST), math.log(MOST)
    (found,) = maximize_likelihood(z, y, [z.new_zeros(())], cooled)
    if len(z) > 1:  # the likelihood of a mean over draws may have several peaks
        tried = torch.cat([found.clamp(least, most)[None], torch.linspace(least, most, _TRIED).to(z)])
        best = int(torch.stack([pooled_nll(cooled(z, one), y) for one in tried]).argmin())
        found = maximize_likelihood(z, y, [tried[best]], cooled)[0] if best else found
    return Temperature(found.clamp(least, most).exp())
