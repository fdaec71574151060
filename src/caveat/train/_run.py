"""One training run: a network to be, its data and its settings, all that its result is a function of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._checks import require_integer, require_number
from caveat._intercept import in_turn
from caveat._seeds import check_seed, fold_in
from caveat.errors import InvalidArgumentError, explain_no_network
from caveat.train._seeding import permutation, with_replacement

Loss = Callable[[Any, Any], Tensor]
Penalty = Callable[[Any], Tensor]
Build = Callable[..., nn.Module]
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""``optimizer(parameters)`` gives the optimizer of one network."""
Schedule = Callable[[float], float]
"""``schedule(t)`` gives the factor of the learning rate when a fraction t of all steps has been taken."""


@dataclass(frozen=True, eq=False)
class Run:
    """What one network is trained on, and how: an entry of ``fit_many``.

    Args:
        build: ``build()`` or ``build(seed)`` gives the untrained network; torch's seed is the run's while it runs.
        data: (inputs, targets), a Dataset or a DataLoader.
        seed: Random seed for the initialization, the validation split, the order of the rows and the dropout.
        validation: the fraction of rows that is held out, (inputs, targets) of its own, or None.
        epochs: Largest number of passes over the data.
        batch_size: Number of rows of a step.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW: each step takes learning_rate * weight_decay of each weight away.
        patience: Number of epochs without a lower validation loss after which training stops, with the best weights.
            None: all epochs, then the best weights where there is a validation part, else the last.
        bootstrap: Whether to draw the training rows with replacement.
        adversarial: None, or the step of the fast gradient sign as a fraction of each input feature's range.
        optimizer: None for AdamW, or a factory: ``optimizer(parameters)`` gives the network's optimizer.
        schedule: None, or ``schedule(t)``, the factor of the learning rate after a fraction t of all steps.

    Example:
        >>> import torch
        >>> run = Run(lambda: nn.Linear(2, 1), (torch.zeros(8, 2), torch.zeros(8, 1)), seed=3, epochs=2)
        >>> run.seed, run.batch_size
        (3, 64)
    """

    build: Build
    data: Any
    seed: int = 0
    validation: Any = 0.1
    epochs: int = 500
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    patience: int | None = 30
    bootstrap: bool = False
    adversarial: float | None = None
    optimizer: MakeOptimizer | None = None
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        require_integer(self.epochs, "epochs", 1)
        require_integer(self.batch_size, "batch_size", 1)
        require_integer(self.patience, "patience", 1, optional=True)
        require_number(self.learning_rate, "learning_rate", "(0, inf)")
        require_number(self.weight_decay, "weight_decay", "[0, inf)")
        require_number(self.adversarial, "adversarial", "(0, inf)", optional=True)
        if isinstance(self.validation, (int, float)):
            fix = "validation=0.1, (inputs, targets), or None to train on all rows without early stopping"
            require_number(self.validation, "validation", "(0, 1)", fix=fix)


def built(build: Build, seed: int) -> nn.Module:
    """The network that a factory makes under a seed; the caller puts the global random states back.

    Raises:
        InvalidArgumentError: the factory cannot be called so, or gives no ``nn.Module``.
    """
    with in_turn(seed):
        network = cast(Any, build(seed) if _takes_seed(build) else build())
    if isinstance(network, nn.Module) and not isinstance(build, nn.Module):
        return network
    raise _no_factory("returns a new network", f"{type(build).__name__}, which returned {type(network).__name__}")


def check_apart(networks: Sequence[nn.Module]) -> None:
    """Raise ``InvalidArgumentError`` if two networks are one, or train one and the same parameter."""
    owners: dict[int, int] = {}
    for number, network in enumerate(networks):
        for name, parameter in network.named_parameters():
            other = owners.setdefault(id(parameter), number)
            if other != number and parameter.requires_grad:
                one, both = networks[other] is network, f"members {other} and {number}"
                got = f"one network for {both}" if one else f"{both} share {name}"
                raise InvalidArgumentError(
                    "build must make a new network each time: members are trained separately.",
                    got=got,
                    cause="a network, or a part of one, that was made outside of build()",
                    fix="make it in build: lambda: copy.deepcopy(network); what is frozen may be shared",
                )


def _takes_seed(build: Build) -> bool:
    if isinstance(build, nn.Module):
        raise _no_factory("is not a network itself", f"an nn.Module ({type(build).__name__})")
    if not callable(cast(object, build)):
        raise InvalidArgumentError(explain_no_network(build, "build must be a factory that makes a new network."))
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.default is p.empty or p.name == "seed" for p in positional[:1])


def _no_factory(rule: str, got: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"build must be a factory, build() or build(seed), that {rule}.",
        got=got,
        cause="a network was passed in place of what makes it, so that all members would be the same one",
        fix="build=lambda: nn.Sequential(...), or a function that makes and returns the network",
    )


def training_rows(run: Run, rows: int) -> tuple[Tensor, Tensor]:
    """The numbers of the rows that are trained on and of those that are held out: two int64 tensors on the CPU."""
    held_out = round(run.validation * rows) if isinstance(run.validation, float) else 0
    if isinstance(run.validation, float) and not 0 < held_out < rows:
        raise InvalidArgumentError(
            "Both the training part and the validation part must have rows.",
            got=f"validation={run.validation} of {rows} rows, which is {round(run.validation * rows)}",
            cause="a data set of a few rows",
            fix="validation=None trains on all rows; validation=(x, y) takes rows of your own",
        )
    order = permutation(rows, fold_in(run.seed, "validation", 0))
    training, validation = order[held_out:], order[:held_out]
    if run.bootstrap:
        training = training[with_replacement(len(training), fold_in(run.seed, "bootstrap", 0))]
    return training, validation


def epoch_order(run: Run, training: Tensor, epoch: int) -> Tensor:
    """The training rows in the order of an epoch."""
    return training[permutation(len(training), fold_in(run.seed, "order", epoch))]


def batch_sizes(rows: int, batch_size: int) -> Sequence[int]:
    """The number of rows of each step of an epoch; a single last row joins the step before (batch norm needs two)."""
    sizes = [batch_size] * (rows // batch_size)
    if rows % batch_size == 1 and sizes and batch_size > 1:
        sizes[-1] += 1
    elif rows % batch_size:
        sizes.append(rows % batch_size)
    return sizes
