"""Summaries of few numbers, each field made when it is first asked for.

For one row of a small network a whole summary takes longer than the network, and who wants the mean needs no entropies.
The draws have been looked at before, so that nothing fails later.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from caveat._numerics import FEW_NUMBERS

_Kind = TypeVar("_Kind")
_SOURCE = "_source"


def may_wait(draws: Tensor, *, keep: bool) -> bool:
    """Are these draws (S, ...) so few, and all finite, that their summary may be made later?"""
    light = not keep and 0 < draws.numel() <= FEW_NUMBERS and not draws.requires_grad
    return light and math.isfinite(draws.sum().item())


def deferred(kind: type[_Kind], source: object, **known: Any) -> _Kind:
    """A predictive with the ``known`` fields; the others are attributes of ``source``, made when asked for.

    The kind is a dataclass with ``__getattr__ = field_of_source`` and ``__getstate__ = all_fields``.
    """
    late = object.__new__(kind)
    vars(late).update(known, **{_SOURCE: source})
    return late


def field_of_source(predictive: object, name: str) -> Any:
    """A field that was not asked for before."""
    space = predictive.__dict__
    source = space.get(_SOURCE)
    if source is None or name not in _names(predictive):
        raise AttributeError(f"{type(predictive).__name__!r} object has no attribute {name!r}")
    with torch.inference_mode(False):  # what is made stays, and may be used where gradients are
        value = space[name] = getattr(source, name)
    return value


def all_fields(predictive: Any) -> dict[str, Any]:
    """What is copied and pickled: every field, and nothing of where it comes from."""
    return {name: getattr(predictive, name) for name in _names(predictive)}


def _names(predictive: Any) -> list[str]:
    return [field.name for field in fields(predictive)]
