"""Where a run's randomness comes from: its seed, through named streams."""

from __future__ import annotations

import torch
from torch import Tensor

from caveat._seeds import check_seed, fold_in


def member_seed(seed: int, member: int) -> int:
    """The seed of one member of ``fit_ensemble(..., seed=seed)``.

    ``torch.manual_seed(member_seed(seed, m))``, then ``build()``, then ``fit(..., seed=member_seed(seed, m))`` gives
    member ``m`` again, to rounding.

    Args:
        seed: the seed of the ensemble.
        member: the member's number, from 0.

    Returns:
        A positive integer below 2^63.

    Raises:
        InvalidArgumentError: ``seed`` is not an integer.

    Example:
        >>> member_seed(0, 0) == member_seed(0, 1)
        False
    """
    return fold_in(check_seed(seed), "member", member)


def permutation(count: int, seed: int) -> Tensor:
    """The numbers below ``count`` in a random order: (count,) int64 on the CPU."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def with_replacement(count: int, seed: int) -> Tensor:
    """``count`` numbers below ``count``, each drawn on its own: a bootstrap sample, (count,) int64 on the CPU."""
    return torch.randint(count, (count,), generator=torch.Generator().manual_seed(seed))
