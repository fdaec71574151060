"""Other data than the network was trained on: corruptions by kind and severity, moves, blends, other classes.

Tensors in, tensors out; what is random is seeded and does not depend on the batch.
"""

from caveat.shift.corrupt import CORRUPTIONS, EXTRA_CORRUPTIONS, SEVERITIES, corrupt
from caveat.shift.geometry import blend, rotate, translate
from caveat.shift.resampling import NewClasses, label_shift, new_classes, without_classes
from caveat.shift.table import Quartiles, ShiftTable
from caveat.shift.under_shift import under_shift

__all__ = [
    "CORRUPTIONS",
    "EXTRA_CORRUPTIONS",
    "SEVERITIES",
    "NewClasses",
    "Quartiles",
    "ShiftTable",
    "blend",
    "corrupt",
    "label_shift",
    "new_classes",
    "rotate",
    "translate",
    "under_shift",
    "without_classes",
]
