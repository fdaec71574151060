"""Measures of information, in nats: how much is uncertain, and how much of it is noise or not knowing."""

from __future__ import annotations

from torch import Tensor

from caveat._measure_kinds import classes_of, measure
from caveat._numerics import entropy
from caveat.predictive import Categorical, Predictive


@measure("classification", "nats")
def predictive_entropy(pred: Predictive) -> Tensor:
    """Entropy of the mean probabilities, H[E p], (B...) in nats, 0 to log C: the total uncertainty.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    Example:
        >>> import torch
        >>> from caveat.predictive import Logits
        >>> predictive_entropy(Logits().summarize(torch.tensor([[[40.0, 0.0]], [[0.0, 40.0]]])))
        tensor([0.6931])
    """
    classes = classes_of(pred, "predictive_entropy")
    return _total(classes).to(classes.dtype)


@measure("classification", "nats")
def expected_entropy(pred: Predictive) -> Tensor:
    """Mean over draws of each draw's entropy, E H[p], (B...) in nats: the aleatoric part.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    Example:
        >>> import torch
        >>> from caveat.predictive import Logits
        >>> expected_entropy(Logits().summarize(torch.tensor([[[40.0, 0.0]], [[0.0, 0.0]]])))
        tensor([0.3466])
    """
    classes = classes_of(pred, "expected_entropy")
    return classes.mean_entropy.to(classes.dtype)


@measure("classification", "nats")
def mutual_information(pred: Predictive) -> Tensor:
    """Mutual information of answer and draw, H[E p] - E H[p], (B...) in nats: the epistemic part, BALD.

    Not below 0, and 0 with one draw. From S draws it is biased down, by about (C - 1) / (2 S) at most.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    See "Bayesian Active Learning for Classification and Preference Learning", Houlsby et al., 2011,
    https://arxiv.org/abs/1112.5745.

    Example:
        >>> import torch
        >>> from caveat.predictive import Logits
        >>> mutual_information(Logits().summarize(torch.tensor([[[40.0, 0.0]], [[0.0, 40.0]]])))
        tensor([0.6931])
    """
    classes = classes_of(pred, "mutual_information")
    gain = (_total(classes) - classes.mean_entropy).clamp(min=0)
    return gain.masked_fill(classes.count < 2, 0).to(classes.dtype)


@measure("classification", "nats")
def pairwise_kl(pred: Predictive) -> Tensor:
    """Mean of KL(p_i || p_j) over ordered pairs of different draws, (B...) in nats; 0 with one draw.

    From the sums that are kept, not from the pairs: S / (S - 1) * (-sum_c E[p_c] E[log p_c] - E H[p]).
    A log-probability counts as at least -708, so that it is finite where a draw rules a class out.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    Example:
        >>> import torch
        >>> from caveat.predictive import Probabilities
        >>> pairwise_kl(Probabilities().summarize(torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]])))
        tensor([0.1373])
    """
    classes = classes_of(pred, "pairwise_kl")
    cross = 0.0 - (classes.moments.mean * classes.mean_log_probabilities).sum(-1)
    others = (classes.count - 1).clamp(min=1)
    divergence = (cross - classes.mean_entropy).clamp(min=0) * classes.count / others
    return divergence.masked_fill(classes.count < 2, 0).to(classes.dtype)


def _total(classes: Categorical) -> Tensor:
    return entropy(classes.moments.mean)
