"""What libraries of one label or one number per row take of a predictive."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from caveat._checks import describe
from caveat._engine import Sampler, predict_batches
from caveat._measure_kinds import kind_of
from caveat.errors import InvalidArgumentError, explain
from caveat.predictive import Bernoulli, Categorical, Gaussian, Predictive, concatenate


def predict_rows(sampler: Sampler, rows: Tensor, n: int | None, seed: int, batch_size: int) -> Predictive:
    """The predictive of rows (B, ...), ``batch_size`` at a time."""
    pieces = cast("tuple[Tensor, ...]", rows.split(batch_size))
    return concatenate(list(predict_batches(sampler, pieces, n=n, seed=seed)))


def probabilities_of(pred: Predictive) -> Tensor:
    """Mean probabilities of classes, (N, C).

    Raises:
        InvalidArgumentError: not a predictive of one label per row.
    """
    if isinstance(pred, Bernoulli):
        pred = pred.binary
    if isinstance(pred, Categorical) and pred.mean.shape[:-1].numel() == pred.row_count:
        return pred.mean.flatten(0, -2)  # a logit of yes may stand in a column
    raise InvalidArgumentError(_misfit("classes, one label per row", pred))


def numbers_of(pred: Predictive) -> tuple[Tensor, Tensor]:
    """Means and standard deviations, noise included, (N,) each.

    Raises:
        InvalidArgumentError: not a predictive of one number per row.
    """
    if isinstance(pred, Gaussian) and pred.mean.numel() == pred.row_count:
        return pred.mean.reshape(-1), pred.variance.sqrt().reshape(-1)
    raise InvalidArgumentError(_misfit("one number per row", pred))


def _misfit(wanted: str, pred: Predictive) -> str:
    return explain(
        f"The sampler must predict {wanted}.",
        got=f"a predictive of {kind_of(pred) or 'several heads'}: {describe(pred)}",
        cause="a sampler of the other kind, of maps or of several targets",
        fix="one label or one number per row, and say which: mapie_estimator(sampler, classes=C), or quantiles= of "
        "numbers alone; caveat.calibrate takes the rest",
    )
