"""``fit_ensemble``: M networks from one factory, each with its own start, order of rows and dropout, at once.

See "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", Lakshminarayanan, Pritzel, Blundell,
2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caveat._checks import require_integer
from caveat._intercept import interruptible, random_states_kept
from caveat.train._groups import Backend, trained
from caveat.train._history import Fit, FittedEnsemble
from caveat.train._passes import Objective
from caveat.train._run import Build, Loss, MakeOptimizer, Penalty, Run, Schedule, built, check_apart
from caveat.train._seeding import member_seed
from caveat.train._stack import tensors_of
from caveat.train._table import as_table

Map = Callable[..., Iterable[Any]]


@interruptible
def fit_ensemble(
    build: Build,
    loss: Loss,
    data: Any,
    *,
    members: int,
    validation: Any = 0.1,
    epochs: int = 500,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    patience: int | None = 30,
    seed: int = 0,
    penalty: Penalty | None = None,
    validation_loss: Loss | None = None,
    bootstrap: bool = False,
    adversarial: float | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    device: torch.device | str | None = None,
    backend: Backend | None = None,
    map: Map | None = None,
) -> FittedEnsemble:
    """Trains M networks at once, as stacked tensors; they go straight into ``caveat.ensemble``.

    Member m has a seed of its own, made from ``seed`` and m (``fits[m].seed``), for its initialization, validation
    split, order of rows and dropout, and stops on its own. It is the network that ``fit`` gives
    under that seed, to rounding, however it is trained.

    Args:
        build: ``build()`` or ``build(seed)`` gives an untrained network; torch's seed is the member's while it runs.
        loss: ``loss(returned, targets)`` gives one number, the mean over the batch.
        data: (inputs, targets), a Dataset or a DataLoader; see ``fit``.
        members: Number of networks M.
        validation: see ``fit``; each member holds out a part of its own.
        epochs: Largest number of passes over the data.
        batch_size: Number of rows of a step.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        patience: Number of epochs without a lower validation loss after which a member stops.
        seed: Random seed for the ensemble.
        penalty: ``penalty(network)`` gives one number that is added to the loss of every step.
        validation_loss: see ``fit``; each member is stopped by it on its own held-out rows.
        bootstrap: Whether each member draws its training rows with replacement.
        adversarial: see ``fit``.
        optimizer: see ``fit``; members are then trained one after another.
        schedule: see ``fit``.
        checkpoint: Folder that keeps the state of all members.
        progress: Whether to show a bar, where the standard error is a terminal.
        device: Device to train on.
        backend: "vectorized" trains all as one stack, "loop" one after another; None chooses by the sizes of the
            network and of a batch, and stacks only where a trial shows the same gradients.
        map: trains members with this map instead: ``executor.map`` of ``concurrent.futures``, or any ``map(function,
            tasks)``. For processes, ``build``, ``loss`` and the like must be picklable (functions of a module).

    Returns:
        A sequence of M networks, whose ``fits`` say how each was trained.

    Raises:
        InvalidArgumentError: ``members`` below 1, a factory that gives what it gave before, or what ``fit`` would say.
        NotFiniteError: NaN in the data or in the loss.

    Example:
        >>> from torch import nn
        >>> x = torch.linspace(-1, 1, 40)[:, None]
        >>> def build():
        ...     return nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> networks = fit_ensemble(build, nn.MSELoss(), (x, x**2), members=3, epochs=5)
        >>> len(networks), networks[0](x).shape
        (3, torch.Size([40, 1]))
    """
    require_integer(members, "members", 1, fix="members=5; five networks give most of what an ensemble can")
    run = Run(
        build, data, seed, validation, epochs, batch_size, learning_rate, weight_decay, patience, bootstrap,
        adversarial, optimizer, schedule,
    )  # fmt: skip
    runs = [replace(run, seed=member_seed(seed, member)) for member in range(members)]
    objective = Objective(loss, penalty, validation_loss)
    if map is not None:
        return _mapped(map, runs, objective, device, checkpoint)
    fits, stacked = trained(runs, objective, device=device, progress=progress, checkpoint=checkpoint, backend=backend)
    return FittedEnsemble(fits, "vectorized" if stacked and members > 1 else "loop")


def _mapped(
    map: Map, runs: list[Run], objective: Objective, device: torch.device | str | None, checkpoint: str | Path | None
) -> FittedEnsemble:
    """Each member a task of its own; what comes back is numbers, which are put into networks made here."""
    tables = {name: _plain(getattr(runs[0], name), name) for name in ("data", "validation")}
    tasks = [replace(run, **tables) for run in runs]
    folder = None if checkpoint is None else Path(checkpoint)
    work = partial(_train_one, objective=objective, device=device, folder=folder)
    with random_states_kept():
        networks = [built(run.build, run.seed) for run in tasks]
    check_apart(networks)
    fits: list[Fit] = []
    for network, (found, arrays) in zip(networks, map(work, list(enumerate(tasks))), strict=True):
        network.to(device) if device is not None else None
        with torch.no_grad():
            for tensor, array in zip(tensors_of(network)[0], arrays, strict=True):
                copied = torch.tensor(array)  # a map may give arrays that cannot be written on
                tensor.copy_(copied.view(tensor.dtype).view(tensor.shape))
        fits.append(replace(found, model=network.eval()))
    return FittedEnsemble(tuple(fits), "loop")


def _train_one(
    task: tuple[int, Run], *, objective: Objective, device: torch.device | str | None, folder: Path | None
) -> tuple[Fit, list[np.ndarray[Any, Any]]]:
    """Train one member, in whatever process this runs."""
    number, run = task
    with random_states_kept():
        network = built(run.build, run.seed)
    path = None if folder is None else folder / f"run-{number}.safetensors"
    fits, _ = trained([run], objective, device=device, progress=False, checkpoint=path, network=network)
    tensors = [tensor.detach().cpu().contiguous() for tensor in tensors_of(network)[0]]
    arrays = [tensor.reshape(-1).view(torch.uint8).numpy().copy() for tensor in tensors]
    return replace(fits[0], model=torch.nn.Identity()), arrays


def _plain(data: Any, name: str) -> Any:
    """Data that any process can take: tensors, read once."""
    if data is None or isinstance(data, (float, int)):
        return data
    table = as_table(data, name)
    args, kwargs = table.inputs
    return (kwargs or args), table.targets
