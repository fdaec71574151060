"""What differs between estimators of tables, sentences and pictures, and the model that one of them has fitted.

A kind trains networks on its rows (``Training`` to ``Learned``), has a reader of new rows, and says of itself what a
folder and a card must hold. All else is in the base, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import numpy as np
from torch import Tensor, nn

from caveat._engine import Sampler
from caveat._estimators._targets import Target
from caveat._tables import Array
from caveat.predictive import Logits, Mean, MeanAndLogVariance, Output
from caveat.samplers import mc_dropout, mixture

if TYPE_CHECKING:
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
class Training:
    """What a kind trains on.

    Fields:
        rows: All rows in their order, also those that are held out.
        kept: Numbers of the rows to train on.
        answers: Labels (N,) or standardized targets (N, D) float32 of these.
        weights: Weights (N,) float32 of these, of mean 1, or None.
        settings: Parameters, none of them left open.
        groups: Group (N,) of each of these, rows of one of which are held out together; or None.
        verbose: Whether to show a bar.
        checkpoint: Folder from which the same training goes on after it was killed, or None.
    """

    rows: Any
    kept: Array
    answers: Tensor
    weights: Tensor | None
    target: Target
    settings: Any
    groups: Array | None = None
    verbose: bool = False
    checkpoint: Path | None = None

    def place_of(self, part: str) -> Path | None:
        """Returns where the state of a part of the training is kept, if it is."""
        return None if self.checkpoint is None else self.checkpoint / part


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


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out rows showed; the temperature is in the networks.

    Fields:
        temperature: Divisor of the logits; 1 of a regression.
        factors: Factors (D,) of the variances; empty of a classifier.
        scores: (n, D) |y - mean| / sd of a regression; (n, 1) 1 - p(label) of a classifier; n = 0 if none are held out.
        noise: Noise variance in standardized units, of networks that do not return it; None of all others.
        uncertainty: (n,) of the same rows, by the name of the measure.
        freedom: Degrees of freedom of each target's Student's t, None for a normal; empty: normals.
    """

    temperature: float
    factors: Tensor
    scores: Tensor
    noise: float | None = None
    uncertainty: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    freedom: tuple[int | None, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows that were held out."""
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Model:
    """Networks, and all that is needed to predict with them.

    Fields:
        shape: Plain data that a network is built from.
        summary: Plain data on training, for people.
        policy: Plain data on the threshold and its measure, or None.
    """

    kind: Kind
    reader: Any
    target: Target
    shape: Any
    settings: Any
    networks: tuple[Any, ...]
    calibration: Calibration
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    policy: dict[str, Any] | None = None

    @property
    def output(self) -> Output:
        """How to read what the networks return."""
        if self.target.classifies:
            return Logits()
        noise = self.calibration.noise
        return MeanAndLogVariance() if noise is None else Mean(noise_variance=noise)

    @cached_property
    def sampler(self) -> Sampler:
        """Where its functions come from: thinned networks, of each network in turn."""
        samplers = [self.kind.sampler(network, self.output) for network in self.networks]
        return samplers[0] if len(samplers) == 1 else mixture(samplers)

    def describe_calibration(self) -> str:
        """Returns by which rows the model is calibrated, or why by none, in words."""
        count, rows = self.calibration.rows, self.kind.rows
        if not count:
            bare = (
                "every class is in a set"
                if self.target.classifies
                else "intervals are the networks' own, often too narrow"
            )
            reason = f"too few {rows} to spare any" if self.settings.calibration else "as asked"
            return f"none, {reason}: {bare}"
        if "folds" in self.summary:
            folds = self.summary["folds"]
            return f"{count:,} {rows}, each answered by networks that were trained without it ({folds} folds)"
        return f"{count:,} {rows} that were not trained on"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "sampler"}


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
