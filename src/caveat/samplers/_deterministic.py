"""A network without any uncertainty about itself: the baseline that the other samplers are compared with."""

from __future__ import annotations

from typing import Any

from torch import nn

from caveat._engine import P
from caveat.predictive import Output
from caveat.samplers._ensemble import Ensemble, ensemble


def deterministic(
    model: nn.Module, *, output: Output[P] | dict[str, Output], in_dims: Any = None
) -> Ensemble[P]:
    """A sampler of one function: the network as it is in eval mode. Epistemic uncertainty is 0.

    Args:
        model: any network; one with dropout runs without.
        output: how to read what it returns, or a dict of outputs by name for several heads.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        A sampler of size 1.

    Raises:
        InvalidArgumentError: not a network.

    Example:
        >>> import caveat, torch
        >>> network = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> pred = caveat.predict(deterministic(network, output=caveat.Logits()), torch.zeros(2, 4))
        >>> int(pred.count), float(caveat.mutual_information(pred).max())
        (1, 0.0)
    """
    return ensemble([model], output=output, in_dims=in_dims)
