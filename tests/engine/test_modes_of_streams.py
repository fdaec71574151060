"""A stream that is a generator may turn gradients off while it runs; when the call ends they are on again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import caveat


class Drifting:
    """Draw i is x + i; its binding and its stream turn gradients off, as a yield within ``torch.no_grad()`` does."""

    output, size, strata = caveat.Mean(), None, None

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk

    @contextmanager
    def bind(self, x: Tensor, seed: int, **_: Any) -> Iterator[Any]:
        def stream(draws: range) -> Iterator[Tensor]:
            for start in range(draws.start, draws.stop, self.chunk):
                with torch.no_grad():
                    part = draws[start - draws.start : start - draws.start + self.chunk]
                    yield torch.stack([x + index for index in part])

        with torch.no_grad():
            yield stream


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_gradients_are_on_after_a_stream_that_turned_them_off(chunk: int) -> None:
    pred = caveat.predict(Drifting(chunk), torch.zeros(3, 1), n=4)  # pyright: ignore
    assert torch.is_grad_enabled()
    assert pred.mean.flatten().tolist() == [1.5, 1.5, 1.5]
    caveat.draws(Drifting(chunk), torch.zeros(3, 1), n=4)  # pyright: ignore
    assert torch.is_grad_enabled()
