"""Tiers: a fast model, then a slow one, then a person; only the rows that a tier is unsure of are deferred.

See "Robust Real-Time Face Detection", Viola and Jones, 2004, for cascades; "FrugalGPT", Chen, Zaharia and Zou, 2023,
https://arxiv.org/abs/2305.05176, for cascades of models by price.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._checks import describe
from caveat._inputs import along_first, as_given, as_inputs
from caveat.decide._decision import Decision, answers_of, checked_ids, checked_names
from caveat.decide._threshold import Threshold, as_threshold
from caveat.decide._uncertainty import MeasureLike, uncertainty
from caveat.errors import InvalidArgumentError
from caveat.predictive import Gaussian, Predictive


@final
@dataclass(frozen=True)
class Tier:
    """One tier: who answers, up to which uncertainty, and what a row costs.

    Fields:
        name: Name of the tier.
        predict: x to a predictive, such as ``lambda x: caveat.predict(sampler, x, n=50)``.
        threshold: Largest uncertainty of a row that is answered here; infinity: all that come.
        cost: Cost of each row that this tier sees, in the caller's unit.
        measure: What rows are ranked by, as in ``uncertainty``.

    Example:
        >>> import caveat
        >>> sampler = caveat.ensemble([torch.nn.Linear(4, 3)], output=caveat.Logits())
        >>> Tier("fast", lambda x: caveat.predict(sampler, x), threshold=0.3, cost=0.01).name
        'fast'
    """

    name: str
    predict: Callable[[Any], Predictive]
    threshold: Threshold | float = math.inf
    cost: float = 0.0
    measure: MeasureLike = None


def decide_in_tiers(
    x: Any,
    tiers: Sequence[Tier],
    *,
    human_cost: float | None = None,
    names: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
) -> Decision:
    """Asks the first tier about every row, and each next one only about the rows that are still uncertain.

    A tier is not called where no row is left. A row costs the sum over the tiers that saw it.

    Args:
        x: a batch: a tensor, a tuple of arguments or a dict of keyword arguments, rows on the first axis.
        tiers: The tiers, cheapest first.
        human_cost: Cost of a row that a person has to look at, after all tiers; None: there is no person, and the
            last tier answers what it gets.
        names: Names of the classes.
        ids: Identifiers of the rows.

    Returns:
        A ``Decision`` whose actions are the tiers' names, and "person".

    Raises:
        InvalidArgumentError: no tiers, two of one name, a negative cost, a tier whose predictive has other rows or
            another kind of answer, no rows.
        NotFiniteError: NaN in the uncertainty.

    Example:
        >>> from caveat.predictive import Probabilities
        >>> p = torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.5, 0.5]])
        >>> fast = Tier("fast", lambda x: Probabilities().summarize(x[None]), threshold=0.1, cost=1)
        >>> sharper = lambda x: x.square() / x.square().sum(-1, keepdim=True)
        >>> slow = Tier("slow", lambda x: Probabilities().summarize(sharper(x)[None]), threshold=0.65, cost=10)
        >>> decide_in_tiers(p, [fast, slow], human_cost=100)
        Decision of 3 rows (deferred where unsure: fast > 0.1, slow > 0.65)
          fast    1  33.3 %  class 0 1
          slow    1  33.3 %  class 0 1
          person  1  33.3 %  least sure: 2
          cost 123, 41 a row
    """
    _check(tiers, human_cost)
    inputs = as_inputs(x, _device_of(x))
    axes = along_first(inputs)
    count = axes.count(inputs) or 1
    walk = _Walk(count)
    for number, tier in enumerate(tiers):
        if len(walk.left) == 0:
            break
        last = number == len(tiers) - 1 and human_cost is None
        walk.through(tier, number, as_given(x, axes.take(inputs, walk.left)), answers_all=last)
    if human_cost is not None:
        walk.cost[walk.left] += human_cost
        walk.action[walk.left] = len(tiers)
    actions = [tier.name for tier in tiers] + ([] if human_cost is None else ["person"])
    why = ", ".join(f"{tier.name} > {as_threshold(tier.threshold).value:.6g}" for tier in tiers)
    return Decision(
        tuple(actions), walk.action, walk.answered, walk.answers, walk.by, walk.cost,
        f"deferred where unsure: {why}", checked_names(names, walk.classes), checked_ids(ids, count),
    )  # fmt: skip


class _Walk:
    """What is known of each row while it goes from tier to tier."""

    def __init__(self, count: int) -> None:
        self.left = torch.arange(count)
        self.action = torch.zeros(count, dtype=torch.int64)
        self.answered = torch.zeros(count, dtype=torch.bool)
        self.by = torch.zeros(count, dtype=torch.float64)
        self.cost = torch.zeros(count, dtype=torch.float64)
        self.answers = torch.empty(0)
        self.classes: int | None = None

    def through(self, tier: Tier, number: int, x: Any, *, answers_all: bool) -> None:
        """Let a tier look at the rows that are left, and keep what it answers."""
        pred = tier.predict(x)
        answers = answers_of(pred).to("cpu")
        self._check(pred, answers, tier)
        dtype = torch.promote_types(self.answers.dtype, answers.dtype)
        self.answers, answers = self.answers.to(dtype), answers.to(dtype)
        by = uncertainty(pred, tier.measure).to("cpu", torch.float64)
        keeps = torch.ones_like(by, dtype=torch.bool) if answers_all else by <= as_threshold(tier.threshold).value
        self.cost[self.left] += tier.cost
        self.by[self.left], self.action[self.left], self.answers[self.left] = by, number, answers
        self.answered[self.left[keeps]] = True
        self.left = self.left[~keeps]

    def _check(self, pred: Predictive, answers: Tensor, tier: Tier) -> None:
        classes = None if isinstance(pred, Gaussian) else (2 if pred.mean.ndim == 1 else pred.mean.shape[-1])
        if not self.answers.numel():
            self.answers = answers.new_zeros((len(self.left), *answers.shape[1:]))
            self.classes = classes
        if len(answers) != len(self.left) or classes != self.classes or answers.shape[1:] != self.answers.shape[1:]:
            raise InvalidArgumentError(
                "A tier gives one prediction for each row that it is passed, over the same classes as the others.",
                got=f"{describe(pred)} from {tier.name!r} for {len(self.left)} rows",
                cause="a predict that ignores its argument, or a model of other classes",
                fix="Tier(name, lambda x: caveat.predict(sampler, x))",
            )


def _device_of(x: Any) -> torch.device:
    tensors = [leaf for leaf in pytree.tree_leaves(x) if isinstance(leaf, Tensor)]
    return tensors[0].device if tensors else torch.device("cpu")


def _check(tiers: Sequence[Tier], human_cost: float | None) -> None:
    titles = [tier.name if isinstance(cast(Any, tier), Tier) else repr(tier) for tier in tiers]
    whole = all(isinstance(cast(Any, tier), Tier) for tier in tiers)
    costs = [tier.cost for tier in tiers] if whole else []
    costs += [] if human_cost is None else [human_cost]
    cheap = all(isinstance(cast(Any, cost), int | float) and 0 <= cost < math.inf for cost in costs)
    if titles and whole and cheap and len({*titles, "person"}) == len(titles) + 1:
        return
    raise InvalidArgumentError(
        'There must be at least one tier, with different names (not "person") and costs of at least 0.',
        got=f"tiers {titles}, costs {costs}",
        cause="an empty list, or a price with the wrong sign",
        fix='[Tier("fast", predict, threshold=threshold_for_risk(...), cost=1), Tier("slow", ...)], human_cost=50',
    )
