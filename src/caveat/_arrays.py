"""Arguments as tensors: predictives, NumPy arrays, series and lists are taken wherever a tensor is asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from caveat._checks import describe, with_labels
from caveat._numerics import entropy
from caveat.errors import InvalidArgumentError
from caveat.predictive import Bernoulli, Categorical, Gaussian, Heads

_R = TypeVar("_R")
_LEVEL = 0.9


def takes_arrays(function: Callable[..., _R]) -> Callable[..., _R]:
    """Let a function of tensors take what people have: a decorator.

    Parameters whose annotation begins with `Tensor` are made tensors. A predictive stands for as many of them as follow
    each other in it: `probabilities` or `logits` of classes; `mean`, or `mean, variance` (in all), or `low, high` of
    targets; `uncertainty` of both. Targets (B,) beside a predictive (B, 1) are one number per row.

    Example:
        >>> from caveat.predictive import Mean
        >>> @takes_arrays
        ... def error(mean: Tensor, target: Tensor):
        ...     return (mean - target).abs().mean()
        >>> error(Mean().summarize(torch.tensor([[[1.0], [2.0]]])), [1.5, 2.5]).item()
        0.5
    """
    converted = functools.partial(_converted, _tensor_parameters(function), function)

    def called(*args: Any, **named: Any) -> _R:
        args, named = converted(args, named)
        return function(*args, **named)

    # In the globals of the function's own module, where doctest looks for it; it needs nothing but its closure.
    own = FunctionType(called.__code__, cast(Any, function).__globals__, None, None, called.__closure__)
    return cast("Callable[..., _R]", functools.wraps(function)(own))


def as_tensor(value: Any, name: str) -> Tensor:
    """Numbers of any container as a tensor; whole numbers as int64 at most, others in their own precision.

    Raises:
        InvalidArgumentError: what holds no numbers.

    Example:
        >>> as_tensor(np.array([1, 2], dtype=np.uint16), "labels")
        tensor([1, 2])
    """
    if isinstance(value, Tensor):
        return value
    listed = cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else ()
    if any(isinstance(one, Tensor) for one in listed):
        return torch.stack([as_tensor(one, name) for one in listed])
    array: Any = None
    try:
        array = np.asarray(
            cast(Any, value).to_numpy() if hasattr(cast(object, value), "to_numpy") else masked_as_nan(value)
        )
        array = array.astype(np.float64) if array.dtype.kind == "O" else array
    except (TypeError, ValueError):
        pass
    if array is None or array.dtype.kind not in "fiub":
        got = f"{type(cast(object, value)).__name__}" + ("" if array is None else f" of {array.dtype}")
        cause, fix = "labels as text, missing values, or rows of different length", "class numbers, 0 to C - 1"
        raise InvalidArgumentError(f"{name} must hold numbers.", got=got, cause=cause, fix=fix)
    kind, size = array.dtype.kind, array.dtype.itemsize
    plain = np.int64 if kind == "u" and size > 1 else np.float64 if size > 8 else array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=plain, order="C"))  # a copy: it may be read-only


def masked_as_nan(values: Any) -> Any:
    """Returns a masked array with NaN for what is masked, anything else as it is.

    Example:
        >>> masked_as_nan(np.ma.masked_array([1, 1000], mask=[False, True]))
        array([ 1., nan])
    """
    if not np.ma.is_masked(values):
        return values
    return values.astype(np.promote_types(values.dtype, np.float16)).filled(np.nan)


def plain_tensor(values: Any) -> Any:
    """Returns a tensor as NumPy takes it, without its gradient and on the CPU; all else as it is.

    Example:
        >>> plain_tensor(torch.ones(1, requires_grad=True).bfloat16()).numpy()
        array([1.], dtype=float32)
    """
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return values.float() if values.dtype == torch.bfloat16 else values


def truth_like(pred: Categorical | Bernoulli | Gaussian, y: Tensor) -> Tensor:
    """Returns the truth in the shape that a predictive's metrics take: labels int64 (B...), or targets (B..., D).

    Raises:
        InvalidArgumentError: shapes that do not fit, or labels that are no classes.
    """
    if not isinstance(pred, Gaussian):
        classes = pred.binary if isinstance(pred, Bernoulli) else pred
        shape = classes.votes.shape[:-1]
        labels = y.to(classes.votes.device)
        if labels.numel() == classes.votes[..., 0].numel() and labels.shape[-1:] == (1,):
            labels = labels.reshape(shape)
        if isinstance(pred, Bernoulli) or labels.dtype == torch.bool:  # yes and no are floats in their loss
            labels = labels.long() if bool((labels == labels.long()).all()) else labels
        with_labels(classes.moments.mean, labels, "the predictions")
        return labels
    target = y.to(pred.noise)
    if target.numel() == pred.noise.numel() and 1 in (*pred.noise.shape[-1:], *target.shape[-1:]):
        target = target.reshape(pred.noise.shape)  # (B,) beside (B, 1)
    if target.shape != pred.noise.shape:
        raise InvalidArgumentError(
            "Targets must have the same shape as the predictions.",
            got=f"targets {tuple(target.shape)}; the shape of the predictions is {tuple(pred.noise.shape)}",
            cause="other rows than those that were predicted",
            fix="y of the same rows as x",
        )
    return target


def _tensor_parameters(function: Callable[..., Any]) -> dict[str, bool]:
    """The positional parameters in order, and whether each is a tensor; "*" stands for any number of them."""
    found: dict[str, bool] = {}
    for parameter in inspect.signature(function).parameters.values():
        of_tensors = str(parameter.annotation).startswith(("Tensor", "Mapping[str, Tensor]"))
        found["*" if parameter.kind is parameter.VAR_POSITIONAL else parameter.name] = of_tensors
    return found


def _converted(
    parameters: Mapping[str, bool], function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    fields = [name for name in named if parameters.get(name) and _is_foreign(named[name])]
    if not fields and not any(_is_foreign(value) for value in args):
        return args, named
    names = _names(parameters, args)
    found: list[Any] = []
    predicted: list[int] = []
    for value in args:
        rest = names[len(found) :] or ["the tensor"]
        if _is_predictive(value):
            parts = _parts_of(value, rest, functools.partial(_level_of, function, args, named))
            predicted += range(len(found), len(found) + len(parts))
            found += parts
        else:
            found.append(_plain(value, rest[0]) if parameters.get(rest[0], "*" in parameters) else value)
    level = functools.partial(_level_of, function, args, named)
    made = {name: _plain(named[name], name, level) for name in fields}
    others = [one for at, one in enumerate(found) if isinstance(one, Tensor) and at not in predicted]
    others += [made[name] for name in fields if name in ("target", "labels") and isinstance(made[name], Tensor)]
    for at in predicted:
        part = found[at]
        if part.ndim > 1 and part.shape[-1] == 1 and others and all(o.shape == part.shape[:-1] for o in others):
            found[at] = part[..., 0]
    return tuple(found), {**named, **made}


def _names(parameters: Mapping[str, bool], args: tuple[Any, ...]) -> list[str]:
    """The name of each positional argument; of "*" those that the metric takes, which is an argument or of one."""
    names = [name for name in parameters if name != "*"]
    if "*" not in parameters:
        return names
    before = list(parameters).index("*")
    return [*names[:before], *_parameters_of_metric(args)]


def _parameters_of_metric(args: tuple[Any, ...]) -> Mapping[str, inspect.Parameter]:
    """The parameters of the metric that is the first argument, or belongs to it; none where they cannot be known."""
    metric = args[0] if callable(args[0]) else getattr(args[0], "metric", None)
    try:
        return inspect.signature(cast(Any, metric)).parameters
    except (TypeError, ValueError):
        return {}


def _is_predictive(value: Any) -> bool:
    return isinstance(value, (Categorical, Bernoulli, Gaussian, Heads))


def _is_foreign(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_foreign(one) for one in cast("Mapping[Any, Any]", value).values())
    arrays = isinstance(value, (list, tuple)) or hasattr(value, "__array__") or hasattr(value, "to_numpy")
    return _is_predictive(value) or (arrays and not isinstance(value, Tensor))


def _plain(value: Any, name: str, level: Callable[[], float] = lambda: _LEVEL) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one, name, level) for key, one in cast("Mapping[Any, Any]", value).items()}
    if _is_predictive(value):
        return _parts_of(value, [name], level)[0]
    return as_tensor(value, name) if _is_foreign(value) else value


def _parts_of(pred: Any, names: Sequence[str], level: Callable[[], float]) -> list[Tensor]:
    """What a predictive says under the first of these names, and under those that belong to it."""
    first, pair = names[0], tuple(names[:2])
    if isinstance(pred, Bernoulli) and first != "uncertainty":
        pred = pred.binary
    if first.startswith("uncertainty"):
        of_rows = pred.variance if isinstance(pred, Gaussian) else _entropy_of(pred)
        return [of_rows.flatten(1).mean(-1) if of_rows.ndim > 1 else of_rows]
    if isinstance(pred, Categorical):
        if first in ("probabilities", "deterministic"):
            return [_mean_probabilities(pred)]
        if first == "logits":
            return [pred.moments.mean.log().to(pred.dtype)]
    if isinstance(pred, Gaussian):
        if pair == ("mean", "variance"):
            _require_normal(pred)
            return [pred.mean, pred.variance]
        if pair == ("mean", "scale"):
            return [pred.mean, pred.variance.sqrt()]
        if pair == ("low", "high"):
            return list(pred.interval(level()))
        if pair == ("means", "variances"):
            return [pred.draws, pred.noise_draws]
        if first in ("mean", "draws"):
            return [getattr(pred, first)]
        if first == "variance":
            return [pred.variance]
    raise InvalidArgumentError(
        f"{first} must be a tensor, or a predictive that says it.",
        got=describe(pred),
        cause="a predictive of targets where classes are asked for, of several heads, or in another's place",
        fix='pred["head"] for one head; pred.mean for its numbers',
    )


def _mean_probabilities(pred: Categorical) -> Tensor:
    """Mean probabilities (B..., C) in the results' dtype; wider where that would rule out a class that is possible."""
    mean = pred.mean
    return pred.moments.mean if bool(((mean == 0) & (pred.moments.mean > 0)).any()) else mean


def _require_normal(pred: Gaussian) -> None:
    if pred.freedom is not None and bool(pred.freedom.isfinite().any()):
        raise InvalidArgumentError(
            "A mean and a variance stand for a normal, and this predictive is none.",
            got=f"Student's t of {pred.freedom.tolist()} degrees of freedom, whose score is another",
            cause="a model whose held-out rows showed tails",
            fix="pred.crps(y).mean() or -pred.log_prob(y).mean(); or dataclasses.replace(pred, freedom=None)",
        )


def _entropy_of(pred: Any) -> Tensor:
    if isinstance(pred, Heads):
        raise InvalidArgumentError(f'uncertainty must be of one head: pred["head"]; got {describe(pred)}.')
    return entropy((pred.binary if isinstance(pred, Bernoulli) else pred).mean)


def _level_of(function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> float:
    """The level of the intervals that a call is about; where it is handed a metric, the metric's own."""
    parameters = inspect.signature(function).parameters
    if any(one.kind is one.VAR_POSITIONAL for one in parameters.values()):
        parameters, named = _parameters_of_metric(args), {}
    given = {**{name: one.default for name, one in parameters.items()}, **named}
    level = given.get("level")
    return level if isinstance(level, float) else _LEVEL
