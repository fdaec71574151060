"""Scores: how much a row's label would be worth, (B,), higher is asked for first. Pure functions of a predictive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from caveat._checks import require_finite, require_rows
from caveat._numerics import accumulator
from caveat.errors import InvalidArgumentError, explain
from caveat.measures import MEASURES
from caveat.predictive import Gaussian, Predictive

Score = Callable[[Predictive], Tensor]


def bald(pred: Predictive) -> Tensor:
    """Mutual information of the label and the network function, (B,) nats: what a label would teach.

    Of classes exact for the draws. Of a Gaussian, for the normal of the same variance: the sum over targets of
    (log total variance - mean log noise variance) / 2; the mean of the logs is over the draws where they were kept,
    else the log of the mean noise.

    Raises:
        InvalidArgumentError: a predictive with several predictions a row or without noise: `Mean(noise_variance=...)`.

    See "Bayesian Active Learning for Classification and Preference Learning", Houlsby et al., 2011,
    https://arxiv.org/abs/1112.5745.

    Example:
        >>> from caveat.predictive import Mean, Probabilities
        >>> bald(Probabilities().summarize(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])))
        tensor([0.6931], dtype=torch.float64)
        >>> bald(Mean(noise_variance=2.0).summarize(torch.tensor([[[1.0]], [[3.0]]])))
        tensor([0.3466], dtype=torch.float64)
    """
    if not isinstance(pred, Gaussian):
        return _measure(pred, "mutual_information")
    if not bool((pred.noise > 0).all()):
        raise InvalidArgumentError(
            explain(
                "BALD of a regression weighs the spread of the draws against the noise, so there must be noise.",
                got="a noise variance of 0",
                cause="Mean() declares no observation noise",
                fix='Mean(noise_variance=...), MeanAndLogVariance(), or the score "epistemic_variance"',
            )
        )
    kept = pred.kept_noise
    log_noise = pred.noise.log() if kept is None else kept.to(pred.noise.dtype).log().mean(0)
    gain = ((pred.noise + pred.moments.variance).log() - log_noise) / 2
    return _one_a_row(gain.clamp(min=0), total=True)


def entropy(pred: Predictive) -> Tensor:
    """Predictive entropy, (B,) nats; of a Gaussian that of the normal with its total variance, summed over targets.

    Example:
        >>> from caveat.predictive import Probabilities
        >>> entropy(Probabilities().summarize(torch.tensor([[[0.5, 0.5]]])))
        tensor([0.6931], dtype=torch.float64)
    """
    if isinstance(pred, Gaussian):
        return _one_a_row((2 * torch.pi * torch.e * (pred.noise + pred.moments.variance)).log() / 2, total=True)
    return _measure(pred, "predictive_entropy")


def variation_ratio(pred: Predictive) -> Tensor:
    """Share of draws that do not vote for the modal class, (B,).

    Example:
        >>> from caveat.predictive import Probabilities
        >>> variation_ratio(Probabilities().summarize(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])))
        tensor([0.5000], dtype=torch.float64)
    """
    return _measure(pred, "variation_ratio")


def mean_std(pred: Predictive) -> Tensor:
    """Mean over classes of the standard deviation over draws, (B,).

    Example:
        >>> from caveat.predictive import Probabilities
        >>> mean_std(Probabilities().summarize(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])))
        tensor([0.7071], dtype=torch.float64)
    """
    return _measure(pred, "mean_standard_deviation")


def margin(pred: Predictive) -> Tensor:
    """**Minus** the margin of the two most probable classes, (B,): higher is asked for first, as for every score.

    Example:
        >>> from caveat.predictive import Probabilities
        >>> margin(Probabilities().summarize(torch.tensor([[[0.75, 0.25]]])))
        tensor([-0.5000], dtype=torch.float64)
    """
    return _measure(pred, "margin")


def epistemic_variance(pred: Predictive) -> Tensor:
    """Variance over draws of a regression's means, summed over targets, (B,).

    Example:
        >>> from caveat.predictive import Mean
        >>> epistemic_variance(Mean().summarize(torch.tensor([[[1.0]], [[3.0]]])))
        tensor([2.], dtype=torch.float64)
    """
    return _measure(pred, "epistemic_variance", total=True)


SCORES: Mapping[str, Score] = {
    "bald": bald,
    "entropy": entropy,
    "epistemic_variance": epistemic_variance,
    "margin": margin,
    "mean_std": mean_std,
    "variation_ratio": variation_ratio,
}
"""Every score of a predictive by name."""


def as_score(score: str | Score) -> Score:
    """A score by its name, or the function itself."""
    if callable(score):
        return score
    if score in SCORES:
        return SCORES[score]
    raise InvalidArgumentError(
        explain(
            "A score is one of SCORES, or a function of a predictive.",
            got=f"{score!r}",
            cause="a typing error; EPIG and BatchBALD need the draws and have functions of their own",
            fix=f"one of {', '.join(SCORES)}",
        )
    )


def checked_scores(scores: Tensor) -> Tensor:
    """Scores (B,), at least one, finite, in the accumulator's dtype."""
    require_rows(scores, "scores")
    require_finite(scores, "scores")
    if scores.ndim == 1:
        return scores.to(accumulator(scores.device))
    raise InvalidArgumentError(
        explain(
            "Scores are one number a row, (B,).",
            got=f"shape {tuple(scores.shape)}",
            cause="a variance (B, D) of several targets, or pixels",
            fix="scores.flatten(1).sum(-1)",
        )
    )


def _measure(pred: Predictive, name: str, *, total: bool = False) -> Tensor:
    return _one_a_row(MEASURES[name].uncertainty(pred), total=total)


def _one_a_row(values: Tensor, *, total: bool) -> Tensor:
    """(B,): the sum over targets, or the mean over several predictions of a row."""
    values = values.to(accumulator(values.device))
    if values.ndim > 1:
        flat = values.flatten(1)
        values = flat.sum(-1) if total else flat.mean(-1)
    return checked_scores(values)
