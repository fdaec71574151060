"""Turning: which way, how far, and what it leaves alone."""

from __future__ import annotations

import torch

from caveat.cli._demo._turn import FULL_TURN, rotate


def test_quarter_turns_are_exact_and_anticlockwise() -> None:
    image = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
    turned = rotate(image, (0, 90, 180, 270))
    for quarter, result in enumerate(turned):
        torch.testing.assert_close(result, torch.rot90(image, quarter, (1, 2)), atol=1e-4, rtol=0)


def test_a_full_turn_has_36_images_and_paper_comes_in_at_the_corners() -> None:
    turned = rotate(torch.ones(1, 28, 28))
    assert list(FULL_TURN) == list(range(0, 360, 10))
    assert turned.shape == (36, 1, 28, 28)
    assert float(turned[FULL_TURN.index(50), 0, 0, 0]) == 0
    assert float(turned[:, 0, 14, 14].min()) > 0.999
