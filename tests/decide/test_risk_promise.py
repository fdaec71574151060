"""The promise of a risk, in simulated calibration sets: kept at every target, and not by answering little."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import binom

from caveat.decide import NoThresholdError, threshold_for_risk

SETS, ROWS, ERROR = 2000, 1000, 0.05
MOST_BROKEN = SETS * ERROR + 3 * math.sqrt(SETS * ERROR * (1 - ERROR))
WORLDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "few errors": lambda u: 0.002 + 0.6 * u**4,
    "many errors": lambda u: 0.01 + 0.4 * u**2,
    "uncertainty that hardly ranks": lambda u: 0.03 + 0.2 * u,
}
"""The chance of an error at a quantile of the uncertainty."""


def fixed_sequence(wrong: np.ndarray, target: float) -> int:
    """Rows kept by fixed-sequence testing over the 24 ranks, from the first at which no error would pass."""
    kept = 0
    for rank in (len(wrong) * step // 24 for step in range(1, 25)):
        if binom.cdf(0, rank, target) > ERROR:
            continue
        if binom.cdf(wrong[:rank].sum(), rank, target) > ERROR:
            break
        kept = rank
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("world", WORLDS)
def test_promise_is_kept_and_more_is_answered_than_in_sequence(world: str, target: float) -> None:
    chance, random = WORLDS[world], np.random.default_rng(7)
    broken, ours, theirs = 0, 0.0, 0.0
    for _ in range(SETS // 4):
        by = np.sort(random.random(ROWS))
        wrong = random.random(ROWS) < chance(by)
        theirs += fixed_sequence(wrong, target) / ROWS
        try:
            threshold = threshold_for_risk(torch.from_numpy(by), torch.from_numpy(wrong), target)
        except NoThresholdError:
            continue
        ours += threshold.coverage
        answered = np.linspace(0, min(threshold.value, 1.0), 401)
        broken += bool(chance(answered).mean() > target)
    sets = SETS // 4
    assert broken <= sets * ERROR + 3 * math.sqrt(sets * ERROR * (1 - ERROR))
    assert ours / sets >= theirs / sets - 0.002


@pytest.mark.slow
def test_a_risk_over_the_target_everywhere_is_rarely_called_kept() -> None:
    """The worst case: the uncertainty says nothing, and every threshold that is found breaks the promise."""
    random, broken = np.random.default_rng(11), 0
    for _ in range(SETS):
        by, wrong = random.random(600), random.random(600) < 0.1001
        try:
            broken += threshold_for_risk(torch.from_numpy(by), torch.from_numpy(wrong), 0.1).coverage > 0
        except NoThresholdError:
            continue
    assert broken <= MOST_BROKEN


def test_losses_may_be_an_array_or_a_list() -> None:
    by = torch.linspace(0, 1, 1000)
    wanted = threshold_for_risk(by, by > 0.7, 0.05)
    assert threshold_for_risk(by, (by > 0.7).numpy(), 0.05) == wanted
    assert threshold_for_risk(by, (by > 0.7).tolist(), 0.05) == wanted
