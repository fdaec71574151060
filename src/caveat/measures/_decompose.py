"""Total uncertainty in two parts: aleatoric, which no data lessen, and epistemic, which more data would."""

from __future__ import annotations

from typing import Any, overload

from torch import Tensor

from caveat._measure_kinds import gaussian_of, kind_of
from caveat.measures._information import expected_entropy, mutual_information, predictive_entropy
from caveat.predictive import Bernoulli, Categorical, Gaussian, Heads, Predictive


@overload
def decompose(pred: Categorical | Bernoulli | Gaussian) -> dict[str, Tensor]: ...
@overload
def decompose(pred: Heads) -> dict[str, dict[str, Any]]: ...
@overload
def decompose(pred: Predictive) -> dict[str, Any]: ...
def decompose(pred: Predictive) -> dict[str, Any]:
    """Total, aleatoric, epistemic uncertainty: entropies (B...), nats, or variances (B..., D) of regression.

    Classification: predictive entropy = expected entropy + mutual information.
    Regression: total variance = mean noise variance + variance over draws.
    Several heads: a dict of these by name.

    Raises:
        InvalidArgumentError: not a predictive.

    Example:
        >>> import torch
        >>> from caveat.predictive import Mean
        >>> decompose(Mean(noise_variance=0.5).summarize(torch.tensor([[[1.0]], [[3.0]]])))
        {'total': tensor([[2.5000]]), 'aleatoric': tensor([[0.5000]]), 'epistemic': tensor([[2.]])}
    """
    if isinstance(pred, Heads):
        return {name: decompose(head) for name, head in pred.items()}
    if kind_of(pred) == "classification":
        return {
            "total": predictive_entropy(pred),
            "aleatoric": expected_entropy(pred),
            "epistemic": mutual_information(pred),
        }
    gaussian = gaussian_of(pred, "decompose")
    return {
        "total": gaussian.variance,
        "aleatoric": gaussian.aleatoric_variance,
        "epistemic": gaussian.epistemic_variance,
    }
