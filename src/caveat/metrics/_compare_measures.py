"""Which measure to rank by: every measure of a predictive on the user's own rows, against errors and strange rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast, final

import torch
from torch import Tensor

from caveat._arrays import as_tensor, truth_like
from caveat._checks import require_number
from caveat._measure_kinds import Measure
from caveat._numerics import accumulator
from caveat._table_text import format_html, format_table
from caveat.errors import InvalidArgumentError
from caveat.measures import MEASURES
from caveat.metrics._bootstrap import bootstrap
from caveat.metrics._detection import auroc
from caveat.metrics._risk_coverage import aurc
from caveat.predictive import Bernoulli, Categorical, Gaussian, Predictive

TITLES = {
    "error_auroc": "AUROC of errors",
    "aurc": "AURC",
    "excess_aurc": "E-AURC",
    "strange_auroc": "AUROC of strange rows",
}
_HIGHER_IS_BETTER = ("error_auroc", "strange_auroc")


class MeasureScore(NamedTuple):
    """How well a measure ranks rows by one criterion.

    Fields:
        value: The criterion of all rows.
        low, high: Ends of its 95 % bootstrap interval over rows.
        clearly_worse: Whether the interval of the difference to the best measure, on the same resamples, leaves out 0.
    """

    value: float
    low: float
    high: float
    clearly_worse: bool


@final
@dataclass(frozen=True, repr=False)
class MeasureComparison:
    """Every measure of a predictive by how well it ranks rows, the best first.

    Fields:
        scores: By measure, in the order of the first criterion, its scores by criterion: "error_auroc", "aurc",
            "excess_aurc", "strange_auroc", as far as the rows tell.
        rows, strange: The numbers of usual and of strange rows.
    """

    scores: Mapping[str, Mapping[str, MeasureScore]]
    rows: int
    strange: int

    def best(self, criterion: str) -> str:
        """Returns the measure that is best by a criterion, such as "strange_auroc".

        Raises:
            InvalidArgumentError: there is no such criterion.
        """
        first = next(iter(self.scores.values()))
        if criterion not in first:
            raise InvalidArgumentError(f"criterion must be one of {', '.join(first)}; got {criterion!r}.")
        sign = -1 if criterion in _HIGHER_IS_BETTER else 1
        return min(self.scores, key=lambda name: sign * self.scores[name][criterion].value)

    def __repr__(self) -> str:
        return f"{self._line()}\n{format_table(*self._table())}\n  {_READ}"

    def _repr_html_(self) -> str:
        return format_html(self._line(), *self._table(), after=_READ)

    def _line(self) -> str:
        return f"MeasureComparison({self.rows:,} rows, {self.strange:,} strange rows)"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        criteria = list(next(iter(self.scores.values())))
        rows = [[name, *(_cell(scores[criterion]) for criterion in criteria)] for name, scores in self.scores.items()]
        return ["measure", *(TITLES[criterion] for criterion in criteria)], rows


_READ = "[95 % interval over rows]; * not clearly worse than the best, on the same resamples"


def compare_measures(
    pred: Predictive,
    truth: object,
    strange: Predictive | None = None,
    *,
    tolerance: float | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> MeasureComparison:
    """Ranks all measures that fit a predictive by how well they find its errors, and strange rows.

    Of errors: AUROC of the measure against being wrong, area under the risk-coverage curve (AURC), and what of that is
    above the best order (E-AURC). Of strange rows: AUROC of the measure, strange against usual rows. Higher AUROC and
    lower AURC are better. Over several targets, and over the pixels of strange rows, a measure's mean is taken.

    Intervals are of the bootstrap over rows. The best of many measures on few rows is best partly by chance: a measure
    marked * is not to be told from it by these rows.

    Args:
        pred: Predictive of usual rows that the network was not trained on: Categorical, Bernoulli or Gaussian.
        truth: Labels (B...) or targets (B..., D) of these.
        strange: Predictive of rows unlike training, by the same network.
        tolerance: Of numbers the absolute error from which an answer is wrong; without one there is no AUROC of errors,
            and the losses of AURC are the absolute errors. Several targets are wrong if any is.
        resamples: Number of resamples of the rows.
        seed: Random seed for the resamples.

    Raises:
        InvalidArgumentError: predictives of several heads or of two kinds, a truth that does not fit, or a tolerance
            that is not above 0.

    See "Selective Classification for Deep Neural Networks", Geifman and El-Yaniv, 2017; "A Baseline for Detecting
    Misclassified and Out-of-Distribution Examples in Neural Networks", Hendrycks and Gimpel, 2017.

    Example:
        >>> from caveat.predictive import Mean
        >>> draws = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.1, 2.4, 3.1, 4.9]])[..., None]   # two draws of four rows
        >>> pred = Mean(noise_variance=0.1).summarize(draws)
        >>> found = compare_measures(pred, torch.tensor([[1.0], [2.1], [3.0], [4.0]]), resamples=20)
        >>> list(found.scores)
        ['total_variance', 'epistemic_variance', 'interval_width', 'aleatoric_variance']
        >>> found.best("aurc")
        'total_variance'
    """
    require_number(tolerance, "tolerance", "(0, inf)", optional=True)
    measures = _fitting(pred, strange)
    losses, wrong = _errors(pred, as_tensor(truth, "truth"), tolerance)
    by = {one.name: _of_rows(one, pred, losses.shape) for one in measures}
    found: dict[str, dict[str, MeasureScore]] = {name: {} for name in by}
    if wrong is not None and 0 < int(wrong.sum()) < wrong.numel():
        _add(found, "error_auroc", by, lambda u, w: auroc(u, wrong, weights=w), wrong, resamples, seed)
    _add(found, "aurc", by, lambda u, w: aurc(u, losses, weights=w), losses, resamples, seed)
    _add(
        found, "excess_aurc", by,
        lambda u, w: aurc(u, losses, weights=w) - aurc(losses, losses, weights=w), losses, resamples, seed,
    )  # fmt: skip
    if strange is not None:
        both = {one.name: torch.cat([_mean_of_row(one, which) for which in (pred, strange)]) for one in measures}
        positive = torch.arange(pred.row_count + strange.row_count) >= pred.row_count
        _add(found, "strange_auroc", both, lambda u, w: auroc(u, positive, weights=w), positive, resamples, seed)
    first = next(iter(next(iter(found.values()))))
    sign = -1 if first in _HIGHER_IS_BETTER else 1
    ordered = sorted(found.items(), key=lambda pair: sign * pair[1][first].value)
    return MeasureComparison(dict(ordered), pred.row_count, 0 if strange is None else strange.row_count)


def _fitting(pred: Predictive, strange: Predictive | None) -> list[Measure]:
    """The measures of a predictive, if it is of one head and the strange rows are of the same kind."""
    measures = [one for one in MEASURES.values() if one.fits(pred)]
    if not measures or (strange is not None and not measures[0].fits(strange)):
        raise InvalidArgumentError(
            "Measures are compared on predictives of one head, and of one kind.",
            got=" and ".join(type(one).__name__ for one in (pred, strange) if one is not None),
            fix='compare_measures(pred["head"], labels, strange["head"])',
        )
    return measures


def _errors(pred: Predictive, truth: Tensor, tolerance: float | None) -> tuple[Tensor, Tensor | None]:
    """Losses, and what is wrong: of each label (B...) float64 0 and 1; of a row of numbers (B,) the absolute error."""
    known = truth_like(cast("Categorical | Bernoulli | Gaussian", pred), truth).cpu()
    if isinstance(pred, Categorical | Bernoulli):
        wrong = pred.predicted.cpu() != known
        return wrong.to(accumulator(wrong.device)), wrong
    error = (known - cast(Gaussian, pred).moments.mean.cpu()).abs()
    error = error.flatten(1) if error.ndim > 1 else error[:, None]
    if tolerance is None:
        return error.mean(1), None
    wrong = (error > tolerance).any(1)
    return wrong.to(error), wrong


def _of_rows(measure: Measure, pred: Predictive, shape: torch.Size) -> Tensor:
    """A measure in the shape of the losses, float64."""
    values = measure.uncertainty(pred).cpu().to(accumulator(torch.device("cpu")))
    return values if values.shape == shape else values.flatten(1).mean(1)


def _mean_of_row(measure: Measure, pred: Predictive) -> Tensor:
    return _of_rows(measure, pred, torch.Size((pred.row_count,)))


def _add(
    found: Mapping[str, dict[str, MeasureScore]],
    criterion: str,
    by: Mapping[str, Tensor],
    function: Callable[[Tensor, Tensor | None], Tensor],
    rows: Tensor,
    resamples: int,
    seed: int,
) -> None:
    """Adds a criterion of every measure with its interval, and whether it is clearly worse than the best measure."""
    values = torch.stack([function(one, None) for one in by.values()])
    best = int(values.argmax() if criterion in _HIGHER_IS_BETTER else values.argmin())

    def scores(_rows: Tensor, *, weights: Tensor | None = None) -> Tensor:
        each = torch.stack([function(one, weights) for one in by.values()], -1)
        return torch.cat([each, each - each[..., best : best + 1]], -1)

    ends = bootstrap(scores, rows, resamples=resamples, seed=seed)
    value, low, high = (cast("list[float]", end.tolist()) for end in ends)
    for number, name in enumerate(by):
        behind = len(by) + number
        worse = bool(high[behind] < 0 if criterion in _HIGHER_IS_BETTER else low[behind] > 0)
        found[name][criterion] = MeasureScore(value[number], low[number], high[number], worse)


def _cell(score: MeasureScore) -> str:
    return f"{score.value:.3g} [{score.low:.3g}, {score.high:.3g}]{'' if score.clearly_worse else '*'}"
