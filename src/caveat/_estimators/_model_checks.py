"""What a stored model of any kind must satisfy before it is used; all raise ``ValueError`` that says what does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from caveat._estimators._targets import Classes, Target
from caveat._plain import from_plain

_MOST_DRAWS = 1_000_000
_FRACTIONS = ("coverage", "risk_answered", "risk_all", "false_alarms", "confidence")
_COUNTS = ("rows", "rows_trained_on", "rows_held_out", "rows_cut")


def require(holds: bool, otherwise: str) -> None:
    """Raise ``ValueError`` unless it holds."""
    if not holds:
        raise ValueError(otherwise)


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin so, named by the rest."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_weights(build: Callable[[], nn.Module], tensors: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    """Return the tensors if they are those of the network, of finite numbers; nothing is allocated before that."""
    with torch.device("meta"), _WithoutValues():
        wanted = {name: (tuple(t.shape), t.dtype) for name, t in build().state_dict().items()}
    plain = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    odd = sorted(name for name in {*wanted, *plain} if wanted.get(name) != plain.get(name))
    require(not odd, f"{what} does not fit its weights: {odd[0][:60] if odd else ''}")
    for name, tensor in tensors.items():
        require(bool(tensor.isfinite().all()), f"{what}: {name[:60]} is not finite")
    return tensors


class _WithoutValues(TorchFunctionMode):
    """A mode in which weights stay as they are made: torch draws normal numbers for nothing by loading its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def check_names(tensors: Collection[str], networks: int, others: Collection[str]) -> None:
    """Raise unless every tensor is of one of the networks, or one of the others."""
    for name in tensors:
        first = name.split(".", 1)[0]
        known = name in others or (first.isdecimal() and len(first) < 10 and int(first) < networks)
        require(known, f"tensor {name[:60]!r} is not known")


def check_size(networks: int, draws: int, tensors: Collection[str]) -> None:
    """Raise unless there can be this number of networks and of draws."""
    require(networks <= len(tensors), f"{networks} networks are more than there are weights of")
    require(draws <= _MOST_DRAWS, f"{draws} draws are more than {_MOST_DRAWS:,}")


def check_target(target: Target) -> None:
    """Raise unless these are two classes or more, each with a count, or numbers, each with its mean and scale."""
    if isinstance(target, Classes):
        labels, counts = target.labels, target.counts
        require(len(labels) >= 2 and len(set(labels)) == len(labels), "target: classes must be two or more, each once")
        require(len(counts) == len(labels) and min(counts) >= 0, "target: each class must have its count")
        require(target.type in ("text", "integer", "float", "boolean"), "target.type is not known")
        target.typed()  # raises ValueError for labels that are none
        return
    fits = len(target.shifts) == len(target.scales) == len(target.names) >= 1
    require(fits, "target: each number must have its name, mean and scale")
    require(len(set(target.names)) == len(target.names), "target: a name is there twice")
    require(min(target.scales) > 0, "target: scales must be above 0")
    require(not target.flat or len(target.names) == 1, "target: several numbers are not flat")


def check_shape(shape: Any, target: Target, *, bare: bool) -> None:
    """Raise unless networks of the shape answer the target; ``bare`` ones return means without variances."""
    fits = shape.outputs == target.count * (1 if target.classifies or bare else 2)
    require(shape.classes == target.classifies and fits, "network.outputs are not those of the target")
    require(shape.width >= 1 and 0 <= shape.dropout < 1, "network: a width or a rate of dropout out of range")


def check_calibration(temperature: float, factors: Tensor, scores: Tensor, targets: int) -> None:
    """Raise unless these fit the number of ``targets``, which is 0 for classes."""
    require(0 < temperature < math.inf, f"calibration.temperature must be above 0, not {temperature}")
    require(tuple(factors.shape) == (targets,), "calibration.factors must be one for each target")
    require(scores.ndim == 2 and (not len(scores) or scores.shape[1] == max(targets, 1)), "calibration.scores: shape")
    for name, tensor in (("factors", factors), ("scores", scores)):
        fits = tensor.is_floating_point() and bool(tensor.isfinite().all()) and not bool((tensor < 0).any())
        require(fits, f"calibration.{name} must be finite numbers, 0 or more")


def check_summary(summary: Any) -> dict[str, Any]:
    """Return what is said of training, if it is plain data of the kind that is printed."""
    plain = cast("dict[str, Any]", from_plain(dict[str, Any], summary, "summary"))
    _check_finite(plain, "summary")
    for name in _COUNTS:
        require(int(from_plain(int, plain.get(name, 0), f"summary.{name}")) >= 0, f"summary.{name} must be 0 or more")
    for name in ("epistemic_median", "seconds"):
        require(float(from_plain(float, plain.get(name, 0.0), f"summary.{name}")) >= 0, f"summary.{name} is negative")
    return plain


def check_policy(policy: Any, measures: Collection[str]) -> dict[str, Any] | None:
    """Return the policy, if it is none or one that can be followed."""
    if policy is None:
        return None
    plain = cast("dict[str, Any]", from_plain(dict[str, Any], policy, "policy"))
    _check_finite(plain, "policy")
    measure = plain.get("measure")
    require(isinstance(measure, str) and measure in measures, f"policy.measure is not known: {str(measure)[:60]!r}")
    from_plain(float, plain.get("threshold"), "policy.threshold")
    for name in ("why", "unit"):
        from_plain(str, plain.get(name), f"policy.{name}")
    for name in _FRACTIONS:
        value = from_plain(float | None, plain.get(name), f"policy.{name}")
        require(value is None or 0 <= value <= 1, f"policy.{name} must be from 0 to 1, not {value}")
    tolerance = from_plain(float | None, plain.get("tolerance"), "policy.tolerance")
    require(tolerance is None or tolerance > 0, f"policy.tolerance must be above 0, not {tolerance}")
    return plain


def _check_finite(value: Any, where: str) -> None:
    """Raise if a number in plain data, however deep, is not finite."""
    if isinstance(value, dict):
        for name, entry in cast("dict[str, Any]", value).items():
            _check_finite(entry, f"{where}.{name[:60]}")
    elif isinstance(value, list):
        for entry in cast("list[Any]", value):
            _check_finite(entry, where)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        from_plain(float, value, where)
