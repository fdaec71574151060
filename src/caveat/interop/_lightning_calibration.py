"""PyTorch Lightning: a callback that logs in each validation how good the uncertainty is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from caveat._checks import require_integer, require_number
from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.interop._lightning import Step, make_callback
from caveat.interop._torchmetrics import torchmetrics_metric
from caveat.measures import epistemic_variance, mutual_information
from caveat.metrics import (
    ReliabilityBins,
    RunningMean,
    brier_score,
    gaussian_negative_log_likelihood,
    interval_coverage,
    mean_interval_width,
    negative_log_likelihood,
)
from caveat.predictive import Bernoulli, Categorical, Gaussian, Output


def lightning_calibration(
    output: Output,
    *,
    n: int = 20,
    seed: int = 0,
    targets: Callable[[Any], Any] | None = None,
    level: float = 0.9,
    bins: int = 15,
    prefix: str = "val_",
    **settings: Any,
) -> Any:
    """A callback that logs in each validation how good the module's uncertainty is, over all batches of a loader.

    Of classes: ``expected_calibration_error``, ``negative_log_likelihood``, ``brier_score`` and the mean
    ``mutual_information``. Of targets: ``gaussian_negative_log_likelihood``, ``interval_coverage``,
    ``mean_interval_width`` and the mean ``epistemic_variance``. They are in ``trainer.callback_metrics`` and in every
    logger under ``prefix`` and that name, so early stopping and checkpoints can monitor them; with several loaders the
    name ends in ``/dataloader_idx_0`` and so on. Sums are kept, not rows, and they are summed over processes.

    The network is the one that ``lightning_predictive`` draws from.

    Args:
        output: How to read what the network returns; one head.
        n: Number of draws.
        seed: Random seed for the draws.
        targets: Takes the labels or targets from a batch; the second item of a pair if not given.
        level: The fraction of targets that an interval is to hold.
        bins: Number of bins of the calibration error.
        prefix: What each name begins with.
        settings: Other arguments of ``caveat.mc_dropout``.

    Returns:
        A ``LambdaCallback``, for ``Trainer(callbacks=[...])``.

    Raises:
        MissingExtraError: Lightning is not installed, or older than 2.4.
        InvalidArgumentError: While validating: a batch of which it cannot be known what the labels are.
        NothingRandomError: While validating: the module has no dropout that reaches what is read.

    See "On Calibration of Modern Neural Networks", Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """
    require_integer(bins, "bins", 1)
    require_number(level, "level", "(0, 1)")
    run = _Calibration(Step(output, n, seed, settings), targets or _second_of, level, bins, prefix)
    return make_callback(
        on_validation_start=run.start, on_validation_batch_end=run.update, on_validation_epoch_end=run.log
    )


@dataclass(eq=False)
class _Calibration:
    step: Step
    targets: Callable[[Any], Any]
    level: float
    bins: int
    prefix: str
    metrics: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])

    def start(self, *_: Any) -> None:
        self.metrics = {}

    def update(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int, loader: int = 0) -> None:
        """Take a batch in."""
        target = self.targets(batch)
        taken_by_step = len(inspect.signature(module.predict_step).parameters)
        pred = self.step.predict(module, batch, *(index, loader)[: taken_by_step - 1])
        if isinstance(pred, Gaussian):
            taken = self._of_targets(pred, target)
        elif isinstance(pred, (Categorical, Bernoulli)):
            taken = self._of_classes(pred, target)
        else:
            raise OutputMismatchError(
                "Calibration is logged for one head.",
                got=f"a predictive with several: {', '.join(pred)}",
                fix="a callback for each: lightning_calibration(caveat.Logits(select='head'), prefix='val_head_')",
            )
        held = self.metrics.setdefault(loader, {})
        for name, (empty, values) in taken.items():
            if name not in held:
                held[name] = torchmetrics_metric(empty).to(module.device)
            held[name].update(*values)

    def log(self, trainer: Any, module: Any) -> None:
        """Log the values of the epoch, each of all processes."""
        for loader, held in self.metrics.items():
            end = f"/dataloader_idx_{loader}" if len(self.metrics) > 1 else ""
            for name, metric in held.items():
                module.log(f"{self.prefix}{name}{end}", metric.compute().float(), add_dataloader_idx=False)

    def _of_classes(self, pred: Categorical | Bernoulli, target: Any) -> dict[str, Any]:
        classes = pred.binary if isinstance(pred, Bernoulli) else pred
        return {
            "expected_calibration_error": (ReliabilityBins.of(classes.mean.shape[-1], bins=self.bins), (pred, target)),
            "negative_log_likelihood": (RunningMean(negative_log_likelihood), (pred, target)),
            "brier_score": (RunningMean(brier_score), (pred, target)),
            "mutual_information": (RunningMean(torch.mean), (mutual_information(pred),)),
        }

    def _of_targets(self, pred: Gaussian, target: Any) -> dict[str, Any]:
        low, high = (end.reshape(target.shape) for end in pred.interval(self.level))
        return {
            "gaussian_negative_log_likelihood": (RunningMean(gaussian_negative_log_likelihood), (pred, target)),
            "interval_coverage": (RunningMean(interval_coverage), (low, high, target)),
            "mean_interval_width": (RunningMean(mean_interval_width), (low, high)),
            "epistemic_variance": (RunningMean(torch.mean), (epistemic_variance(pred),)),
        }


def _second_of(batch: Any) -> Any:
    if isinstance(batch, (list, tuple)) and len(cast(Sequence[Any], batch)) == 2:
        return cast(Sequence[Any], batch)[1]
    raise InvalidArgumentError(
        "It must be known which part of a batch the labels are.",
        got=f"a batch that is no pair: {type(cast(object, batch)).__name__}",
        cause="a loader of dicts, or of several inputs",
        fix="targets=lambda batch: batch['labels']",
    )
