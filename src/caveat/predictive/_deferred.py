"""Summaries of few numbers, each field made when it is first asked for.

For one row of a small network a whole summary takes longer than the network, and who wants the mean needs no entropies.
The draws have been looked at before, so that nothing fails later.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

SOURCE = "_source"
"""Where a predictive without fields, made by ``object.__new__``, has an object whose attributes they are.

Its kind is a dataclass with ``__getattr__ = field_of_source`` and ``__getstate__ = all_fields``.
"""


def field_of_source(predictive: object, name: str) -> Any:
    """A field that was not asked for before."""
    space = predictive.__dict__
    source = space.get(SOURCE)
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
