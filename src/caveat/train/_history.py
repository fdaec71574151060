"""What a training run gives back: the network, how its losses went, and which epoch its weights are from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from torch import nn


@dataclass(frozen=True)
class History:
    """Mean loss per row, epoch by epoch.

    Fields:
        training: while training: with dropout, before each step, with the penalty.
        validation: Losses of the held-out rows after each epoch, in eval mode; empty without a validation part.
    """

    training: tuple[float, ...]
    validation: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Fit:
    """A trained network and how it was trained.

    Fields:
        model: The network in eval mode, with the best weights (the last ones without a validation part).
        history: Losses of each epoch.
        best_epoch: Epoch whose weights the network has, counted from 1.
        epochs: Number of epochs that were run.
        stopped_early: Whether patience ended the run.
        seed: Random seed of the run.
    """

    model: nn.Module
    history: History
    best_epoch: int
    epochs: int
    stopped_early: bool
    seed: int

    @property
    def best_loss(self) -> float:
        """The loss at ``best_epoch``: of the validation part where there is one, else of training."""
        return (self.history.validation or self.history.training)[self.best_epoch - 1]

    def __repr__(self) -> str:
        how = "stopped early" if self.stopped_early else "all epochs"
        return (
            f"Fit({type(self.model).__name__}, loss {self.best_loss:.4g} at epoch {self.best_epoch}"
            f" of {self.epochs} ({how}), seed={self.seed})"
        )


@dataclass(frozen=True, eq=False)
class FittedEnsemble(Sequence[nn.Module]):
    """The trained members, a sequence of ordinary networks; ``fits`` says how each was trained.

    Fields:
        fits: a ``Fit`` for each member.
        backend: "vectorized" if they were trained as one stack, else "loop".
    """

    fits: tuple[Fit, ...]
    backend: Literal["vectorized", "loop"]

    def __len__(self) -> int:
        return len(self.fits)

    @overload
    def __getitem__(self, index: int) -> nn.Module: ...
    @overload
    def __getitem__(self, index: slice) -> list[nn.Module]: ...
    def __getitem__(self, index: int | slice) -> nn.Module | list[nn.Module]:
        """The network of a member, or of several."""
        if isinstance(index, slice):
            return [fit.model for fit in self.fits[index]]
        return self.fits[index].model

    def __iter__(self) -> Iterator[nn.Module]:
        return (fit.model for fit in self.fits)

    def __repr__(self) -> str:
        return f"FittedEnsemble({len(self)} members, backend={self.backend!r})"
