"""Masks from a counter-based generator: a hash of (seed, draw, site, element) in integer arithmetic.

No generator state, so draw ``i`` is the same whatever was drawn before it, in whatever chunk, on whatever device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor

from caveat._intercept._sites import SiteKey
from caveat._seeds import draw_keys, site_key

# Multipliers of the 32-bit finalizer "lowbias32" (Chris Wellons, "Prospecting for hash functions", 2018).
FIRST_32, SECOND_32 = 0x7FEB352D, 0x846CA68B - (1 << 32)
_STEP = -1640531527  # 2^32 over the golden ratio
_AXES = site_key("", 0, "axes")
# Masks of small sites are made for many draws at once: about this many elements, which stay in the cache.
_BLOCK_ELEMENTS = 1 << 16
# What all blocks that are held for later may take.
_HELD_BYTES = 32 << 20
Shape = int | tuple[int, ...]
"""The shape of a draw's numbers: a mask of a row, or only how many there are."""

Start = tuple[int, ...]
"""The coordinates at which a tensor begins within a longer one, as many as it has axes; () for its own beginning."""

# What a held block is of: a site, its shape, and what is made of them.
_Name = tuple[SiteKey, Shape, Hashable]


def counters(shape: Shape, device: torch.device, start: Start = ()) -> Tensor:
    """One int32 word for each element of a shape, (E,), from its coordinates and not from its place in memory.

    So a longer tensor extends a shorter one along any axis: a row's numbers do not depend on how far it is padded.
    Along the last axis words are multiples of an odd number; along others they are hashed, 0 for the first entry.
    """
    return (_counters if elements_of(shape) <= _BLOCK_ELEMENTS else _counters.__wrapped__)(shape, device, start)


@lru_cache(maxsize=256)
def _counters(shape: Shape, device: torch.device, start: Start) -> Tensor:
    sizes = (shape,) if isinstance(shape, int) else shape
    first = (*reversed(start), *[0] * (len(sizes) - len(start)))
    words = torch.zeros((), dtype=torch.int32, device=device)
    for axis, size in enumerate(reversed(sizes)):  # counted from the end: axes of one entry in front change nothing
        words = words + words_along(axis, size, device, first[axis]).reshape(-1, *(1,) * axis)
    return words.to(torch.int32).reshape(-1)


def words_along(axis: int, size: int, device: torch.device, first: int = 0) -> Tensor:
    """What each of ``size`` coordinates from ``first`` on adds to a word, along ``axis``, the last one as 0: int32."""
    places = torch.arange(first, first + size, device=device)
    return places.to(torch.int32) * _STEP if axis == 0 else draw_keys(axis, _AXES, places)[0] * (places > 0)


def random_bits(keys: tuple[Tensor, Tensor], shape: Shape, start: Start = ()) -> Tensor:
    """Uniform random 32-bit words, one for each (key, element).

    Args:
        keys: two (S,) int32 tensors, from ``caveat._seeds.draw_keys``.
        shape: of a draw's E elements.
        start: where they begin in a longer tensor.

    Returns:
        (S, E) int32, uniform over [-2^31, 2^31).
    """
    first, second = keys
    word = counters(shape, first.device, start)[None, :] + first[:, None]
    shifted = (word >> 16).bitwise_and_(0xFFFF)
    word.bitwise_xor_(shifted).mul_(FIRST_32).bitwise_xor_(second[:, None])
    torch.bitwise_right_shift(word, 15, out=shifted)
    word.bitwise_xor_(shifted.bitwise_and_(0x1FFFF)).mul_(SECOND_32)
    torch.bitwise_right_shift(word, 16, out=shifted)
    return word.bitwise_xor_(shifted.bitwise_and_(0xFFFF))


def uniform_from_bits(bits: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers in (0, 1) from int32 words: the middle of one of 2^24 equal cells (2^32 in float64)."""
    if dtype == torch.float64:
        return (bits.to(dtype) + (2.0**31 + 0.5)) * 2.0**-32
    cells = (bits >> 8).to(torch.float32) + 2.0**23
    return ((cells + 0.5) * 2.0**-24).clamp_(max=1 - 2.0**-24)


def threshold(rate: float) -> int:
    """The int32 word below which an element is dropped, at a resolution of 2^-32."""
    return min(round(rate * 2.0**32), 2**32 - 1) - 2**31


@dataclass(frozen=True)
class Make:
    """How booleans (True: kept) become what a site uses; ``name`` tells one way from another."""

    name: Hashable
    of: Callable[[Tensor], Tensor]


@lru_cache(maxsize=256)
def multipliers(rate: float, dtype: torch.dtype) -> Make:
    """Inverted dropout's: 1 / (1 - rate) where kept, else 0, in a dtype that holds it exactly enough."""
    wide = dtype if dtype in (torch.float32, torch.float64) or dtype.is_complex else torch.float32
    return Make((rate, dtype), lambda keep: keep.to(wide).mul_(1.0 / (1.0 - rate)))


@dataclass
class MaskSource:
    """The randomness of one call: masks of any site for any range of draws.

    ``strata=K`` makes each element's uniforms a Latin hypercube over blocks of K draws ("A Comparison of Three
    Methods for Selecting Values of Input Variables in the Analysis of Output from a Computer Code", McKay, Beckman,
    Conover, 1979): in each block an element is dropped in a fraction of draws as near its rate as K allows.

    ``starts`` says where a site's tensor begins within the one that it is a part of, as in decoding token by token.
    """

    seed: int
    strata: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    starts: Callable[[SiteKey, Shape], Start] | None = None
    _blocks: dict[_Name, tuple[range, Tensor]] = field(default_factory=dict[_Name, tuple[range, Tensor]])

    def masks(self, site: SiteKey, shape: Shape, rate: float, draws: range, make: Make) -> Tensor:
        """``make.of`` which elements of ``shape`` are kept: (S, E), for the consecutive ``draws``."""
        name = (site, shape, make.name)
        known, block = self._blocks.get(name, (range(0), None))
        if block is None or draws.start < known.start or draws.stop > known.stop:
            # What was asked for once may be all; who comes again comes more often.
            length = len(draws) if block is None else max(len(draws), _BLOCK_ELEMENTS // max(elements_of(shape), 1))
            known = range(draws.start, draws.start + length)
            block = make.of(self._keep(site, shape, rate, known))
            self._remember(name, known, block)
        return block[draws.start - known.start : draws.stop - known.start]

    def _remember(self, name: _Name, draws: range, block: Tensor) -> None:
        """Hold a block for the next chunk of draws or of rows, unless the blocks held are large already."""
        self._blocks.pop(name, None)
        if self._held_bytes() + block.nbytes <= _HELD_BYTES:
            self._blocks[name] = (draws, block)

    def without_blocks_over(self, most_bytes: int) -> MaskSource:
        """This source, or one that holds no masks where those take more."""
        held = self._held_bytes()
        return self if held <= most_bytes else MaskSource(self.seed, self.strata, self.device, self.starts)

    def _held_bytes(self) -> int:
        return sum(block.nbytes for _, block in self._blocks.values())

    def _keep(self, site: SiteKey, shape: Shape, rate: float, draws: range) -> Tensor:
        if self.strata is not None:
            return self._stratified(site, shape, draws) >= rate
        keys = draw_keys(self.seed, site_key(site.path, site.ordinal), self._indices(draws))
        return random_bits(keys, shape, self._start(site, shape)) >= threshold(rate)

    def masks_by_row(
        self, site: SiteKey, shape: Shape, rate: float, draws: range, rows: Tensor, make: Make
    ) -> Tensor:
        """Fresh masks for each row: (S, B, E). ``rows`` (B,) int64 are the rows' numbers."""
        key = site_key(site.path, site.ordinal, "rows")
        pairs = (self._indices(draws)[:, None] * (1 << 32) + rows[None, :]).reshape(-1)
        keep = random_bits(draw_keys(self.seed, key, pairs), shape, self._start(site, shape)) >= threshold(rate)
        return make.of(keep.reshape(len(draws), len(rows), -1))

    def uniform(self, site: SiteKey, shape: Shape, draws: range, dtype: torch.dtype) -> Tensor:
        """Uniform numbers in (0, 1): (S, E)."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        if self.strata is not None:
            return self._stratified(site, shape, draws).to(wide)
        keys = draw_keys(self.seed, site_key(site.path, site.ordinal), self._indices(draws))
        return uniform_from_bits(random_bits(keys, shape, self._start(site, shape)), wide)

    def _stratified(self, site: SiteKey, shape: Shape, draws: range) -> Tensor:
        assert self.strata is not None
        elements = elements_of(shape)
        first, last = draws.start // self.strata, (draws.stop - 1) // self.strata
        whole = self._indices(range(first * self.strata, (last + 1) * self.strata))
        start = self._start(site, shape)
        order = random_bits(draw_keys(self.seed, site_key(site.path, site.ordinal, "strata"), whole), shape, start)
        jitter = random_bits(draw_keys(self.seed, site_key(site.path, site.ordinal), whole), shape, start)
        # Sorting random words gives each element its own random order of the strata of a block.
        stratum = order.reshape(-1, self.strata, elements).argsort(dim=1, stable=True).reshape(len(whole), elements)
        # Divided by a tensor: by a number, a GPU multiplies with the inverse, which rounds otherwise.
        size = torch.full((), float(self.strata), device=self.device)
        uniform = (stratum.to(torch.float32) + uniform_from_bits(jitter)) / size
        return uniform.narrow(0, draws.start - first * self.strata, len(draws))

    def _start(self, site: SiteKey, shape: Shape) -> Start:
        return () if self.starts is None else self.starts(site, shape)

    def _indices(self, draws: range) -> Tensor:
        return torch.arange(draws.start, draws.stop, device=self.device)


def uniform_by_row(
    source: MaskSource, key: SiteKey, one: tuple[int, ...], draws: range, rows: Tensor, dtype: torch.dtype
) -> Tensor:
    """Uniform numbers of each row's own, (S, B, E): the row is one coordinate more."""
    count = int(rows.max()) + 1
    numbers = source.uniform(key, (count, *one), draws, dtype).reshape(len(draws), count, -1)
    return numbers[:, rows]


def normal_from_uniform(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones, by the inverse of the normal distribution function."""
    return cast(Tensor, torch.special.ndtri(uniform))


def elements_of(shape: Shape) -> int:
    """The number of elements of a tensor of this shape."""
    return shape if isinstance(shape, int) else math.prod(shape)
