"""Uncertainty class by class: each class's term of the entropy, and means over what is predicted as a class.

For segmentation: a pixel's terms say which classes it hesitates between, a region's mean how well a class is found.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caveat._checks import require_alike
from caveat._measure_kinds import classes_of
from caveat.errors import InvalidArgumentError
from caveat.measures._information import predictive_entropy
from caveat.predictive import Predictive


def entropy_by_class(pred: Predictive) -> Tensor:
    """Each class's term of the predictive entropy, -p log p of the mean probability, (B..., C) in nats, 0 to 1 / e.

    Of a segmentation, one map per class. The terms sum over classes to `predictive_entropy`. A term is small where the
    class is ruled out and where it is certain.

    Raises:
        InvalidArgumentError: the predictive is not of classification.

    Example:
        >>> import torch
        >>> from caveat.predictive import Probabilities
        >>> entropy_by_class(Probabilities().summarize(torch.tensor([[[0.5, 0.5, 0.0]]])))
        tensor([[0.3466, 0.3466, 0.0000]])
    """
    classes = classes_of(pred, "entropy_by_class")
    p = classes.moments.mean
    return (0.0 - torch.xlogy(p, p)).to(classes.dtype)


def mean_by_predicted_class(pred: Predictive, values: Tensor | None = None) -> Tensor:
    """Means of a measure over an image's pixels that are predicted as each class, (B, C), NaN for a class of no pixel.

    One number an image and class, which falls with how well the class is found there: the structure-wise
    uncertainty of Roy et al. The mean over all images at once is that of pixels joined to one image.

    Args:
        pred: Predictive of classification with pixels: (B, ...), as of `Logits(class_dim=1)`.
        values: A measure of each pixel, (B, ...), such as `mutual_information(pred)`; predictive entropy if not given.

    Raises:
        InvalidArgumentError: the predictive is not of classification, it has no pixels, or values have another shape.

    See "Inherent Brain Segmentation Quality Control from Fully ConvNet Monte Carlo Sampling", Roy et al., 2018,
    https://arxiv.org/abs/1804.07046.

    Example:
        >>> import torch
        >>> from caveat.predictive import Probabilities
        >>> image = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])  # three pixels
        >>> mean_by_predicted_class(Probabilities().summarize(image[None]))
        tensor([[0.3466, 0.0000,    nan]])
    """
    classes = classes_of(pred, "mean_by_predicted_class")
    predicted = classes.predicted
    if predicted.ndim < 2:
        raise InvalidArgumentError(
            "A mean over pixels needs a predictive of images: batch axis first, pixels after it.",
            got=f"a batch of shape {tuple(predicted.shape)}",
            cause="one label an image, or a segmentation read without class_dim=1",
            fix="Logits(class_dim=1) reads scores (B, C, H, W)",
        )
    values = predictive_entropy(pred) if values is None else values
    require_alike("values", values, "pred.predicted", predicted)
    wide = classes.moments.mean.dtype
    sums = torch.zeros(len(predicted), classes.votes.shape[-1], dtype=wide, device=predicted.device)
    counts = torch.zeros_like(sums)
    labels, flat = predicted.flatten(1), values.to(wide).flatten(1)
    sums.scatter_add_(1, labels, flat)
    counts.scatter_add_(1, labels, torch.ones_like(flat))
    return (sums / counts).to(classes.dtype)
