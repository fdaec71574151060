"""``fit``: one network, one plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from caveat._intercept import interruptible
from caveat.errors import InvalidArgumentError, explain_no_network
from caveat.train._groups import trained
from caveat.train._history import Fit
from caveat.train._passes import Objective
from caveat.train._run import Loss, MakeOptimizer, Penalty, Run, Schedule


@interruptible
def fit(
    model: nn.Module,
    loss: Loss,
    data: Any,
    *,
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
) -> Fit:
    """Trains a network in place: AdamW or any optimizer, early stopping on held-out rows, the best weights at the end.

    Rows are held in memory, and the order of rows and the dropout follow from ``seed`` alone; the global random states
    are put back. If you have a loop of your own, or use Lightning, skorch or Accelerate, keep it: caveat takes any
    network.

    Args:
        model: Any network; afterwards it is in eval mode, on ``device`` if one is given.
        loss: ``loss(returned, targets)`` gives one number, the mean over the batch.
        data: (inputs, targets) of tensors or arrays, or a Dataset or DataLoader of such pairs, which is read once, so
            that random augmentation in it is not repeated. Inputs of several tensors are a tuple or a dict, for
            ``network(*inputs)`` or ``network(**inputs)``. Floating-point numbers are taken to the network's dtype.
        validation: Fraction of rows to hold out, (inputs, targets) of its own, or None: no early stopping.
        epochs: Largest number of passes over the data.
        batch_size: Number of rows of a step.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW: each step takes learning_rate * weight_decay of each weight away.
        patience: Number of epochs without a lower validation loss after which training stops; None: never.
        seed: Random seed for the validation split, the order of the rows and the dropout.
        penalty: ``penalty(network)`` gives one number that is added to the loss of every step.
        validation_loss: Loss of the held-out rows, which stops training, if not ``loss``: ``gaussian_nll``
            stops by likelihood what is trained on ``beta_nll``.
        bootstrap: Whether to draw the training rows with replacement.
        adversarial: Train on adversarial examples too, whose inputs are moved by this fraction of each feature's range
            in the direction in which the loss grows (0.01 in "Simple and Scalable Predictive Uncertainty Estimation
            using Deep Ensembles", Lakshminarayanan, Pritzel, Blundell, 2017).
        optimizer: Factory of an optimizer in place of AdamW, ``lambda parameters: torch.optim.SGD(parameters, 0.1)``;
            ``learning_rate`` and ``weight_decay`` are then without effect.
        schedule: Factor of the learning rate, ``schedule(t)``, when a fraction t of all steps has been taken, such as
            ``lambda t: 0.5 * (1 + math.cos(math.pi * t))``.
        checkpoint: File that keeps the state; the same call goes on from it, with the result of an unbroken run.
        progress: Whether to show a bar, where the standard error is a terminal.
        device: Device to train on; the network's if not given.

    Returns:
        A ``Fit``: the network, the losses of each epoch, and which epoch its weights are from.

    Raises:
        InvalidArgumentError: a setting out of range, targets that do not fit what the network returns, a validation
            part without rows, a loss that gives more than one number, or a checkpoint of another training.
        NotFiniteError: NaN in the data (the row is named) or in the loss (epoch and step are named).

    See "Decoupled Weight Decay Regularization", Loshchilov and Hutter, 2019.

    Example:
        >>> x = torch.linspace(-1, 1, 80)[:, None]
        >>> network = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
        >>> fitted = fit(network, nn.MSELoss(), (x, x**2), epochs=20, seed=0)
        >>> fitted.epochs, len(fitted.history.validation)
        (20, 20)
    """
    if not isinstance(cast(Any, model), nn.Module):
        made = "fit(build(), ...) for one model; fit_ensemble(build, ..., members=5) for several"
        raise InvalidArgumentError(explain_no_network(model) + (f"; {made}" if callable(model) else ""))
    run = Run(
        type(model), data, seed, validation, epochs, batch_size, learning_rate, weight_decay, patience, bootstrap,
        adversarial, optimizer, schedule,
    )  # fmt: skip
    objective = Objective(loss, penalty, validation_loss)
    fits, _ = trained([run], objective, device=device, progress=progress, checkpoint=checkpoint, network=model)
    return fits[0]
