"""Measures of the mean probabilities and of the votes alone: which class, and how far ahead of the others."""

from __future__ import annotations

from torch import Tensor

from caveat._measure_kinds import classes_of, measure
from caveat.predictive import Predictive


@measure("classification", "probability")
def variation_ratio(pred: Predictive) -> Tensor:
    """Fraction of draws that do not vote for the modal class, 1 - votes / S, (B...), 0 to (C - 1) / C.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    See "Elementary Applied Statistics", Freeman, 1965.

    Example:
        >>> import torch
        >>> from caveat.predictive import Logits
        >>> variation_ratio(Logits().summarize(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[2.0, 0.0]]])))
        tensor([0.3333])
    """
    classes = classes_of(pred, "variation_ratio")
    most = classes.votes.amax(-1).to(classes.moments.mean.dtype)
    return (1 - most / classes.count).to(classes.dtype)


@measure("classification", "probability")
def least_confidence(pred: Predictive) -> Tensor:
    """One minus the largest mean probability, (B...), 0 to (C - 1) / C.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    Example:
        >>> import torch
        >>> from caveat.predictive import Probabilities
        >>> least_confidence(Probabilities().summarize(torch.tensor([[[0.75, 0.25]]])))
        tensor([0.2500])
    """
    classes = classes_of(pred, "least_confidence")
    return (1 - classes.moments.mean.amax(-1)).clamp(min=0).to(classes.dtype)


@measure("classification", "probability", higher_is_less_sure=False)
def margin(pred: Predictive) -> Tensor:
    """Largest minus second largest mean probability, (B...), 0 to 1. **Low means unsure**, unlike all others.

    The field's own definition is kept; to rank by it use `MEASURES["margin"].uncertainty(pred)`, its negative.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    See "Active Hidden Markov Models for Information Extraction", Scheffer, Decomain and Wrobel, 2001.

    Example:
        >>> import torch
        >>> from caveat.predictive import Probabilities
        >>> margin(Probabilities().summarize(torch.tensor([[[0.75, 0.25]]])))
        tensor([0.5000])
    """
    classes = classes_of(pred, "margin")
    first, second = classes.moments.mean.topk(2, dim=-1).values.unbind(-1)
    return (first - second).to(classes.dtype)
