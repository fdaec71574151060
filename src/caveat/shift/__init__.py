"""Data unlike those the network was trained on: corruptions by kind and severity, moves, blends, other classes.

Tensors in, tensors out; what is random is seeded and does not depend on the batch.
"""

from caveat.shift._corrupt import CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt
from caveat.shift._geometry import blend, rotate, translate
from caveat.shift._resampling import label_shift, new_classes
from caveat.shift._table import ShiftTable
from caveat.shift._under_shift import under_shift

__all__ = [
    "CORRUPTIONS",
    "EXTRA_CORRUPTIONS",
    "ShiftTable",
    "blend",
    "corrupt",
    "label_shift",
    "new_classes",
    "rotate",
    "translate",
    "under_shift",
]
