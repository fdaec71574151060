"""Keys for counter-based randomness: what draw ``i`` of site ``s`` under seed ``k`` hashes from.

A key is a function of (seed, draw, site) and of nothing else, so no generator carries state and no call depends
on the calls before it.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from caveat.errors import InvalidArgumentError

_WORD, _HIGHEST = (1 << 64) - 1, (1 << 63) - 1
# The increments and multipliers of splitmix64 ("Fast splittable pseudorandom number generators", Steele et al., 2014).
GAMMA, FIRST_64, SECOND_64 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def site_key(path: str, ordinal: int, stream: str = "") -> int:
    """A 64-bit key of the site named ``path``, of its ``ordinal``-th call in a pass, and of a named stream of it.

    Example:
        >>> site_key("head.0", 0) == site_key("head.0", 0)
        True
        >>> site_key("head.0", 0) == site_key("head.0", 1)
        False
    """
    digest = hashlib.blake2b(f"{path}\0{ordinal}\0{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def check_seed(seed: int) -> int:
    """``seed`` when it is an integer; raises ``InvalidArgumentError`` otherwise."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InvalidArgumentError(
            "seed must be an integer: draw i is a function of (seed, i).",
            got=f"seed={seed!r} ({type(seed).__name__})",
            cause="a generator or None was passed where caveat keeps no generator state",
            fix="pass an int such as seed=0",
        )
    return seed


def mix(word: int) -> int:
    """The finalizer of splitmix64 on one 64-bit word."""
    word = (word + GAMMA) & _WORD
    word = ((word ^ (word >> 30)) * FIRST_64) & _WORD
    word = ((word ^ (word >> 27)) * SECOND_64) & _WORD
    return word ^ (word >> 31)


def fold_in(seed: int, purpose: str, *numbers: int) -> int:
    """Returns the seed of a part of a computation: the one way to derive a seed from a seed.

    Args:
        seed: Any integer.
        purpose: Name of what the seed is for, so that two parts with the same numbers share no random numbers.
        numbers: Which use of it: a member, an epoch, a draw.

    Returns:
        A positive integer below 2^63.

    Example:
        >>> fold_in(0, "member", 1) == fold_in(0, "member", 1)
        True
        >>> len({fold_in(0, "member", 0), fold_in(0, "member", 1), fold_in(1, "member", 0), fold_in(0, "order", 0)})
        4
    """
    # The stream is that of training, whose seeds came first: results that were kept can be made again.
    word = mix((seed & _WORD) ^ site_key(purpose, 0, "train"))
    for number in numbers:
        word = mix(word ^ (number & _WORD))
    return word & _HIGHEST


def generator_of(seed: int, draw: int, stream: str) -> torch.Generator:
    """Returns a generator on the CPU for a draw, the same on every device."""
    return torch.Generator().manual_seed(fold_in(seed, stream, draw))


def draw_keys(seed: int, site: int, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Two int32 words for each draw.

    Args:
        seed: any integer.
        site: the site's key, from ``site_key``.
        draws: (S,) int64, the indices of the draws (or of pairs of draw and row).

    Returns:
        Two (S,) int32 tensors on the device of ``draws``.

    Example:
        >>> a, b = draw_keys(0, 1, torch.arange(3))
        >>> a.dtype, a.shape
        (torch.int32, torch.Size([3]))
    """
    base = signed(mix(mix(seed & _WORD) ^ site))
    word = draws * signed(GAMMA) + base
    word = (word ^ _shift(word, 30)) * signed(FIRST_64)
    word = (word ^ _shift(word, 27)) * signed(SECOND_64)
    word = word ^ _shift(word, 31)
    return _low_word(word), _low_word(_shift(word, 32))


def _shift(word: Tensor, by: int) -> Tensor:
    # Torch shifts int64 arithmetically; the mask makes it the logical shift that the hash is defined with.
    return (word >> by) & ((1 << (64 - by)) - 1)


def _low_word(word: Tensor) -> Tensor:
    low = word & 0xFFFFFFFF
    return torch.where(low >= 1 << 31, low - (1 << 32), low).to(torch.int32)


def signed(word: int) -> int:
    """A word of 64 bits as int64 holds it."""
    return word - (1 << 64) if word >= 1 << 63 else word
