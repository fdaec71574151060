"""Are draws those of a plain loop? A sentence that says how not, or None."""

from __future__ import annotations

from torch import Tensor

from .compare import compare

STANDARD_ERRORS = 5.0
"""Means may be so many standard errors apart."""

BAND = (0.9, 1.1)
"""Standard deviations over the loop's may be from here to here."""

STILL = 1e-5
"""What does not vary may differ by so much."""


def departure(draws: Tensor, loop: Tensor) -> str | None:
    """Hold draws (S, B, ...) to those of a loop: each number's mean and spread, and random sums within a row.

    A number that the loop does not move must not move, and be the same.
    """
    if draws.shape[1:] != loop.shape[1:]:
        return f"a draw is {tuple(draws.shape[1:])}, a pass of the loop {tuple(loop.shape[1:])}"
    if not bool(draws.isfinite().all()):
        return "not all draws are finite"
    draws, loop = draws.double(), loop.double()
    scale = loop.abs().mean().clamp(min=1e-12)
    moves = loop.std(0) > 1e-6 * scale
    still = (draws - loop[0]).abs().amax(0)[~moves]
    if still.numel() and float(still.max()) > STILL * float(scale.clamp(min=1)):
        return f"what must not vary is up to {float(still.max()):.3g} off"
    if not bool(moves.any()):
        return None
    ratio = draws.std(0)[moves] / loop.std(0)[moves]
    if not (BAND[0] < float(ratio.min()) and float(ratio.max()) < BAND[1]):
        return f"standard deviations are {float(ratio.min()):.3f} to {float(ratio.max()):.3f} of the loop's"
    error = (draws.var(0) / len(draws) + loop.var(0) / len(loop)).sqrt()[moves]
    off = float(((draws.mean(0) - loop.mean(0)).abs()[moves] / error).max())
    if off > STANDARD_ERRORS:
        return f"a mean is {off:.1f} standard errors off"
    anywhere = moves.flatten(1).any(0) if moves.ndim > 1 else moves.any()[None]
    verdict = compare(draws.flatten(2)[:, :, anywhere], loop.flatten(2)[:, :, anywhere]) if moves.ndim > 1 else None
    return None if verdict is None or verdict.same else f"sums or spreads are off: {verdict}"
