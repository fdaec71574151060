"""Trials of batch axes look at their indices where an index out of range would cost the process its device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat._inputs import Axes
from caveat._intercept import _index_checks, _probe
from caveat._intercept._index_checks import IndexChecks, indices_checked

X = torch.arange(12.0).reshape(4, 3)
CALLS: dict[str, Callable[[Tensor], Any]] = {
    "x[i]": lambda i: X[i],
    "x[:, j, i]": lambda i: X.reshape(1, 3, 4)[:, torch.zeros_like(i), i],
    "x[mask, i]": lambda i: X.reshape(3, 1, 4)[torch.ones(3, 1, dtype=torch.bool)][torch.zeros_like(i), i],
    "write": lambda i: X.clone().__setitem__(i, 0.0),
    "index_select": lambda i: X.index_select(0, i),
    "gather": lambda i: X.T.gather(1, i[None].expand(3, -1)),
    "scatter_add": lambda i: torch.zeros(4).scatter_add(0, i, torch.ones(len(i))),
    "index_add": lambda i: torch.zeros(4, 3).index_add(0, i, torch.ones(len(i), 3)),
    "embedding": lambda i: F.embedding(i, X),
    "take": lambda i: torch.arange(4.0).take(i),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_an_index_out_of_range_is_seen_before_the_call(name: str) -> None:
    call = CALLS[name]
    with IndexChecks():
        call(torch.tensor([0, 3]))
        call(torch.tensor([], dtype=torch.int64))
        with pytest.raises(IndexError, match="seen before the call"):
            call(torch.tensor([0, 4]))


def test_indices_from_the_end_are_in_range() -> None:
    with IndexChecks():
        assert torch.equal(X[torch.tensor([-4, -1])], X[[0, 3]])
        with pytest.raises(IndexError, match="seen before the call"):
            X[torch.tensor([-5])]


def test_indices_are_looked_at_only_beside_rows_and_off_the_cpu() -> None:
    edges, gpu = torch.tensor([[0, 1], [1, 2]]), torch.device("cuda")
    assert isinstance(indices_checked(((X, edges), {}), Axes((0, None)), gpu), IndexChecks)
    assert isinstance(indices_checked(((X, edges), {}), Axes((0, None)), torch.device("cpu")), nullcontext)
    assert isinstance(indices_checked(((X, edges), {}), Axes((0, 0)), gpu), nullcontext)
    assert isinstance(indices_checked(((X, X), {}), Axes((0, None)), gpu), nullcontext)


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave, self.drop = nn.Linear(3, 8), nn.Linear(8, 2), nn.Dropout(0.5)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = self.drop(torch.relu(self.enter(x)))
        return self.leave(h.index_add(0, edges[1], h[edges[0]]))


@pytest.mark.filterwarnings("ignore::caveat.errors.RowsNotSeparatedWarning")
def test_what_is_found_is_the_same_with_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks are put in as on a GPU; that they were there is seen by what they raised."""
    model, raised = Graph().eval(), list[str]()
    inputs = X, torch.tensor([[0, 1, 2], [1, 2, 3]])
    plain = caveat.predict(caveat.mc_dropout(model, output=caveat.Logits()), inputs, 10).mean

    class Noted(IndexChecks):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            try:
                return super().__torch_dispatch__(func, types, args, kwargs)
            except IndexError as error:
                raised.append(str(error))
                raise

    def as_on_a_gpu(inputs: Any, axes: Axes, device: torch.device) -> Any:
        return Noted() if _index_checks._may_point_outside(inputs, axes) else nullcontext()

    monkeypatch.setattr(_probe, "indices_checked", as_on_a_gpu)
    checked = caveat.predict(caveat.mc_dropout(model, output=caveat.Logits()), inputs, 10).mean
    assert torch.equal(checked, plain)
    assert any("index" in one for one in raised)
