"""Tests whether a stream still looks like the rows that calibrated, by a conformal martingale on their uncertainties.

Each new row is ranked among the calibration rows and all rows before it. While all of them are exchangeable these ranks
are independent and uniform, and no bet against that gains: a capital of c is seen with a probability of 1/c at most.
See "Testing exchangeability on-line", Vovk, Nouretdinov and Gammerman, 2003, and for the bets (the Simple Jumper)
"Retrain or not retrain: conformal test martingales for change-point detection", Vovk et al., 2021.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import final

_BETS = (-1.0, 0.0, 1.0)
_JUMP = 0.01
_LONGEST, _MOST = 20_000, 1e100


@final
class ExchangeabilityTest:
    """A bet against exchangeability that goes on with each row.

    After 20,000 rows it begins anew, so that memory and time stay flat.

    Args:
        calibration: Uncertainties of the rows that calibrated.
        seed: Random seed for the order of equal uncertainties.

    Example:
        >>> test = ExchangeabilityTest([number / 100 for number in range(100)])
        >>> test.add([2.0] * 50)                                      # all of them above what calibrated
        >>> test.capital > 1000
        True
    """

    def __init__(self, calibration: Sequence[float], seed: int = 0) -> None:
        self._calibration = sorted(calibration)
        self._random = random.Random(seed)
        self.highest = 1.0
        """The largest capital since the last beginning."""
        self._stakes: list[float] = []
        self._begin()

    @property
    def capital(self) -> float:
        """What a stake of 1 has become; 100 or more has a probability of 1 % at most while rows are exchangeable."""
        return sum(self._stakes)

    def add(self, uncertainties: Iterable[float]) -> None:
        """Bets on each of the rows in order."""
        for value in uncertainties:
            if len(self._seen) - len(self._calibration) >= _LONGEST:
                self._begin()
            below, upto = bisect_left(self._seen, value), bisect_right(self._seen, value)
            above, equal = len(self._seen) - upto, upto - below + 1
            p = (above + self._random.random() * equal) / (len(self._seen) + 1)
            insort(self._seen, value)
            self._bet(p)

    def _bet(self, p: float) -> None:
        total = self.capital
        mixed = [(1 - _JUMP) * stake + _JUMP * total / len(_BETS) for stake in self._stakes]
        stakes = [stake * (1 + bet * (p - 0.5)) for bet, stake in zip(_BETS, mixed, strict=True)]
        over = max(1.0, sum(stakes) / _MOST)  # such a capital says all there is to say
        self._stakes = [stake / over for stake in stakes]
        self.highest = max(self.highest, self.capital)

    def _begin(self) -> None:
        self._seen = list(self._calibration)
        self._stakes = [1 / len(_BETS)] * len(_BETS)
        self.highest = 1.0
