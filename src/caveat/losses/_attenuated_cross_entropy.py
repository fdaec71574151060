"""Cross-entropy with Gaussian noise on the logits, as large as the network says: doubtful labels count less.

See "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal, 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caveat._checks import describe, require_integer
from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.losses._gaussian_nll import bounded_exp
from caveat.losses._logit_noise import expected_log_likelihood
from caveat.losses._pair import split_pair
from caveat.losses._reduce import Reduction, check_reduction, check_target, reduce_loss, with_mask


def attenuated_cross_entropy(
    returned: Any,
    target: Tensor,
    *,
    samples: int = 32,
    generator: torch.Generator | None = None,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of the expected probabilities under logit noise: -log E[softmax(f + sigma e)_y], in nats.

    The expectation is over `samples` noises, drawn in pairs e and -e and reparameterized; it is biased up by about the
    relative variance of the likelihood over 2 * samples. Memory does not grow with `samples`: the gradient is summed up
    beside the value. First derivatives only.

    Args:
        returned: logits and log-variances of their noise: a pair (B, C, ...), or one (B, 2C, ...) with the logits
            first; the class axis is 1, as in torch. In a pair the log-variance may be (B, 1, ...): one for all classes.
        target: class numbers (B, ...), int64, as torch's ``cross_entropy`` takes them.
        samples: Number of noise samples T.
        generator: where the noise comes from; torch's default generator if not given, as in ``nn.Dropout``.
        ignore_index: the class number of a missing target.
        mask: True where the target was observed, (B, ...) or of leading axes such as (B,).
        weight: Weight of each row, (B,), or of each pixel; not negative.
        reduction: "mean" over the observed (weighted), "sum", or "none" (B, ...).

    Returns:
        The loss, one number, or (B, ...) for "none". Without anything observed it is 0, with no gradient.

    Raises:
        OutputMismatchError: `returned` is not logits of two classes or more and log-variances that fit.
        InvalidArgumentError: the target, mask or weight has another shape, a class number is too large, or samples < 1.

    See "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal, 2017,
    https://arxiv.org/abs/1703.04977, equation (12).

    Example:
        >>> logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
        >>> sure, noisy = torch.full((1, 2), -20.0), torch.full((1, 2), 2.0)
        >>> generator = torch.Generator().manual_seed(0)
        >>> attenuated_cross_entropy((logits, sure), target, generator=generator)      # plain cross-entropy: wrong
        tensor(2.1269)
        >>> attenuated_cross_entropy((logits, noisy), target, generator=generator) < 1.5       # wrong, and said so
        tensor(True)
    """
    check_reduction(reduction)
    require_integer(samples, "samples", 1)
    logits, log_variance = split_pair(returned, dim=1, names="logits and a log-variance")
    _check_logits(logits, log_variance)
    _check_classes(target)
    check_target(target, torch.Size((logits.shape[0], *logits.shape[2:])), "one class number per row or pixel")
    observed = with_mask(target != ignore_index, mask)
    classes = torch.where(observed, target, 0).unsqueeze(1)
    seen = observed.unsqueeze(1)
    logits, log_variance = torch.where(seen, logits, 0.0), torch.where(seen, log_variance, 0.0)
    deviation = bounded_exp(0.5 * log_variance)
    nll = -expected_log_likelihood(logits, deviation, classes, samples, generator)
    return reduce_loss(nll, observed, weight, reduction)


def _check_logits(logits: Tensor, log_variance: Tensor) -> None:
    one_for_all = torch.Size((*logits.shape[:1], 1, *logits.shape[2:]))
    if logits.ndim < 2 or logits.shape[1] < 2 or log_variance.shape not in (logits.shape, one_for_all):
        raise OutputMismatchError(
            "Logits are (B, C, ...) with at least two classes; their log-variance has that shape, or one class.",
            got=f"{describe(logits)} and {describe(log_variance)}",
            cause="classes on the last axis of a map or sequence, or one score for yes or no",
            fix="move the classes to axis 1: logits.movedim(-1, 1); of one score s return two, (0, s)",
        )


def _check_classes(target: Tensor) -> None:
    if target.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        raise InvalidArgumentError(
            "The target holds class numbers, as integers.",
            got=describe(target),
            cause="one-hot rows or probabilities, or numbers loaded as floats",
            fix="target.argmax(1) of one-hot rows, target.long() of whole numbers",
        )
