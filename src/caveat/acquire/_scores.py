"""Scores: how much a row's label would be worth, (B,), higher is asked for first; and what scores of batches need.

Pure functions of a predictive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from caveat._checks import describe, require_class_probabilities, require_finite, require_rows
from caveat._numerics import accumulator
from caveat.errors import InvalidArgumentError
from caveat.measures import MEASURES
from caveat.predictive import Bernoulli, Categorical, Gaussian, Predictive

Score = Callable[[Predictive], Tensor]


def score_rows(pred: Predictive, score: str | Score = "bald") -> Tensor:
    """Returns how much the label of each row would be worth, (B,); higher is asked for first.

    ``select(score_rows(pred), 10)`` are the ten rows to ask for. The scores by name, after Gal, Islam and Ghahramani,
    "Deep Bayesian Active Learning with Image Data", 2017, https://arxiv.org/abs/1703.02910:

    * "bald": mutual information of the label and the network function, in nats: what a label would teach. Of classes
      exact for the draws. Of a Gaussian, for the normal of the same variance: the sum over targets of (log total
      variance - mean log noise variance) / 2; the mean of the logs is over the draws where they were kept, else the log
      of the mean noise. See Houlsby et al., 2011, https://arxiv.org/abs/1112.5745.
    * "entropy": predictive entropy, in nats; of a Gaussian that of the normal with its total variance, summed.
    * "variation_ratio": fraction of the draws that do not vote for the modal class.
    * "mean_std": mean over classes of the standard deviation over draws.
    * "margin": minus the margin of the two most probable classes.
    * "epistemic_variance": variance over draws of a regression's means, summed over targets.

    Args:
        pred: Predictive of the rows to choose from; of several predictions per row the mean is taken.
        score: One of these names, or a function of a predictive.

    Raises:
        InvalidArgumentError: an unknown name, a score of the other kind of network, or BALD of a regression without
            noise: ``Mean(noise_variance=...)``.
        NotFiniteError: NaN or infinity.

    Example:
        >>> from caveat.predictive import Mean, Probabilities
        >>> pred = Probabilities().summarize(torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]))
        >>> score_rows(pred, "bald"), score_rows(pred, "entropy")
        (tensor([0.6931, 0.0000], dtype=torch.float64), tensor([0.6931, 0.6931], dtype=torch.float64))
        >>> score_rows(Mean(noise_variance=2.0).summarize(torch.tensor([[[1.0]], [[3.0]]])))
        tensor([0.3466], dtype=torch.float64)
    """
    return checked_scores(as_score(score)(pred))


def _bald(pred: Predictive) -> Tensor:
    if not isinstance(pred, Gaussian):
        return _measure("mutual_information", pred)
    if not bool((pred.noise > 0).all()):
        raise InvalidArgumentError(
            "BALD of a regression weighs the spread of the draws against the noise, so there must be noise.",
            got="a noise variance of 0",
            cause="Mean() declares no observation noise",
            fix='Mean(noise_variance=...), MeanAndLogVariance(), or the score "epistemic_variance"',
        )
    kept = pred.kept_noise
    log_noise = pred.noise.log() if kept is None else kept.to(pred.noise.dtype).log().mean(0)
    gain = ((pred.noise + pred.moments.variance).log() - log_noise) / 2
    return _one_a_row(gain.clamp(min=0), total=True)


def _entropy(pred: Predictive) -> Tensor:
    if isinstance(pred, Gaussian):
        return _one_a_row((2 * torch.pi * torch.e * (pred.noise + pred.moments.variance)).log() / 2, total=True)
    return _measure("predictive_entropy", pred)


def _measure(name: str, pred: Predictive, *, total: bool = False) -> Tensor:
    return _one_a_row(MEASURES[name].uncertainty(pred), total=total)


SCORES: Mapping[str, Score] = {
    "bald": _bald,
    "entropy": _entropy,
    "epistemic_variance": partial(_measure, "epistemic_variance", total=True),
    "margin": partial(_measure, "margin"),
    "mean_std": partial(_measure, "mean_standard_deviation"),
    "variation_ratio": partial(_measure, "variation_ratio"),
}
"""Every score of a predictive by name."""


def as_score(score: str | Score) -> Score:
    """Returns a score by its name, or the function itself."""
    if callable(score):
        return score
    if score in SCORES:
        return SCORES[score]
    raise InvalidArgumentError(
        "A score has one of the names that score_rows takes, or is a function of a predictive.",
        got=f"{score!r}",
        cause="a typo; EPIG and BatchBALD need the draws: epig, batchbald and pick_by",
        fix=f"one of {', '.join(SCORES)}",
    )


def checked_scores(scores: Tensor) -> Tensor:
    """Returns scores (B,), at least one, finite, in the accumulator's dtype."""
    require_rows(scores, "scores")
    require_finite(scores, "scores")
    if scores.ndim == 1:
        return scores.to(accumulator(scores.device))
    raise InvalidArgumentError(
        "Scores are one number per row, (B,).",
        got=f"shape {tuple(scores.shape)}",
        cause="a variance (B, D) of several targets, or pixels",
        fix="scores.flatten(1).sum(-1)",
    )


def _one_a_row(values: Tensor, *, total: bool) -> Tensor:
    """Returns (B,): the sum over targets, or the mean over several predictions of a row."""
    values = values.to(accumulator(values.device))
    if values.ndim > 1:
        flat = values.flatten(1)
        values = flat.sum(-1) if total else flat.mean(-1)
    return checked_scores(values)


def joint_probabilities(draws: Predictive | Tensor, name: str = "draws") -> Tensor:
    """Probabilities (S, B, C) of coherent draws, float64.

    Args:
        draws: a predictive over classes that kept its draws (``caveat.predict(..., keep=True)``), or probabilities
            (S, B, C).
        name: Name of the argument, for errors.

    Raises:
        DrawsNotKeptError: the predictive did not keep them.
        InvalidArgumentError: not (S, B, C). NotProbabilitiesError: values that do not sum to one. NotFiniteError: NaN.
    """
    if isinstance(draws, Bernoulli):
        draws = draws.binary
    if isinstance(draws, Categorical):
        draws = draws.draws
    fits = isinstance(draws, Tensor) and draws.ndim == 3 and draws.shape[0] > 0 and draws.is_floating_point()
    if not isinstance(draws, Tensor) or not fits:
        raise InvalidArgumentError(
            f"{name} must be probabilities (S, B, C), or a predictive over classes that kept its draws.",
            got=describe(draws),
            cause="mean probabilities (B, C), a regression, or pixels",
            fix="caveat.predict(sampler, x, n=100, keep=True)",
        )
    draws = draws.detach()
    require_class_probabilities(draws, name)
    return draws.to(accumulator(draws.device))
