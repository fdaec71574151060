"""The randomness of training passes: masks hashed from (seed of the run, step, site, element).

Torch's own generator gives stacked members other masks than single runs. A hash gives a member the same masks
however it is trained, and a run that is resumed the masks that it would have had.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat import _dropping as dropping
from caveat._dropping import Shape, ShapeOf
from caveat._intercept import (
    RANDOM_FUNCTIONS,
    FunctionMode,
    Streams,
    as_draws,
    has_draws,
    place_of,
    random_bits,
    running_mode,
    uniform_from_bits,
    with_draws_first,
)
from caveat._random_numbers import dropped, uniform_numbers, wide
from caveat._seeds import draw_keys, mix, signed, site_key

_BLOCK = 1 << 16  # elements that are hashed at once: they stay in the cache
_HELD = 1 << 20  # elements of masks that are made ahead for the steps to come
_STRIDE = 0x5851F42D4C957F2D  # an odd number that spreads the steps over the words
_HALF = 1 << 15

Writer = Callable[[Tensor, slice, Tensor], None]


class Noise(FunctionMode):
    """Answers every call for randomness of the members' forward passes.

    Set ``level`` to vmap's while members run together; without it there is one member, the first of ``seeds``.
    ``rates`` holds, site by site, the rates of all members; ``seen`` notes those of a pass. Masks are made for up to
    ``ahead`` steps at a time, those of batches of the same size: ``sizes`` are those of an epoch's steps.
    ``constants`` are where generators stand whose numbers are the same in every pass, which ``streams`` finds.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        device: torch.device,
        rates: Sequence[Sequence[float]] = (),
        ahead: int = 64,
        sizes: Sequence[int] = (0,),
        constants: frozenset[bytes] = frozenset(),
        streams: Streams | None = None,
    ) -> None:
        super().__init__()
        self.constants, self.streams = constants, streams
        self.ahead, self.sizes = ahead, sizes
        self.words = torch.tensor([signed(mix(seed & ((1 << 64) - 1))) for seed in seeds], device=device)
        self.rates = rates
        self.level: int | None = None
        self.seen: list[float] = []
        self._step = self._site = 0
        self._held: dict[tuple[Any, ...], tuple[dict[int, int], Tensor]] = {}

    def begin(self, step: int, level: int | None = None) -> None:
        """A new pass: the masks are those of ``step``."""
        self._step, self._site, self.level, self.seen = step, 0, level, []

    def anew(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with the numbers of this pass, from the site on that comes next."""
        if self.level is not None:
            raise RuntimeError("a part is recomputed in the backward pass (torch.utils.checkpoint)")
        site = self._site

        def run(*args: Any, **kwargs: Any) -> Any:
            if running_mode() is self:
                return function(*args, **kwargs)
            reached, self._site = self._site, site
            try:
                with self:
                    return function(*args, **kwargs)
            finally:
                self._site = reached

        return run

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer, kwargs = _ANSWERS.get(func), kwargs or {}
        watched = self.constants or self.streams is not None
        if answer is None or (watched and func in _GENERATED and self._is_constant(kwargs.get("generator"))):
            return func(*args, **kwargs)
        return answer(self, func, *args, **kwargs)

    def _is_constant(self, generator: torch.Generator | None) -> bool:
        """Returns whether the numbers of the coming call are, or may be, the same in every pass."""
        if self.streams is not None:
            return self.streams.note(len(self.streams.states), generator)
        return place_of(generator, {self.words.device}) in self.constants

    def masks(self, rate: float, elements: int, *, scaled: bool) -> Tensor:
        """Masks of the next site: (M, elements) float32, 0 where dropped, else 1 or 1 / (1 - p) ``scaled``.

        A word serves two elements, so a rate is held to 2^-16.
        """
        self.seen.append(rate)
        rates = self.rates[self._site] if self._site < len(self.rates) else (rate,) * len(self.words)

        def writer(steps: int) -> Writer:
            marks = [min(round(rate * 2 * _HALF), 2 * _HALF - 1) - _HALF for rate in rates]
            # At rate 1 all is dropped, also where the largest word says that it is kept.
            factors = [0.0 if rate >= 1 else 1 / (1 - rate) if scaled else 1.0 for rate in rates]
            mark, factor = self._by_row(marks, torch.int16, steps), self._by_row(factors, torch.float32, steps)

            def write(bits: Tensor, rows: slice, out: Tensor) -> None:
                # Comparing into floats takes a fifth of the time of comparing and then converting.
                torch.ge(bits.view(torch.int16)[:, :elements], mark(rows), out=out).mul_(factor(rows))

            return write

        return self._numbers("keep", (elements + 1) // 2, elements, torch.float32, (tuple(rates), scaled), writer)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Uniform numbers in (0, 1) of this shape, as the running members see them."""
        made_in = wide(dtype)

        def write(bits: Tensor, rows: slice, out: Tensor) -> None:
            out.copy_(uniform_from_bits(bits, made_in))

        self.seen.append(0.0)  # no rate, but a site: the rates of the sites after it keep their places
        elements = math.prod(shape)
        numbers = self._numbers("uniform", elements, elements, made_in, (), lambda _: write)
        return self.of_member(numbers, shape).to(dtype)

    def uniform_like(self, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """As ``uniform``, of the shape of a tensor and as wide as its numbers are made."""
        return self.uniform(like.shape, wide(dtype or like.dtype))

    def assign(self, target: Tensor, value: Tensor) -> Tensor:
        """Write on a tensor of the network."""
        return target.copy_(value)

    def of_member(self, numbers: Tensor, shape: Sequence[int]) -> Tensor:
        """(M, elements) as the running members see it: a tensor of ``shape``."""
        if self.level is None:
            return numbers[0].view(tuple(shape))
        return as_draws(numbers.view(-1, *shape), self.level)

    def _by_row(self, values: Sequence[Any], dtype: torch.dtype, steps: int) -> Callable[[slice], Any]:
        """The members' values as one number if they agree, else those of some rows (step, member) of a block."""
        if len(set(values)) == 1:
            return lambda rows: values[0]
        whole = torch.tensor(values, dtype=dtype, device=self.words.device)[:, None].repeat(steps, 1)
        return lambda rows: whole[rows]

    def _numbers(
        self,
        stream: str,
        words: int,
        elements: int,
        dtype: torch.dtype,
        settings: Any,
        writer: Callable[[int], Writer],
    ) -> Tensor:
        """This step's (M, elements) at the next site; blocks of several steps are made at a time."""
        site, self._site = self._site, self._site + 1
        name = (site, stream, elements, dtype, settings)
        held = self._held.get(name)
        if held is None or self._step not in held[0]:
            steps = self._next_alike(max(1, min(self.ahead, _HELD // max(1, elements * len(self.words)))))
            places = {step: place for place, step in enumerate(steps)}
            block = torch.empty(len(steps) * len(self.words), elements, dtype=dtype, device=self.words.device)
            self._write(block, _key(site, stream), words, steps, writer(len(steps)))
            held = self._held[name] = (places, block.view(len(steps), len(self.words), elements))
        places, block = held
        return block[places[self._step]]

    def _next_alike(self, count: int) -> list[int]:
        """The number of steps from this one on whose batches are of its size."""
        size = self.sizes[self._step % len(self.sizes)]
        alike = (step for step in itertools.count(self._step) if self.sizes[step % len(self.sizes)] == size)
        return list(itertools.islice(alike, count))

    def _write(self, block: Tensor, site: int, words: int, steps: Sequence[int], write: Writer) -> None:
        """Fill a block, (steps * M, elements), in pieces that stay in the cache."""
        numbers = torch.tensor(steps, device=self.words.device)
        rows = (self.words[None, :] + numbers[:, None] * _STRIDE).reshape(-1)
        first, second = draw_keys(0, site, rows)
        size = max(1, _BLOCK // max(1, words))
        for start in range(0, len(rows), size):
            piece = slice(start, start + size)
            write(random_bits((first[piece], second[piece]), words), piece, block[piece])


@lru_cache(maxsize=4096)
def _key(site: int, stream: str) -> int:
    return site_key("training pass", site, stream)


# -- what is answered --------------------------------------------------------------------------------------------------


def _dropout(
    noise: Noise, func: Any, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    if not training:
        return func(input, p, training, inplace)
    _, mask_shape, alpha = dropping.KINDS[func]
    mask = _mask(noise, p, mask_shape(tuple(input.shape)), scaled=not alpha)
    result = dropping.drop_alpha(input, mask, p) if alpha else dropping.drop(input, mask)
    return input.copy_(result) if inplace else result


def _mask(noise: Noise, rate: float, shape: Shape, *, scaled: bool) -> Tensor:
    return noise.of_member(noise.masks(rate, math.prod(shape), scaled=scaled), shape)


def _dropped_of_layers(
    noise: Noise, func: Any, x: Tensor, shape_of: ShapeOf, kind: str, rate: float, training: bool, *more: Any, **m: Any
) -> Tensor:
    return dropping.drop(x, _mask(noise, rate, shape_of(tuple(x.shape)), scaled=True)) if training else x


def _uniform_of_layers(
    noise: Noise, func: Any, x: Tensor, shape_of: ShapeOf, kind: str, rate: float | Tensor, training: bool
) -> Tensor | None:
    return noise.uniform(shape_of(tuple(x.shape)), wide(x.dtype)) if training else None


def _alpha_dropout(
    noise: Noise, func: Any, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    return _dropout(noise, func, input, p, training, inplace)


def _random(noise: Noise, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    return RANDOM_FUNCTIONS[func](noise, func, args, kwargs)


def _linear(noise: Noise, func: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Where every member has its own weights and rows, one batched product; vmap's own way takes twice as long."""
    level = noise.level
    if level is None or not (has_draws(input, level) and has_draws(weight, level)) or input.dim() < 2:
        return func(input, weight, bias)
    if bias is not None and not has_draws(bias, level):
        return func(input, weight, bias)
    rows = with_draws_first(input)
    folded = rows if rows.dim() == 3 else rows.reshape(len(rows), -1, rows.shape[-1])
    product = linear_of_members(folded, with_draws_first(weight), None if bias is None else with_draws_first(bias))
    return as_draws(product if rows.dim() == 3 else product.view(*rows.shape[:-1], -1), level)


def linear_of_members(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer of each member on rows of its own: (M, B, I) to (M, B, O)."""
    matrix = weight.transpose(1, 2)
    return torch.bmm(rows, matrix) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, matrix)


def _cross_entropy(
    noise: Noise, func: Any, input: Tensor, target: Tensor, weight: Tensor | None = None, *args: Any, **settings: Any
) -> Tensor:
    """The plain case written out: vmap has no rule for torch's own, and runs it member by member."""
    others = [value for name, value in settings.items() if name not in ("ignore_index", "reduction")]
    plain = weight is None and not any((*args, *others)) and input.dim() == 2
    reduction = settings.get("reduction", "mean")
    if noise.level is None or not plain or target.is_floating_point() or reduction not in ("mean", "sum", "none"):
        return func(input, target, weight, *args, **settings)
    kept = target != settings.get("ignore_index", -100)
    scores = torch.log_softmax(input, -1).gather(-1, torch.where(kept, target, 0).unsqueeze(-1)).squeeze(-1)
    losses = torch.where(kept, -scores, 0.0)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / kept.sum()


_GENERATED = {
    *(torch.rand, torch.randn, torch.rand_like, torch.randn_like, torch.bernoulli),
    *(torch.Tensor.bernoulli, torch.Tensor.bernoulli_, torch.Tensor.uniform_, torch.Tensor.normal_),
}
"""Those that take a generator."""
_ANSWERS: dict[Any, Callable[..., Tensor | None]] = {
    F.dropout: _dropout,
    F.dropout1d: _dropout,
    F.dropout2d: _dropout,
    F.dropout3d: _dropout,
    F.alpha_dropout: _alpha_dropout,
    F.feature_alpha_dropout: _alpha_dropout,
    **dict.fromkeys(_GENERATED, _random),
    F.linear: _linear,
    F.cross_entropy: _cross_entropy,
    dropped: _dropped_of_layers,
    uniform_numbers: _uniform_of_layers,
}
