"""A vectorized pass as a program that is played again for further draws: its inputs are the masks.

All chunks of a call run the same code: the inputs are the same, and vmap allows no decision on a value that differs
from draw to draw. So one chunk is recorded, and the chunks after it get fresh masks and play the operations. On small
networks Python takes several times as long as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._program import CannotRecordError, Program
from caveat._engine._recorder import Recorder
from caveat._engine._rewrites import Room, reuse_memory
from caveat._engine._sampler import Values
from caveat._intercept import Make, MaskSource, Shape, SiteKey

# So many elements that all draws share may be computed anew in each call. Where there are more, arithmetic takes the
# time and not Python.
_MOST_FIXED = 1 << 20
Recipe = Callable[..., Tensor]
"""A method of a mask source that lacks the source and its ``draws``."""


@dataclass(frozen=True)
class Tape:
    """The program of a chunk of ``length`` draws, and how its masks are made."""

    length: int
    recipes: list[Recipe]
    program: Program

    def play(self, source: MaskSource, draws: range) -> Values:
        """The values of other draws, as many as were recorded: (S, B, ...). The next run overwrites them."""
        return self.program.run(*[recipe(source, draws=draws) for recipe in self.recipes])


def record_tape(
    run: Callable[[MaskSource, range], Values],
    source: MaskSource,
    draws: range,
    room: Room,
    *,
    refreshable: bool = False,
) -> tuple[Values, Tape | None]:
    """The values of ``run``, and the tape of making them; None where it cannot be played for other draws.

    With ``refreshable``, its program can be refreshed for other values of the inputs and parameters, unless too much is
    computed from these alone.
    """
    with Recorder(refreshable=refreshable, most_fixed=_MOST_FIXED if refreshable else None) as recorder:
        listener = _Listener(source, recorder)
        values = run(cast(MaskSource, listener), draws)
    leaves, spec = pytree.tree_flatten(values)
    try:
        program = recorder.program(leaves)
    except CannotRecordError:
        return values, None
    reuse_memory(program, room)
    program.make_ready(recorder.fixed if refreshable else None, spec)
    return values, Tape(len(draws), listener.recipes, program)


class _Listener:
    """A mask source that tells the recorder what it was asked for: every run makes it afresh."""

    def __init__(self, source: MaskSource, recorder: Recorder) -> None:
        self._source, self._recorder, self.recipes = source, recorder, list[Recipe]()

    def _given(self, draws: range, recipe: Recipe) -> Tensor:
        with self._recorder.paused():
            made = recipe(self._source, draws=draws)
        self._recorder.add_input(made)
        self.recipes.append(recipe)
        return made

    def masks(self, site: SiteKey, shape: Shape, rate: float, draws: range, make: Make) -> Tensor:
        return self._given(draws, partial(MaskSource.masks, site=site, shape=shape, rate=rate, make=make))

    def masks_by_row(
        self, site: SiteKey, shape: Shape, rate: float, draws: range, rows: Tensor, make: Make
    ) -> Tensor:
        by_row = partial(MaskSource.masks_by_row, site=site, shape=shape, rate=rate, rows=rows, make=make)
        return self._given(draws, by_row)

    def uniform(self, site: SiteKey, shape: Shape, draws: range, dtype: torch.dtype) -> Tensor:
        return self._given(draws, partial(MaskSource.uniform, site=site, shape=shape, dtype=dtype))
