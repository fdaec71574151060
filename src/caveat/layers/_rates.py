"""What a dropout rate may be."""

from __future__ import annotations

from caveat._checks import require_number
from caveat.errors import InvalidRateError


def check_rate(p: float) -> float:
    """``p`` as a float when it lies in [0, 1).

    Raises:
        InvalidRateError: it does not, or it is no number.

    Example:
        >>> check_rate(0.5)
        0.5
    """
    require_number(p, "p", "[0, 1)", fix="the fraction to drop, such as p=0.1 for a tenth", error=InvalidRateError)
    return float(p)
