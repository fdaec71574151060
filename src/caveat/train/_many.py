"""``fit_many``: runs that differ in seed, data split, dropout rate or settings, trained at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from caveat.train._groups import Backend, trained
from caveat.train._history import Fit
from caveat.train._passes import Objective
from caveat.train._prepare import check_runs
from caveat.train._run import Loss, Penalty, Run


def fit_many(
    runs: Sequence[Run],
    loss: Loss,
    *,
    penalty: Penalty | None = None,
    validation_loss: Loss | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    device: torch.device | str | None = None,
    backend: Backend | None = None,
) -> tuple[Fit, ...]:
    """Trains many networks, those that are alike at once: 20 splits times a grid of rates in a few stacks.

    Runs are stacked whose networks differ in their weights and dropout rates only, and that have as many training and
    validation rows as each other and the same batch size; all else is each run's own. Each gives the network that
    ``fit`` gives for it alone, to rounding.

    Args:
        runs: Networks to train; see ``Run``. A member's dropout rates are those of what its ``build`` gives.
        loss: ``loss(returned, targets)`` gives one number, the mean over the batch.
        penalty: ``penalty(network)`` gives one number that is added to the loss of every step; what differs between
            runs in it belongs into a buffer of the network.
        validation_loss: see ``fit``.
        checkpoint: Folder that keeps the state of all runs.
        progress: Whether to show a bar, where the standard error is a terminal.
        device: Device to train on; that of the networks if not given.
        backend: "vectorized" trains in stacks, "loop" one after another; None chooses as ``fit_ensemble`` does.

    Returns:
        A ``Fit`` for each run, in their order.

    Raises:
        InvalidArgumentError: no runs, two that train one network, or what ``fit`` would say of one of them.
        NotFiniteError: NaN in the data or in the loss of a run.

    Example:
        >>> from torch import nn
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> runs = [Run(lambda: nn.Linear(1, 1), (x, 2 * x), seed=s, epochs=5, learning_rate=r)
        ...         for s in range(2) for r in (0.01, 0.1)]
        >>> [fit.epochs for fit in fit_many(runs, nn.MSELoss())]
        [5, 5, 5, 5]
    """
    fits, _ = trained(
        check_runs(runs),
        Objective(loss, penalty, validation_loss),
        device=device,
        progress=progress,
        checkpoint=checkpoint,
        backend=backend,
    )
    return fits
