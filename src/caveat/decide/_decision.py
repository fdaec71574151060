"""A decision: for each row what is done with it, the answer if there is one, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor

from caveat._checks import describe
from caveat._numerics import accumulator
from caveat.decide._uncertainty import has_numbers
from caveat.errors import InvalidArgumentError
from caveat.predictive import Bernoulli, Categorical, Gaussian, Predictive

_SHOWN = 5


@final
@dataclass(frozen=True, eq=False, repr=False)
class Decision:
    """What is done with each of B rows.

    Fields:
        actions: the names of what can be done, such as ("answer", "abstain").
        action: (B,) int64, which of them.
        answered: (B,) bool, whether the row has an answer of a network.
        answers: (B,) class numbers (int64), or (B, D) target values; what the network would say for rows without one.
        uncertainty: (B,), what was ranked by; of the last network that saw the row.
        cost: (B,), in the caller's unit; zeros where no cost was given.
        why: The rule, in words.
        names: Names of the classes, or None.
        ids: Identifiers of the rows, or None: then they are 0 to B - 1.

    Example:
        >>> from caveat.decide import Threshold, abstain
        >>> from caveat.predictive import Probabilities
        >>> pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
        >>> abstain(pred, Threshold(0.3), names=("cat", "dog"), ids=("a.png", "b.png"))
        Decision of 2 rows (predictive_entropy <= 0.3, given)
          answer   1  50.0 %  cat 1
          abstain  1  50.0 %  least sure: a.png
    """

    actions: tuple[str, ...]
    action: Tensor
    answered: Tensor
    answers: Tensor
    uncertainty: Tensor
    cost: Tensor
    why: str
    names: tuple[str, ...] | None = None
    ids: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.action)

    @property
    def coverage(self) -> float:
        """Fraction of the rows that a network answers."""
        return float(self.answered.double().mean())

    def rows(self, action: str) -> Tensor:
        """The numbers of the rows with this action, int64.

        Raises:
            InvalidArgumentError: there is no such action.
        """
        if action not in self.actions:
            raise InvalidArgumentError(
                "An action is one of the decision's.",
                got=f"{action!r}",
                cause="the action of another policy, or a typo",
                fix=f"one of {', '.join(map(repr, self.actions))}",
            )
        return (self.action == self.actions.index(action)).nonzero().flatten()

    def counts(self) -> dict[str, int]:
        """The number of rows that have each action."""
        return {name: int((self.action == k).sum()) for k, name in enumerate(self.actions)}

    def answer_of(self, row: int) -> Any:
        """The answer of a row as plain data: a class name (or number), or values; None if it has none."""
        if not bool(self.answered[row]):
            return None
        answer = cast(Any, self.answers[row]).tolist()
        return self.names[answer] if self.names is not None and isinstance(answer, int) else answer

    def id_of(self, row: int) -> Any:
        """The id of a row, or its number."""
        return row if self.ids is None else self.ids[row]

    def records(self) -> list[dict[str, Any]]:
        """A dict of plain data for each row: id, action, answer, uncertainty, cost, why. What a ledger keeps."""
        return [
            {
                "id": self.id_of(row),
                "action": self.actions[int(self.action[row])],
                "answer": self.answer_of(row),
                "uncertainty": float(self.uncertainty[row]),
                "cost": float(self.cost[row]),
                "why": self.why,
            }
            for row in range(len(self))
        ]

    def __repr__(self) -> str:
        lines = [f"Decision of {len(self)} rows ({self.why})"]
        width = max(len(name) for name in self.actions)
        digits = len(str(len(self)))
        for name, count in self.counts().items():
            share = 100 * count / max(len(self), 1)
            line = f"  {name:{width}}  {count:{digits}d} {share:5.1f} %  {self._detail(name)}"
            lines.append(line.rstrip())
        if bool(self.cost.any()):
            lines.append(f"  cost {float(self.cost.sum()):.6g}, {float(self.cost.mean()):.4g} a row")
        return "\n".join(lines)

    def _detail(self, action: str) -> str:
        rows = self.rows(action)
        if not len(rows):
            return ""
        if not bool(self.answered[rows].any()):
            worst = rows[self.uncertainty[rows].argsort(descending=True, stable=True)[:_SHOWN]]
            return f"least sure: {', '.join(str(self.id_of(int(row))) for row in worst)}"
        if self.answers.is_floating_point():
            return ""
        counts = self.answers[rows].bincount()
        most = [int(k) for k in counts.argsort(descending=True, stable=True) if counts[k] > 0]
        shown = [f"{self._class_name(k)} {int(counts[k])}" for k in most[:_SHOWN]]
        return ", ".join(shown) + (", ..." if len(most) > _SHOWN else "")

    def _class_name(self, number: int) -> str:
        return f"class {number}" if self.names is None else self.names[number]


def answers_of(pred: Predictive) -> Tensor:
    """The answer for each row: class numbers (B,), or means (B, D).

    Raises:
        InvalidArgumentError: several heads, or several predictions per row.
    """
    if isinstance(pred, Gaussian):
        return pred.mean if pred.mean.ndim > 1 else pred.mean[:, None]
    if isinstance(pred, Categorical | Bernoulli) and pred.predicted.ndim == 1:
        return pred.predicted
    raise InvalidArgumentError(
        "A policy decides about rows with one prediction each.",
        got=describe(pred),
        cause="several heads, several labels, or pixels of an image",
        fix='one head: pred["head"]; one label: a sampler whose output selects it',
    )


def make_decision(
    pred: Predictive,
    actions: Sequence[str],
    action: Tensor,
    answered: Tensor,
    by: Tensor,
    why: str,
    *,
    cost: Tensor | None = None,
    names: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
) -> Decision:
    """A decision about the rows of a predictive, with its names checked.

    Raises:
        InvalidArgumentError: a tensor, which has no answers; names or ids that do not fit.
    """
    if has_numbers(pred):
        raise InvalidArgumentError(
            "A decision gives the answers of a predictive; a tensor has none.",
            got=describe(pred),
            cause="uncertainty or probabilities in place of what they are of",
            fix="pass what caveat.predict returns; uncertainty alone is compared: uncertainty <= threshold.value",
        )
    classes = None if isinstance(pred, Gaussian) else 2 if isinstance(pred, Bernoulli) else pred.mean.shape[-1]
    price = torch.zeros(len(by), dtype=accumulator(by.device), device=by.device) if cost is None else cost
    named = checked_names(names, classes)
    return Decision(
        tuple(actions), action, answered, answers_of(pred), by, price, why, named, checked_ids(ids, len(by))
    )


def checked_names(names: Sequence[str] | None, classes: int | None) -> tuple[str, ...] | None:
    """Class names, one for each class."""
    if names is None or (not isinstance(names, str) and classes is not None and len(names) == classes):
        return None if names is None else tuple(str(name) for name in names)
    raise InvalidArgumentError(
        "names must hold one name for each class.",
        got=f"{len(names)} names for {'targets, which have none' if classes is None else f'{classes} classes'}",
        cause="the names of another data set, or one string in place of a list",
        fix="names=('cat', 'dog')" if classes == 2 else "one name for each class, in the order of the outputs",
    )


def checked_ids(ids: Sequence[Any] | None, rows: int) -> tuple[Any, ...] | None:
    """Ids of the rows, one each, as plain data."""
    if ids is None:
        return None
    plain = cast("list[Any]", cast(Any, ids).tolist() if hasattr(ids, "tolist") else list(ids))
    if len(plain) == rows:
        return tuple(plain)
    raise InvalidArgumentError(
        "ids must hold one id for each row.",
        got=f"{len(plain)} ids for {rows} rows",
        cause="the ids of the whole set beside one batch of it",
        fix="ids of the rows of this predictive",
    )
