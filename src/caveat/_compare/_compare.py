"""Predict the same rows by several methods, and score each by all that is known of good uncertainty."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from caveat._arrays import as_tensor, truth_like
from caveat._checks import require_number
from caveat._compare._comparison import Comparison, Difference
from caveat._compare._scores import Score, scores_of
from caveat._engine import Sampler, predict
from caveat.errors import InvalidArgumentError
from caveat.metrics import bootstrap
from caveat.predictive import Bernoulli, Categorical, Gaussian, Heads, Predictive

_ONE_HEAD = 'one head at a time: {name: caveat.predict(sampler, x)["head"]}'


def compare(
    methods: Mapping[str, Sampler | Predictive],
    x: Any,
    y: Any,
    *,
    n: int | None = None,
    seed: int = 0,
    level: float = 0.9,
    resamples: int = 1000,
) -> Comparison:
    """Compares methods on the same labeled rows: scores of each, and intervals of the differences to the first.

    Classes: fraction of errors, negative log-likelihood (nats), expected calibration error, coverage and mean size of
    the smallest sets of classes whose probabilities sum to ``level``, area under the risk-coverage curve of errors
    ranked by predictive entropy. Numbers: RMSE, negative log-likelihood and miscalibration area of the normal with the
    predictive's mean and variance, coverage and mean width of its central intervals, area under the risk-coverage
    curve of absolute errors ranked by standard deviation. A predictive without any variance has no likelihood.

    An interval is of the percentile bootstrap over rows, and a resample holds the same rows for both methods. It tells
    what other rows would show, not what training again would.

    Args:
        methods: By name a sampler, which is drawn from, or a predictive of the rows; all of one kind.
        x: Batch of B rows for the samplers; None where all are predictives.
        y: Labels (B...), or targets (B..., D).
        n: Number of draws; of a sampler of fewer functions all. As for ``caveat.predict`` if not given.
        seed: Random seed for the draws and the resamples.
        level: Probability that sets and intervals claim to hold.
        resamples: Number of resamples of the rows.

    Returns:
        A table that prints itself, shows itself in a notebook, and gives a data frame by ``to_frame``.

    Raises:
        InvalidArgumentError: no methods, predictives of several kinds or of other rows, or a truth that does not fit.

    Example:
        >>> import caveat
        >>> from caveat.predictive import Mean
        >>> y = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> near, far = (Mean(noise_variance=1.0).summarize((y + off)[None]) for off in (0.5, 2.0))
        >>> found = caveat.compare({"far": far, "near": near}, None, y)
        >>> found
        Comparison(4 rows, 90% intervals)
                             far    near
                    RMSE       2     0.5
              NLL (nats)   2.919   1.044
          miscalibration  0.4566  0.2637
                coverage       0       1
                   width    3.29    3.29
                    AURC       2     0.5
        minus far, with 95 % intervals over rows; * where 0 is outside
                                           near
                    RMSE     -1.5 [-1.5, -1.5]*
              NLL (nats)     -1.9 [-1.9, -1.9]*
          miscalibration  -0.19 [-0.19, -0.19]*
                coverage             +1 [1, 1]*
                   width              +0 [0, 0]
                    AURC     -1.5 [-1.5, -1.5]*
        >>> found.differences["near"]["rmse"].clear
        True
    """
    require_number(level, "level", "(0, 1)")
    if not methods:
        raise InvalidArgumentError("compare needs at least one method: {name: sampler, ...}; got none.")
    answered = {name: _predict(method, x, n, seed) for name, method in methods.items()}
    truth = as_tensor(y, "y")
    preds = {name: _checked(name, pred, answered) for name, (pred, _) in answered.items()}
    scores = {name: scores_of(pred, truth_like(pred, truth), level) for name, pred in preds.items()}
    values: dict[str, dict[str, float]] = {}
    for name, (_, seconds) in answered.items():
        values[name] = {score: float(function()) for score, function in scores[name].items()}
        if seconds is not None:
            values[name]["seconds_per_row"] = seconds / preds[name].row_count
    first, *others = scores
    differences = {name: _differ(scores[name], scores[first], truth, resamples, seed) for name in others}
    return Comparison(len(truth), level, values, differences, preds)


def _predict(method: Any, x: Any, n: int | None, seed: int) -> tuple[Any, float | None]:
    """A method's predictive, and the seconds that it took, if it was drawn from here."""
    if not isinstance(method, Sampler):
        return method, None
    sampler = cast("Sampler[Predictive]", method)
    count = n if n is None or sampler.size is None else min(n, sampler.size)
    predict(sampler, x, 1, seed=seed)  # what a first call finds out about a network is not timed
    started = time.perf_counter()
    pred = predict(sampler, x, count, seed=seed)
    _ = pred.mean  # which is made when it is first asked for
    return pred, time.perf_counter() - started


def _checked(name: str, pred: Any, answered: Mapping[str, tuple[Any, Any]]) -> Categorical | Bernoulli | Gaussian:
    """The predictive, if it is of one head, and of the first one's kind and rows."""
    if not isinstance(pred, (Categorical, Bernoulli, Gaussian)):
        heads = isinstance(pred, Heads)
        rule = "A method is a sampler, or a predictive of the rows with one head."
        fix = _ONE_HEAD if heads else "{'dropout': caveat.mc_dropout(model, output=caveat.Logits())}"
        raise InvalidArgumentError(rule, got=f"{type(pred).__name__} for {name!r}", fix=fix)
    first_name, (first, _) = next(iter(answered.items()))
    if isinstance(pred, Gaussian) is not isinstance(first, Gaussian) or pred.row_count != first.row_count:
        raise InvalidArgumentError(
            "Methods must be of one kind, classes or numbers, and predict the same rows.",
            got=f"{name!r}: {type(pred).__name__} of {pred.row_count} rows; "
            f"{first_name!r}: {type(first).__name__} of {first.row_count} rows",
            fix="the same output= for every sampler, and predictives of x",
        )
    return pred


def _differ(
    scores: Mapping[str, Score], first: Mapping[str, Score], truth: Tensor, resamples: int, seed: int
) -> dict[str, Difference]:
    """The differences of two methods' scores, each with its interval over resamples of the same rows."""
    shared = [score for score in scores if score in first]

    def differences(y: Tensor, *, weights: Tensor | None = None) -> Tensor:
        found = [scores[name](weights=weights) - first[name](weights=weights) for name in shared]
        return torch.stack([one.cpu() for one in found], -1)

    ends = bootstrap(differences, truth, resamples=resamples, seed=seed)
    listed = zip(shared, *(cast("list[float]", end.tolist()) for end in ends), strict=True)
    # infinities differ by nothing that is a number
    return {name: Difference(*parts) for name, *parts in listed if not any(map(math.isnan, parts))}
