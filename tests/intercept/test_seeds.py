"""Keys: a function of (seed, draw, site), all different, and only integers are seeds."""

from __future__ import annotations

import pytest
import torch

from caveat._seeds import check_seed, draw_keys, mix, site_key
from caveat.errors import InvalidArgumentError


def test_splitmix_is_the_published_one() -> None:
    """The first numbers of splitmix64 seeded with 1234567, as its reference implementation gives them."""
    gamma, state = 0x9E3779B97F4A7C15, 1234567
    numbers = [mix((state + i * gamma) % 2**64) for i in range(3)]
    assert numbers == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_keys_of_draws_are_splitmix_on_the_draw() -> None:
    base = mix(mix(7) ^ 99)
    first, second = draw_keys(7, 99, torch.arange(5))
    for i in range(5):
        word = mix((base + (i - 1) * 0x9E3779B97F4A7C15) % 2**64)
        assert (int(first[i]) % 2**32, int(second[i]) % 2**32) == (word % 2**32, word >> 32)


def test_keys_do_not_repeat() -> None:
    words = set()
    for seed in (0, 1, -1, 2**40):
        for site in ("a", "b", "a.b"):
            for ordinal in (0, 1):
                first, second = draw_keys(seed, site_key(site, ordinal), torch.arange(500))
                words |= set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(words) == 4 * 3 * 2 * 500


def test_paths_and_ordinals_are_not_run_together() -> None:
    keys = {site_key(*parts) for parts in (("a1", 1), ("a", 11), ("a", 1, "rows"), ("a", 1), ("", 0), ("", 1))}
    assert len(keys) == 6


def test_draw_numbers_beyond_32_bits() -> None:
    first, _ = draw_keys(0, 1, torch.tensor([0, 2**32, 2**62]))
    assert len(set(first.tolist())) == 3


@pytest.mark.parametrize("seed", [1.0, None, "1", True, torch.Generator()])
def test_only_integers_are_seeds(seed: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Got: seed=.*(?s:.*)Fix"):
        check_seed(seed)  # type: ignore[arg-type]
