"""How many rows and draws go at once where all draws read the same large tensor: a rule on sizes, never on the clock.

A masked contraction (the contributions of a convolution's channels, summed by each draw's mask) reads the whole tensor
for every chunk of draws. A chunk of few draws is a product of a thin matrix, as fast as memory is and no faster. So the
rows are split until enough draws fit, and what a chunk makes stays in the processor's last cache.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# So many draws are taken together at least: with fewer, the time is that of reading the shared tensor again. Digit
# network, 31 images, AMD EPYC (1 MiB of L2, 32 MiB of L3), one thread: 4 draws take 1.4 times, 8 draws 1.15 times, and
# 16 draws as long as 32 (`python -m benchmarks.tiles --only digits`).
_DRAWS = 32
# A chunk's largest tensor takes such a part of the last cache: others hold what is read, what is made next, and the
# neighbors' data.
_PART_OF_CACHE = 8
# Wide outputs: rows are split until so many draws would fit; so many go together at most (a chunk is held twice: by the
# pass that is recorded, and by the program's own memory), in a chunk of at most so many bytes,
_FEW_DRAWS, _MANY_DRAWS, _WIDE_BYTES = 8, 5, 16 << 20
# of so many rows that few draws take no more than one draw of the batch, or this.
_LEAST_WIDE_BYTES = 8 << 20
# Weights that are so many times a row's largest tensor are what a pass of few rows spends its time on reading.
_HEAVY = 8
_SAID_BY_NOBODY = 16 << 20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Tile:
    """The numbers of rows and of draws that go at once."""

    rows: int
    draws: int


def choose_tile(rows: int, row_bytes: int, shared_bytes: int, allowed: int, cache: int) -> Tile | None:
    """The tile for draws that share a tensor; None where there is no such tensor, or too little memory.

    Args:
        rows: the number of rows of the batch.
        row_bytes: the largest tensor that one row of one draw makes.
        shared_bytes: what all draws of one row read, and is held for the whole batch.
        allowed: how large a tensor may be.
        cache: the size of the processor's last cache.
    """
    room = min(allowed, cache // _PART_OF_CACHE)
    fitting = room // (_DRAWS * row_bytes)
    if shared_bytes == 0 or rows * shared_bytes > allowed or fitting == 0:
        return None
    pieces = -(-rows // fitting)
    return Tile(-(-rows // pieces), _DRAWS)


@dataclass(frozen=True)
class Wide:
    """How a network is run whose largest tensor is what it returns, such as scores of a vocabulary or of pixels.

    So many ``rows`` are summarized apart from the others, lest a few draws of all be held. Where the weights are heavy
    a pass of few rows takes as long as they take to be read, so ``draws`` go together; None: as in any other network.
    """

    rows: int
    draws: int | None


def choose_wide(rows: int, row_bytes: int, output_bytes: int, weight_bytes: int, allowed: int) -> Wide | None:
    """The numbers of rows and draws that go together where a network's output is wide; None where it is not.

    Args:
        rows: the number of rows of the batch.
        row_bytes: the largest tensor that one row of one draw makes.
        output_bytes: what is read of one row of one draw.
        weight_bytes: the network's parameters.
        allowed: how large a tensor may be.
    """
    if 2 * output_bytes <= row_bytes:
        return None
    most = min(allowed, _WIDE_BYTES)
    chunk = min(most, max(_LEAST_WIDE_BYTES, rows * row_bytes))
    pieces = -(-rows // max(chunk // (_FEW_DRAWS * row_bytes), 1))
    heavy = weight_bytes >= _HEAVY * row_bytes
    return Wide(-(-rows // pieces), max(min(most // (rows * row_bytes), _MANY_DRAWS), 1) if heavy else None)


@lru_cache(maxsize=1)
def last_cache_bytes() -> int:
    """The size of the processor's last cache, as the system tells it; 16 MiB where it does not."""
    told = [size for _, size in caches()]
    return max(told, default=_SAID_BY_NOBODY)


def caches() -> list[tuple[str, int]]:
    """The processor's data caches with their sizes in bytes, the nearest first; empty where the system does not say."""
    if sys.platform == "darwin":
        return _from_sysctl()
    try:
        told = [tuple((at / name).read_text().strip() for name in ("level", "type", "size")) for at in _entries()]
    except OSError:
        return []
    return [(f"L{level}", _bytes(size)) for level, kind, size in told if kind != "Instruction"]


def _entries() -> list[Path]:
    return sorted(_CACHES.glob("index*"))


def _bytes(size: str) -> int:
    return int(size.rstrip("KMG")) * _UNITS.get(size[-1:], 1)


def _from_sysctl() -> list[tuple[str, int]]:
    found = list[tuple[str, int]]()
    for level, name in (("L1", "hw.l1dcachesize"), ("L2", "hw.l2cachesize"), ("L3", "hw.l3cachesize")):
        try:
            told = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        found += [(level, int(told.stdout))] if told.stdout.strip().isdigit() else []
    return found
