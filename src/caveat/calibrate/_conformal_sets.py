"""Prediction sets: the classes that cannot be ruled out, so that the label is among them with a chosen probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import class_numbers, describe, require_class_probabilities, require_number
from caveat._numerics import accumulator, conformal_quantile
from caveat._table_text import in_a_line
from caveat.calibrate._checks import require_classes
from caveat.calibrate._conformal_scores import LAC, SetScore
from caveat.calibrate._stored import state_of, stored
from caveat.errors import InvalidArgumentError


@stored
@final
@dataclass(frozen=True, eq=False)
class ConformalSets:
    """Classes whose score is at most the threshold.

    Fields:
        threshold: 0-d, float64; infinite (every class is in) where rows were too few for the level.
        score: Distance of a class from fitting the probabilities: `APS()`, `RAPS()`, or LAC, one minus its own.
        classes: C.
        level: Probability of holding the label.
    """

    threshold: Tensor
    score: SetScore
    classes: int
    level: float

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, probabilities: Tensor) -> Tensor:
        """The sets of probabilities (B..., C): bool, (B..., C). A set can be empty.

        Raises:
            InvalidArgumentError: another number of classes.
            NotProbabilitiesError: rows that do not sum to one.
        """
        p = _checked_rows(probabilities)
        require_classes(probabilities, self.classes, "probabilities")
        scores = self.score(p)
        return (scores <= self.threshold.to(scores)).reshape(probabilities.shape)


@takes_arrays
def fit_conformal_sets(
    probabilities: Tensor, labels: Tensor, *, level: float = 0.9, score: SetScore | None = None
) -> ConformalSets:
    """Split conformal sets from any probabilities: they hold the label with probability at least ``level``.

    That holds on average over rows that are exchangeable with the calibration rows, whatever the network; it does not
    hold row by row, nor once the data shift.

    Args:
        probabilities: (B..., C), of rows that the network was not trained on.
        labels: (B...), integers.
        level: Probability of holding the label.
        score: Misfit of a class; if not given, one minus its probability (LAC: the smallest sets on average).
            `APS()` gives sets that grow where the network is unsure, `RAPS()` the same without long tails.

    Returns:
        A callable: probabilities (B..., C) to bool (B..., C).

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, no rows, or a level outside (0, 1).
        NotProbabilitiesError: rows that do not sum to one.

    See "Inductive Confidence Machines for Regression", Papadopoulos et al., 2002; "Least Ambiguous Set-Valued
    Classifiers with Bounded Error Levels", Sadinle, Lei and Wasserman, 2019.

    Example:
        >>> import torch
        >>> p = torch.tensor([0.9, 0.8, 0.7, 0.6])
        >>> sets = fit_conformal_sets(torch.stack((p, 1 - p), -1), torch.zeros(4, dtype=torch.int64), level=0.8)
        >>> sets(torch.tensor([[0.95, 0.05], [0.55, 0.45], [0.62, 0.38]]))
        tensor([[ True, False],
                [False, False],
                [ True, False]])
    """
    require_number(level, "level", "(0, 1)")
    chosen = LAC() if score is None else score
    p = _checked_rows(probabilities)
    if probabilities.shape[:-1] != labels.shape:
        raise InvalidArgumentError(
            "labels must be (B...), one for each row of probabilities.",
            got=f"probabilities: {describe(probabilities)}; labels: {describe(labels)}",
            cause="one-hot labels, or another split",
            fix="labels.argmax(-1) for one-hot labels",
        )
    y = class_numbers(labels, p.shape[-1], p.device)
    own = chosen(p).gather(-1, y[:, None])[:, 0]
    return ConformalSets(conformal_quantile(own, level), chosen, p.shape[-1], level)


def _checked_rows(probabilities: Tensor) -> Tensor:
    """Probabilities (N, C) in float64, batch axes flattened."""
    p = probabilities.detach().to(accumulator(probabilities.device))
    require_class_probabilities(p)
    return p.reshape(-1, p.shape[-1])
