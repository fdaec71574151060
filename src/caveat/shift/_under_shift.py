"""Metrics against the severity of shift: predict on the clean images, then on every kind at every severity."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caveat._checks import describe, require_integer
from caveat._progress import ProgressBar
from caveat._seeds import check_seed
from caveat.errors import CannotMergeError, InvalidArgumentError
from caveat.shift._checks import check_images
from caveat.shift._corrupt import CORRUPTIONS, EXTRA_CORRUPTIONS, SEVERITIES, corrupt
from caveat.shift._table import CLEAN, Cell, ShiftTable, explain_other

Predict = Callable[[Tensor], Any]
Shift = Callable[[Tensor, float], Tensor]
_SAME = 1e-5  # of a value, which machines round differently


def under_shift(
    predict: Predict,
    images: Tensor,
    targets: Tensor,
    metrics: Mapping[str, Callable[[Tensor, Tensor], Any]],
    *,
    measures: Mapping[str, Callable[[Any], Tensor]] | None = None,
    kinds: Sequence[str] | Mapping[str, Shift] = CORRUPTIONS,
    severities: Sequence[float] = SEVERITIES,
    prepare: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 1000,
    seed: int = 0,
    constants: str | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> ShiftTable:
    """Any metrics and measures on clean and on shifted images: kind x severity x metric -> value.

    ``predict`` is any function of images, so any sampler, calibrated network or library can be studied alike:
    ``lambda x: caveat.predict(sampler, x, n=50)``.

    Args:
        predict: images (B, C, H, W) to a predictive, or to a tensor (B, ...) such as probabilities (B, C).
        images: (N, C, H, W) in [0, 1], not normalized: they are shifted first.
        targets: (N, ...).
        metrics: name -> function of (prediction, targets) to one number. Of a predictive they are given the mean.
        measures: name -> function of what ``predict`` returned to (B,); the mean over all images is kept.
        kinds: names of corruptions, or {name: function of (images, severity)} for shifts of your own, such as
            ``{"rotation": caveat.shift.rotate}`` with angles as severities.
        severities: 1 to 5, or whatever the shifts of your own take; 0, the clean images, is added once.
        prepare: Function from shifted images to what the network takes, such as its normalization.
        batch_size: Number of images shifted and predicted at once.
        seed: Random seed for the corruptions.
        constants: as in ``corrupt``.
        checkpoint: JSON file, written after each severity; what it holds already is not computed again, but for the
            clean images, which tell whether ``predict`` and the metrics are those of the file.
        progress: called with (done, total, title); a bar on the terminal if not given.

    Returns:
        A table; ``caveat.plot.plot_under_shift`` draws it.

    Raises:
        InvalidArgumentError: images of another form or range, targets of another number, no metric, an unknown kind.
        CannotMergeError: the file at ``checkpoint`` is of other images, of another seed or of other constants, or has
            other values of the clean images: it is of another network or metric.

    See "Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty Under Dataset Shift", Ovadia et al.,
    2019, https://arxiv.org/abs/1906.02530.

    Example:
        >>> images, targets = torch.rand(8, 1, 28, 28), torch.zeros(8, dtype=torch.int64)
        >>> table = under_shift(
        ...     lambda x: x.flatten(1).mean(1, keepdim=True),
        ...     images, targets, {"brightness": lambda p, y: p.mean()},
        ...     kinds=["brightness"], severities=(1, 5),
        ... )
        >>> table.severities, table.at("brightness", 5, "brightness") > table.at("clean", 0, "brightness")
        ((0.0, 1, 5), True)
    """
    measures = measures or {}
    _check(images, targets, metrics, measures, batch_size)
    check_seed(seed)
    shifts = _shifts(kinds, seed, constants)
    cells = [(CLEAN, 0.0), *((kind, severity) for kind in shifts for severity in severities if severity != 0)]
    names = [*metrics, *measures]
    table = _resume(checkpoint, _settings(images, targets, seed, constants))
    bar = ProgressBar("shifts")
    show = bar.show if progress is None else progress
    for done, (kind, severity) in enumerate(cells):
        show(done, len(cells), f"{kind} {severity:g}")
        if kind == CLEAN or any((kind, severity, name) not in table.values for name in names):
            shift = shifts.get(kind, _unchanged)
            parts = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
            returned = [_predicted(predict, shift(part, severity), prepare, measures) for part in parts]
            found = _found(returned, targets, metrics, measures)
            values: dict[Cell, float] = {(kind, severity, name): found[name] for name in names}
            if kind == CLEAN:
                _check_same(table, values)
            table = ShiftTable({**table.values, **values}, table.settings)
            if checkpoint is not None:
                table.save(checkpoint)
    if progress is None:
        bar.show(len(cells), len(cells), "done", last=True)
    else:
        progress(len(cells), len(cells), "done")
    return _only(table, cells, names)


def _unchanged(images: Tensor, severity: float) -> Tensor:
    return images


def _predicted(
    predict: Predict, images: Tensor, prepare: Callable[[Tensor], Tensor] | None, measures: Mapping[str, Any]
) -> tuple[Tensor, dict[str, float], int]:
    """The prediction of one batch, the sum of each measure over it, and its length."""
    returned = predict(images if prepare is None else prepare(images))
    prediction = returned if isinstance(returned, Tensor) else getattr(returned, "mean", None)
    if not isinstance(prediction, Tensor) or prediction.ndim == 0 or len(prediction) != len(images):
        got = describe(prediction) if isinstance(prediction, Tensor) else type(returned).__name__
        raise InvalidArgumentError(
            f"predict must return a predictive or a tensor of {len(images)} rows, one for each image.",
            got=got,
            cause="a dict of heads, a tuple, or draws first: (S, B, C)",
            fix='pick the head, predict=lambda x: caveat.predict(sampler, x, n=50)["head"]',
        )
    sums = {name: _sum_of_rows(measure(returned), name, len(images)) for name, measure in measures.items()}
    return prediction.detach(), sums, len(images)


def _sum_of_rows(value: Any, name: str, rows: int) -> float:
    """The sum over rows of a measure, the mean of each row's numbers where it has several."""
    values = torch.as_tensor(value)
    if values.ndim == 0 or len(values) != rows:
        raise InvalidArgumentError(
            f'The measure "{name}" must return {rows} numbers, one for each image of the batch.',
            got=describe(values),
            cause="a mean over the batch, or a metric, which needs targets",
            fix="leave the mean out: it is taken over all images",
        )
    return float(values.double().flatten(1).mean(-1).sum() if values.ndim > 1 else values.double().sum())


def _found(
    returned: list[tuple[Tensor, dict[str, float], int]],
    targets: Tensor,
    metrics: Mapping[str, Callable[[Tensor, Tensor], Any]],
    measures: Mapping[str, Any],
) -> dict[str, float]:
    prediction = torch.cat([part for part, _, _ in returned])
    targets = targets.to(prediction.device)
    values = {name: _number(metric(prediction, targets), name) for name, metric in metrics.items()}
    count = sum(rows for _, _, rows in returned)
    return {**values, **{name: sum(sums[name] for _, sums, _ in returned) / count for name in measures}}


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(
            f'The metric "{name}" must return one number.',
            got=describe(value) if isinstance(value, Tensor) else repr(value)[:80],
            cause="a value for each image or class, or an interval beside the value",
            fix="take its mean, or its .value, in a lambda",
        ) from error


def _shifts(kinds: Sequence[str] | Mapping[str, Shift], seed: int, constants: str | None) -> dict[str, Shift]:
    if isinstance(kinds, Mapping):
        return dict(kinds)
    known = (*CORRUPTIONS, *EXTRA_CORRUPTIONS)
    unknown = [kind for kind in kinds if kind not in known]
    if unknown or isinstance(kinds, str) or not kinds:
        raise InvalidArgumentError(
            f"kinds must be some of {', '.join(known)}, or a dict of functions.",
            got=f"kinds={kinds!r}",
            cause="a typo, or one name without a list around it",
            fix='pass kinds=["fog", "snow"], or {"rotation": caveat.shift.rotate}',
        )

    def named(kind: str) -> Shift:
        return lambda images, severity: corrupt(images, kind, _whole(severity), seed=seed, constants=constants)

    return {kind: named(kind) for kind in kinds}


def _whole(severity: float) -> Any:
    return int(severity) if severity == int(severity) else severity


def _settings(images: Tensor, targets: Tensor, seed: int, constants: str | None) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=8)
    for part in (images.detach(), targets.detach()):
        digest.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {"seed": seed, "constants": constants, "images": len(images), "data": digest.hexdigest()}


def _resume(checkpoint: str | Path | None, settings: dict[str, Any]) -> ShiftTable:
    empty = ShiftTable({}, settings)
    if checkpoint is None or not Path(checkpoint).exists():
        return empty
    return empty.merge(ShiftTable.load(checkpoint))


def _check_same(table: ShiftTable, clean: Mapping[Cell, float]) -> None:
    """Raise `CannotMergeError` where a table has other values of the untouched images than are found now."""
    for cell, now in clean.items():
        then = table.values.get(cell, now)
        if not (math.isclose(then, now, rel_tol=_SAME, abs_tol=_SAME) or (then != then and now != now)):
            got = f"{cell[2]} of the untouched images: {then:.6g} then, {now:.6g} now"
            raise CannotMergeError(explain_other("predict and metrics", got))


def _only(table: ShiftTable, cells: list[tuple[str, float]], names: list[str]) -> ShiftTable:
    """The cells that were asked for, in the order asked for; a file may hold more."""
    values = {(kind, severity, name): table.values[kind, severity, name] for kind, severity in cells for name in names}
    return ShiftTable(values, table.settings)


def _check(
    images: Tensor, targets: Tensor, metrics: Mapping[str, Any], measures: Mapping[str, Any], batch_size: int
) -> None:
    check_images(images, any_channels=True)
    if not isinstance(targets, Tensor) or targets.ndim == 0 or len(targets) != len(images):
        got = describe(targets) if isinstance(targets, Tensor) else type(targets).__name__
        raise InvalidArgumentError(
            f"targets must be a tensor with a row for each of the {len(images)} images.",
            got=got,
            cause="the targets of another split",
            fix="pass targets[: len(images)]",
        )
    if not (metrics or measures) or set(metrics) & set(measures):
        raise InvalidArgumentError(
            "There must be at least one metric or measure, each with its own name.",
            got=f"metrics {list(metrics)}, measures {list(measures)}",
            cause="an empty dict",
            fix='pass metrics={"accuracy": lambda p, y: (p.argmax(-1) == y).float().mean()}',
        )
    require_integer(batch_size, "batch_size", 1)
