"""Isotonic and Platt calibration: a rising map for each class against the rest, by scikit-learn.

The classes' maps are fitted apart and their values scaled to sum to one. See "Transforming Classifier Scores into
Accurate Multiclass Probability Estimates", Zadrozny and Elkan, 2002.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._extras import require
from caveat._numerics import interpolate, public_dtype
from caveat._table_text import in_a_line
from caveat.calibrate._checks import as_scores, require_classes, scored
from caveat.calibrate._stored import state_of, stored
from caveat.errors import InvalidArgumentError


@stored
@final
@dataclass(frozen=True, eq=False)
class Isotonic:
    """A rising step-wise linear map of each class's probability, then scaled to sum to one.

    A row whose classes all map to 0 gets equal probabilities.

    Fields:
        inputs: (C, K) knots, rising; float64, each class's last repeated to the common length.
        outputs: (C, K) what they map to.
    """

    inputs: Tensor
    outputs: Tensor

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (..., C) of logits (..., C), draws or no draws.

        Raises:
            InvalidArgumentError: another number of classes.
        """
        require_classes(logits, len(self.inputs), "logits")
        p = as_scores(logits).softmax(-1)
        knots = zip(self.inputs.to(p), self.outputs.to(p), p.unbind(-1), strict=True)
        mapped = torch.stack([interpolate(column, x, y) for x, y, column in knots], -1)
        return _normalized(mapped).to(public_dtype(logits.dtype))


@stored
@final
@dataclass(frozen=True, eq=False)
class Platt:
    """sigmoid(slope * log-odds + offset) of each class's probability, then scaled to sum to one.

    Log-odds beyond -745 and 745, where probabilities are 0 and 1 in float64, count as these.

    Fields:
        slope: (C,), float64.
        offset: (C,).
    """

    slope: Tensor
    offset: Tensor

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (..., C) of logits (..., C), draws or no draws.

        Raises:
            InvalidArgumentError: another number of classes.
        """
        require_classes(logits, len(self.slope), "logits")
        odds = _log_odds(as_scores(logits))
        mapped = (odds * self.slope.to(odds) + self.offset.to(odds)).sigmoid()
        return _normalized(mapped).to(public_dtype(logits.dtype))


@takes_arrays
def fit_isotonic(logits: Tensor, labels: Tensor) -> Isotonic:
    """Isotonic regression of each class's probability on whether it is the label; needs scikit-learn.

    Follows any rising curve, so it wants rows: about a thousand, or it fits their noise.

    Args:
        logits: (B..., C); of draws (S, B..., C) every draw of every row counts as a row. Of a pooled predictive pass
            the log of its probabilities.
        labels: (B...), integers, of rows that the network was not trained on.

    Returns:
        A callable: logits (..., C) to probabilities (..., C).

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, or no rows.
        NotFiniteError: NaN or +inf among the logits.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> p = torch.tensor([0.1, 0.1, 0.8, 0.8])
        >>> logits = torch.stack((1 - p, p), -1).log()
        >>> fit_isotonic(logits, torch.tensor([0, 0, 1, 0]))(logits)[2]
        tensor([0.5000, 0.5000])
    """
    p, hits = _rows_and_hits(*scored(logits, labels), log_odds=False)
    regression = require("sklearn.isotonic", extra="calibrate").IsotonicRegression
    knots: list[tuple[Any, Any]] = []
    for column, hit in zip(p.T, hits.T, strict=True):
        fitted = regression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(column, hit)
        knots.append((fitted.X_thresholds_, fitted.y_thresholds_))
    longest = max(len(x) for x, _ in knots)
    inputs, outputs = (
        np.stack([np.pad(pair[side], (0, longest - len(pair[side])), mode="edge") for pair in knots]) for side in (0, 1)
    )
    return Isotonic(torch.tensor(inputs, device=logits.device), torch.tensor(outputs, device=logits.device))


@takes_arrays
def fit_platt(logits: Tensor, labels: Tensor) -> Platt:
    """Platt scaling: a logistic regression of each class on its log-odds; needs scikit-learn.

    Targets are Platt's, (hits + 1) / (hits + 2) and 1 / (misses + 2), which keep a class that is told apart without
    error from certainty. Arguments, returns and errors are those of `fit_isotonic`; besides, each class must occur
    among the labels and not be all of them.

    See "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods", Platt,
    1999.

    Example:
        >>> p = torch.tensor([0.1, 0.2, 0.8, 0.9])
        >>> logits = torch.stack((1 - p, p), -1).log()
        >>> calibrated = fit_platt(logits, torch.tensor([0, 0, 1, 1]))
        >>> bool(calibrated(logits)[3, 1] > 0.5)
        True
    """
    odds, hits = _rows_and_hits(*scored(logits, labels), log_odds=True)
    regression = require("sklearn.linear_model", extra="calibrate").LogisticRegression
    found = [_fit_one(regression, column, hit) for column, hit in zip(odds.T, hits.T, strict=True)]
    slope, offset = torch.tensor(found, dtype=torch.float64, device=logits.device).unbind(-1)
    return Platt(slope, offset)


def _fit_one(regression: Any, odds: Any, hit: Any) -> tuple[float, float]:
    """Slope and offset of one class; soft targets are rows that count in part on either side."""
    positives = int(hit.sum())
    negatives = len(hit) - positives
    if not positives or not negatives:
        raise InvalidArgumentError(
            "Every class must occur among the labels, and not alone.",
            got=f"a class with {positives} of {len(hit)} labels",
            cause="a calibration split too small for rare classes",
            fix="more rows, or fit_temperature, which needs no class by itself",
        )
    target = np.where(hit > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    fitted = regression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.concatenate((odds, odds))[:, None],
        np.repeat((1, 0), len(odds)),
        sample_weight=np.concatenate((target, 1 - target)),
    )
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def _rows_and_hits(z: Tensor, labels: Tensor, *, log_odds: bool) -> tuple[Any, Any]:
    """Log-odds or probabilities (S N, C) and whether each class is the label, as numpy arrays for scikit-learn."""
    values = (_log_odds(z) if log_odds else z.softmax(-1)).reshape(-1, z.shape[-1])
    hits = torch.nn.functional.one_hot(labels, z.shape[-1]).repeat(z.shape[0], 1)
    return values.cpu().numpy(), hits.to(values.dtype).cpu().numpy()


def _log_odds(z: Tensor) -> Tensor:
    """log p / (1 - p) of each class, without rounding p to 1; in [-745, 745]."""
    top, first = z.max(-1, keepdim=True)
    parts = (z - top).exp()
    others = parts.sum(-1, keepdim=True) - parts  # at least 1 for all but the largest, which is summed without itself
    rest = parts.scatter(-1, first, 0.0).sum(-1, keepdim=True)
    others = others.scatter(-1, first, rest)
    return ((z - top) - others.log()).clamp(-745.0, 745.0)


def _normalized(mapped: Tensor) -> Tensor:
    total = mapped.sum(-1, keepdim=True)
    even = torch.full_like(mapped, 1 / mapped.shape[-1])
    return torch.where(total > 0, mapped / total.clamp(min=math.ulp(0.0)), even)
