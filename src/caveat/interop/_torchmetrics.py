"""The streaming metrics of ``caveat.metrics`` as objects of torchmetrics."""

from __future__ import annotations

from typing import Any

import caveat._extras as extras
from caveat.errors import InvalidArgumentError
from caveat.metrics import BrierBins, Collected, ReliabilityBins, RunningMean

_STATES = (RunningMean, ReliabilityBins, BrierBins, Collected)


def torchmetrics_metric(state: RunningMean | ReliabilityBins | BrierBins | Collected, **settings: Any) -> Any:
    """A ``torchmetrics.Metric`` that computes what a streaming metric of caveat does.

    ``update`` takes what the state's own ``update`` takes, a predictive and the labels among it; ``compute`` gives the
    state's value, float64 (of ``BrierBins`` a dict of the parts). Sums are summed over processes, and the tensors of
    ``Collected`` gathered. It works in ``MetricCollection`` and in Lightning's ``self.log``.

    Args:
        state: The state of no rows yet: ``RunningMean(brier_score)``, ``ReliabilityBins.of(10)``, ``BrierBins.of(10)``
            or ``Collected(auroc)``.
        settings: Arguments of ``torchmetrics.Metric``, such as ``sync_on_compute``.

    Raises:
        MissingExtraError: torchmetrics is not installed, or older than 1.0.
        InvalidArgumentError: not a streaming metric, or a ``Collected`` of a function whose tensors cannot be counted.

    See "TorchMetrics - Measuring Reproducibility in PyTorch", Detlefsen et al., 2022.

    Example:
        >>> import torch
        >>> from caveat.metrics import RunningMean, accuracy
        >>> metric = torchmetrics_metric(RunningMean(accuracy))
        >>> metric.update(torch.tensor([[0.9, 0.1]]), torch.tensor([0]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """
    if not isinstance(state, _STATES):
        raise InvalidArgumentError(
            "A streaming metric is a RunningMean, ReliabilityBins, BrierBins or Collected of caveat.metrics.",
            got=getattr(state, "__name__", type(state).__name__),
            cause="a metric that is a function of all rows",
            fix="RunningMean(brier_score) of a mean over rows, ReliabilityBins.of(classes), Collected(auroc)",
        )
    extras.require("torchmetrics", "lightning", at_least="1.0")
    from caveat.interop._torchmetrics_class import StreamingMetric

    return StreamingMetric(state, **settings)
