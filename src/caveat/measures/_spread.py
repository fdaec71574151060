"""Measures of spread: of probabilities over draws, and of a regression's targets.

Variances over draws are unbiased (S - 1) and 0 with one draw.
"""

from __future__ import annotations

from torch import Tensor

from caveat._measure_kinds import classes_of, gaussian_of, measure
from caveat.predictive import Predictive


@measure("classification", "probability^2")
def max_class_variance(pred: Predictive) -> Tensor:
    """Largest variance over draws of any class's probability, (B...).

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    Example:
        >>> import torch
        >>> from caveat.predictive import Probabilities
        >>> max_class_variance(Probabilities().summarize(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])))
        tensor([0.5000])
    """
    classes = classes_of(pred, "max_class_variance")
    return classes.moments.variance.amax(-1).to(classes.dtype)


@measure("classification", "probability")
def mean_standard_deviation(pred: Predictive) -> Tensor:
    """Mean over classes of the standard deviation over draws of their probability, "mean STD", (B...).

    From the unbiased variance, where the papers divide by S.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    See "Semantic Segmentation of Small Objects and Modeling of Uncertainty in Urban Remote Sensing Images
    Using Deep Convolutional Neural Networks", Kampffmeyer, Salberg and Jenssen, 2016; "Deep Bayesian Active
    Learning with Image Data", Gal, Islam and Ghahramani, 2017, https://arxiv.org/abs/1703.02910.

    Example:
        >>> import torch
        >>> from caveat.predictive import Probabilities
        >>> mean_standard_deviation(Probabilities().summarize(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])))
        tensor([0.7071])
    """
    classes = classes_of(pred, "mean_standard_deviation")
    return classes.moments.variance.sqrt().mean(-1).to(classes.dtype)


@measure("regression", "target^2")
def total_variance(pred: Predictive) -> Tensor:
    """Predictive variance, (B..., D), aleatoric + epistemic: the law of total variance over draws.

    Raises:
        InvalidArgumentError: the predictive is not of regression.

    Example:
        >>> import torch
        >>> from caveat.predictive import Mean
        >>> total_variance(Mean(noise_variance=0.5).summarize(torch.tensor([[[1.0]], [[3.0]]])))
        tensor([[2.5000]])
    """
    return gaussian_of(pred, "total_variance").variance


@measure("regression", "target^2")
def epistemic_variance(pred: Predictive) -> Tensor:
    """Unbiased variance over draws of the means, (B..., D); 0 with one draw.

    Raises:
        InvalidArgumentError: the predictive is not of regression.

    Example:
        >>> import torch
        >>> from caveat.predictive import Mean
        >>> epistemic_variance(Mean(noise_variance=0.5).summarize(torch.tensor([[[1.0]], [[3.0]]])))
        tensor([[2.]])
    """
    return gaussian_of(pred, "epistemic_variance").epistemic_variance


@measure("regression", "target^2")
def aleatoric_variance(pred: Predictive) -> Tensor:
    """Mean over draws of the noise variance, (B..., D).

    Raises:
        InvalidArgumentError: the predictive is not of regression.

    Example:
        >>> import torch
        >>> from caveat.predictive import Mean
        >>> aleatoric_variance(Mean(noise_variance=0.5).summarize(torch.tensor([[[1.0]], [[3.0]]])))
        tensor([[0.5000]])
    """
    return gaussian_of(pred, "aleatoric_variance").aleatoric_variance


@measure("regression", "target")
def interval_width(pred: Predictive, level: float = 0.9, *, mixture: bool = False) -> Tensor:
    """Width of the central interval that holds the target with probability `level`, (B..., D), target units.

    Of the normal with the predictive's mean and total variance, or of the mixture of all draws' normals.

    Raises:
        InvalidArgumentError: the predictive is not of regression, or level is not between 0 and 1.
        DrawsNotKeptError: `mixture=True` and the draws were not kept.

    Example:
        >>> import torch
        >>> from caveat.predictive import Mean
        >>> interval_width(Mean(noise_variance=1.0).summarize(torch.zeros(5, 1, 1)), level=0.95)
        tensor([[3.9199]])
    """
    low, high = gaussian_of(pred, "interval_width").interval(level, mixture=mixture)
    return high - low
