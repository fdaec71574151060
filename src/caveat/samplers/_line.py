"""The repr of a sampler: one line, with its networks by class and without what was left at its default."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any, cast

from torch import nn

from caveat._intercept import all_dropout


def in_a_line(self: Any) -> str:
    """Returns a sampler's class with its fields in one line; a network is its class and how many numbers it holds.

    Example:
        >>> import caveat
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        >>> caveat.mc_dropout(model, output=caveat.Logits())
        MCDropout(Sequential of 67 parameters, output=Logits(class_dim=None, select=None), masks='shared')
        >>> caveat.ensemble([nn.Linear(4, 3), nn.Linear(4, 3)], output=caveat.Logits())
        Ensemble(2 x Linear of 15 parameters, output=Logits(class_dim=None, select=None))
    """
    parts = list[str]()
    for field in fields(self):
        value = getattr(self, field.name)
        if not field.repr or field.name[0] == "_" or value is None:
            continue
        if isinstance(value, nn.Module):
            parts.append(_network(value))
        elif isinstance(value, tuple):
            parts.append(_several(cast("tuple[Any, ...]", value)))
        elif callable(value):
            named = f"{field.name}={getattr(value, '__name__', type(value).__name__)}"
            parts += [] if value is all_dropout else [named]  # the default of `live`
        else:
            parts.append(f"{field.name}={value!r}")
    return f"{type(self).__name__}({', '.join(parts)})"


def _network(model: nn.Module) -> str:
    return f"{type(model).__name__} of {sum(p.numel() for p in model.parameters()):,} parameters"


def _several(values: tuple[Any, ...]) -> str:
    """The networks of an ensemble, the samplers of a mixture: each kind once, with how many there are."""
    counts = Counter(_network(value) if isinstance(value, nn.Module) else repr(value) for value in values)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())
