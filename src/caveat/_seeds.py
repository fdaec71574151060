"""Keys for counter-based randomness: what draw ``i`` of site ``s`` under seed ``k`` hashes from.

A key is a function of (seed, draw, site) and of nothing else, so no generator carries state and no call depends
on the calls before it.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from caveat.errors import InvalidArgumentError, explain

_WORD = (1 << 64) - 1
# The increments and multipliers of splitmix64 ("Fast splittable pseudorandom number generators", Steele et al., 2014).
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


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
            explain(
                "seed must be an integer: draw i is a function of (seed, i).",
                got=f"seed={seed!r} ({type(seed).__name__})",
                cause="a generator or None was passed where caveat keeps no generator state",
                fix="pass an int such as seed=0",
            )
        )
    return seed


def mix(word: int) -> int:
    """The finalizer of splitmix64 on one 64-bit word."""
    word = (word + _GAMMA) & _WORD
    word = ((word ^ (word >> 30)) * _FIRST) & _WORD
    word = ((word ^ (word >> 27)) * _SECOND) & _WORD
    return word ^ (word >> 31)


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
    base = _signed(mix(mix(seed & _WORD) ^ site))
    word = draws * _signed(_GAMMA) + base
    word = (word ^ _shift(word, 30)) * _signed(_FIRST)
    word = (word ^ _shift(word, 27)) * _signed(_SECOND)
    word = word ^ _shift(word, 31)
    return _low_word(word), _low_word(_shift(word, 32))


def _shift(word: Tensor, by: int) -> Tensor:
    # Torch shifts int64 arithmetically; the mask makes it the logical shift that the hash is defined with.
    return (word >> by) & ((1 << (64 - by)) - 1)


def _low_word(word: Tensor) -> Tensor:
    low = word & 0xFFFFFFFF
    return torch.where(low >= 1 << 31, low - (1 << 32), low).to(torch.int32)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word
