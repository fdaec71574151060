"""What a dropout rate may be."""

from __future__ import annotations

from caveat.errors import InvalidRateError, explain


def check_rate(p: float) -> float:
    """``p`` as a float when it lies in [0, 1).

    Raises:
        InvalidRateError: it does not, or it is no number.

    Example:
        >>> check_rate(0.5)
        0.5
    """
    number = isinstance(p, (int, float)) and not isinstance(p, bool)
    if not number or not 0 <= p < 1:
        raise InvalidRateError(
            explain(
                "A dropout rate must be in [0, 1).",
                got=f"p={p!r}",
                cause="a share to keep or a percentage was passed in place of the share to drop",
                fix="pass the share to drop, such as p=0.1 for a tenth",
            )
        )
    return float(p)
