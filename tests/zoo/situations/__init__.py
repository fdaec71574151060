"""All situations of the zoo, by kind."""

from __future__ import annotations

from importlib import import_module

from ..situation import Situation

KINDS = (
    "inputs_without_a_batch",
    "masks_by_hand",
    "norms_by_hand",
    "reached_otherwise",
    "compiled_parts",
    "rows_routed",
    "lengths_and_padding",
    "transforms_inside",
    "objects",
    "marks_itself",
    "rows_mixed",
    "stochastic_depth",
    "calls_without_rules",
)

SITUATIONS: list[Situation] = [
    situation for kind in KINDS for situation in import_module(f".{kind}", __name__).SITUATIONS
]
