"""What a calibration bin is of: the most probable class, the class that was predicted, or every class by itself.

A view turns checked probabilities (N, C) and labels (N,) into the groups that are binned apart, (M,) numbers; the
probability that was claimed, (M,); and whether it came true, (M,) bool. M is N, or N * C class by class.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

View = Literal["confidence", "top_label", "classwise"]


def confidence(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest probability, and whether its class is the label: one group of N.

    See "On Calibration of Modern Neural Networks", Guo et al., 2017.

    Example:
        >>> group, claimed, hit = confidence(torch.tensor([[0.75, 0.25]]), torch.tensor([1]))
        >>> claimed, hit
        (tensor([0.7500]), tensor([False]))
    """
    claimed, predicted = probabilities.max(-1)
    return torch.zeros_like(predicted), claimed, predicted == labels


def top_label(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, with rows grouped by the class that is predicted: C groups, N in all.

    See "Top-label Calibration and Multiclass-to-binary Reductions", Gupta and Ramdas, 2022.

    Example:
        >>> group, claimed, hit = top_label(torch.tensor([[0.25, 0.75]]), torch.tensor([1]))
        >>> group
        tensor([1])
    """
    claimed, predicted = probabilities.max(-1)
    return predicted, claimed, predicted == labels


def classwise(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every class's probability, and whether that class is the label: C groups of N.

    See "Beyond Temperature Scaling", Kull et al., 2019; "Measuring Calibration in Deep Learning", Nixon et al., 2019.

    Example:
        >>> group, claimed, hit = classwise(torch.tensor([[0.25, 0.75]]), torch.tensor([1]))
        >>> group, claimed, hit
        (tensor([0, 1]), tensor([0.2500, 0.7500]), tensor([False,  True]))
    """
    C = probabilities.shape[-1]
    classes = torch.arange(C, device=labels.device)
    hit = labels[:, None] == classes
    return classes.expand(hit.shape).reshape(-1), probabilities.reshape(-1), hit.reshape(-1)


VIEWS = {"confidence": confidence, "top_label": top_label, "classwise": classwise}
"""Every view by name."""
