"""What differs between estimators of tables, sentences and pictures.

A kind trains networks on its rows (``Training`` to ``Learned``), has a reader of new rows, and says of itself what a
folder and a card must hold. All else is in the base, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import numpy as np
from torch import Tensor, nn

from caveat._engine import Sampler
from caveat._estimators._targets import Target
from caveat._tables import Array
from caveat.predictive import Output
from caveat.samplers import mc_dropout

if TYPE_CHECKING:
    from caveat._estimators._model import Model
    from caveat._estimators._objectives import Training
    from caveat.train import Fit


class Reader(Protocol):
    """Turns what people give into what the networks get."""

    def read(self, given: Any) -> Tensor:
        """Returns inputs (B, ...) of the networks, on the CPU.

        Raises:
            InvalidArgumentError: Rows that do not fit, in the kind's own class; the message names the row.
        """
        ...


class Rows(Protocol):
    """Rows of training as a kind holds them."""

    def sort(self, answers: Array, weights: Array) -> tuple[Self, Array, Array | None]:
        """Returns the rows in an order of their own contents, so that the model depends on no other.

        With them which rows (B,) they were, and a group (B,) for each, from 0 in order, if some are to be held out
        together; or None.
        """
        ...


@dataclass(frozen=True, eq=False)
class KeyedRows:
    """Rows of training that are told apart by a key of each: a sentence itself, the digest of a picture. See ``Rows``.

    Fields:
        keys: Key (B,) of each row; those of equal rows are equal.
        inputs: What the networks get of them, (B, ...), where they are read before the networks are trained; or None.
        reader: What read them; or None.
    """

    keys: Sequence[Any]
    inputs: Tensor | None = None
    reader: Any = None

    def sort(self, answers: Array, weights: Array) -> tuple[KeyedRows, Array, Array]:
        """Returns the rows by key, answer and weight, and one group for all that are equal: see ``Rows``."""
        values, heavy = answers.tolist(), weights.tolist()
        order = np.array(sorted(range(len(self.keys)), key=lambda row: (self.keys[row], values[row], heavy[row])))
        rows = self.take(order)
        groups = np.cumsum([row > 0 and rows.keys[row] != rows.keys[row - 1] for row in range(len(rows.keys))])
        return rows, order, groups

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Array) -> KeyedRows:
        """Returns some of the rows."""
        inputs = None if self.inputs is None else self.inputs[rows]
        return replace(self, keys=[self.keys[row] for row in cast("list[int]", rows.tolist())], inputs=inputs)


@dataclass(frozen=True, eq=False)
class Learned:
    """What a kind gives back.

    Fields:
        reader: What reads new rows.
        inputs: What it makes of all rows of training, (B, ...).
        trained: The networks, each with a buffer ``temperature`` that logits are divided by, and how it was trained.
        noise: As in ``Calibration``.
        summary: Further plain data for the summary.
    """

    reader: Reader
    shape: Any
    inputs: Tensor
    trained: Sequence[Fit]
    noise: float | None = None
    summary: dict[str, Any] | None = None


def thin(network: nn.Module, output: Output) -> Sampler:
    """Returns the thinned networks of a network."""
    return mc_dropout(network, output=cast(Any, output))


@dataclass(frozen=True)
class Kind:
    """What differs between estimators of tables, of sentences and of pictures.

    Fields:
        package: Name of the public package below ``caveat``.
        format: Name and version of the folders.
        row: Noun for one row, such as "sentence".
        rows: Its plural.
        settings: Dataclass of the parameters.
        shape: Dataclass that a network is built from.
        check: Checks the parameters.
        networks: Returns how many networks parameters ask for.
        complete: Returns parameters with what was left open chosen by the number of rows and the target.
        learn: Trains networks: see ``Training`` and ``Learned``.
        stored: Dataclass of what the manifest says of the reader.
        state: Returns that of a model.
        restore: Returns the reader and the networks of a folder that is read: see ``Stored``.
        describe: Returns the kind's own lines of the model card.
        sampler: Returns a network as a source of functions.
        at_once: Number of rows that go through the networks together.
        parts: Returns what goes through them together where that is not ``at_once`` rows in their order: row numbers,
            and their inputs as the networks get them, such as without the padding that all of them have. Or None.
        tensors: Returns what the reader needs besides as tensors by name, which are stored beside the weights; or None.
        folders: Folders of further files within the model's.
        other_means: Returns other means (B, D) of a regression, standardized, from a network and its inputs; the
            networks' buffer ``share`` (D,) says how far theirs go to these. Or None.
        folds: Whether sets too small to hold rows out are calibrated by folds, each of which is a training.
    """

    package: str
    format: tuple[str, int]
    row: str
    rows: str
    settings: type[Any]
    shape: type[Any]
    check: Callable[[Any], Any]
    networks: Callable[[Any], int]
    complete: Callable[[Any, int, Target], Any]
    learn: Callable[[Training], Learned]
    stored: type[Any]
    state: Callable[[Model], Any]
    restore: Callable[[Stored], tuple[Reader, tuple[nn.Module, ...]]]
    describe: Callable[[Model], CardLines]
    sampler: Callable[[Any, Output], Sampler] = thin
    at_once: int = 2048
    parts: Callable[[Any, Tensor], Iterable[tuple[Tensor, Tensor]]] | None = None
    tensors: Callable[[Model], dict[str, Tensor]] | None = None
    other_means: Callable[[Any, Tensor], Tensor | None] | None = None
    folders: tuple[str, ...] = ()
    folds: bool = False


@dataclass(frozen=True)
class CardLines:
    """A kind's own part of a model card, in Markdown.

    Fields:
        method: How it predicts, a line for each fact, without the bullet.
        limits: Lines on what to expect of it.
        inputs: Lines on what it expects to be given; may be empty.
    """

    method: tuple[str, ...]
    limits: tuple[str, ...]
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Stored:
    """What a folder says of a model, checked as far as all kinds are alike.

    Fields:
        place: The folder.
        reader: What ``Kind.state`` gave.
        count: The number of networks.
        tensors: Tensors by name; those of network 0 begin with "0.", those of the reader with "reader.".
        given: Keyword arguments of ``load``.
    """

    place: Path
    reader: Any
    target: Target
    shape: Any
    settings: Any
    count: int
    tensors: Mapping[str, Tensor]
    given: Mapping[str, Any]
