"""How badly each class fits the probabilities: the scores behind prediction sets, small where a class fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from caveat._checks import require_number
from caveat._seeds import draw_keys, fold_in, site_key
from caveat.calibrate._stored import stored


class SetScore(Protocol):
    """Probabilities (N, C) to scores (N, C); a row's are a function of that row alone, at the fit as in a call."""

    def __call__(self, p: Tensor) -> Tensor:
        """The score of every class."""
        ...


@stored
@final
@dataclass(frozen=True)
class LAC:
    """One minus the class's probability.

    See "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", Sadinle, Lei and Wasserman, 2019.
    """

    def __call__(self, p: Tensor) -> Tensor:
        """The score of every class, (N, C)."""
        return 1 - p


@stored
@final
@dataclass(frozen=True)
class APS:
    """The probability of the class and of all that are more probable.

    Fields:
        randomized: count only a random part of the class's own probability, which brings the coverage down to
            exactly the level. Which part is a hash of the row's probabilities, so that rows with equal ones share it.
        seed: Random seed for that part.

    See "Classification with Valid and Adaptive Coverage", Romano, Sesia and Candès, 2020,
    https://arxiv.org/abs/2006.02544.

    Example:
        >>> APS()(torch.tensor([[0.5, 0.3, 0.2]]))
        tensor([[0.5000, 0.8000, 1.0000]])
    """

    randomized: bool = False
    seed: int = 0

    def __call__(self, p: Tensor) -> Tensor:
        """The score of every class, (N, C)."""
        return _cumulative(p, penalty=0.0, free=0, seed=self.seed if self.randomized else None)


@stored
@final
@dataclass(frozen=True)
class RAPS:
    """`APS` plus a penalty for each place that a class stands below the `free` most probable ones.

    Fields:
        penalty: Penalty for each place, in probability.
        free: Number of classes without a penalty.
        randomized: Whether to randomize, as in `APS`.
        seed: Random seed, as in `APS`.

    Raises:
        InvalidArgumentError: a negative penalty or number of classes.

    See "Uncertainty Sets for Image Classifiers using Conformal Prediction", Angelopoulos et al., 2021,
    https://arxiv.org/abs/2009.14193.

    Example:
        >>> RAPS(penalty=0.1, free=1)(torch.tensor([[0.5, 0.3, 0.2]]))
        tensor([[0.5000, 0.9000, 1.2000]])
    """

    penalty: float = 0.01
    free: int = 5
    randomized: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_number(self.penalty, "penalty", "[0, inf)")
        require_number(self.free, "free", "[0, inf)")

    def __call__(self, p: Tensor) -> Tensor:
        """The score of every class, (N, C)."""
        seed = self.seed if self.randomized else None
        return _cumulative(p, penalty=self.penalty, free=self.free, seed=seed)


def _cumulative(p: Tensor, *, penalty: float, free: int, seed: int | None) -> Tensor:
    ranked, order = p.sort(dim=-1, descending=True, stable=True)
    scores = ranked.cumsum(-1)
    if seed is not None:
        scores = scores - _uniform(p, seed).to(p)[:, None] * ranked
    place = torch.arange(1, p.shape[-1] + 1, device=p.device)
    scores = scores + penalty * (place - free).clamp(min=0)
    return torch.empty_like(scores).scatter_(-1, order, scores)


def _uniform(p: Tensor, seed: int) -> Tensor:
    """A number in [0, 1) for each row: a hash of its probabilities, the same whoever stands beside it.

    One hash for the fit and for every call: scores are then one function of a row and its label, and rows that are
    exchangeable have exchangeable scores, also where many rows are equal.
    """
    word = torch.int64 if p.dtype == torch.float64 else torch.int32
    bits = (p + 0.0).contiguous().view(word).long()  # 0 in place of -0
    low, high = draw_keys(0, site_key("classes", 0), torch.arange(p.shape[-1], device=p.device))
    content = (bits * ((high.long() << 32) + low.long() | 1)).sum(-1)
    return (draw_keys(fold_in(seed, "conformal"), site_key("row", 0), content)[0].long() & 0xFFFFFFFF) / (1 << 32)
