"""Sparse and nested tensors have no rows that can be taken: they go along whole, or an error says why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
DENSE = torch.eye(5) + torch.eye(5).roll(1, 0)
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": Tensor.to_sparse, "csr": Tensor.to_sparse_csr, "csc": Tensor.to_sparse_csc,
}  # fmt: skip


class Graph(nn.Module):
    """A graph convolution, whose neighbors are an input or a buffer."""

    def __init__(self, neighbors: Tensor | None = None, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 3)
        self.register_buffer("neighbors", neighbors)

    def forward(self, x: Tensor, neighbors: Tensor | None = None) -> Tensor:
        held = self.neighbors if neighbors is None else neighbors
        return self.last(held @ self.drop(torch.relu(self.first(x))))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["input", "buffer"])
@pytest.mark.filterwarnings("ignore::caveat.errors.RowsNotSeparatedWarning", "ignore:Sparse:UserWarning")
def test_sparse_neighbors_give_the_draws_of_dense_ones(layout: str, place: str) -> None:
    def drawn(neighbors: Tensor) -> list[Tensor]:
        model, x = (Graph().eval(), (X, neighbors)) if place == "input" else (Graph(neighbors).eval(), X)
        sampler = caveat.mc_dropout(model, output=caveat.Mean())
        members = caveat.ensemble([model, Graph(model.neighbors, seed=1).eval()], output=caveat.Mean())
        caveat.audit(model, x)
        return [caveat.draws(sampler, x, 6), caveat.draws(sampler, x, 6), caveat.predict(members, x).mean]

    for sparse, dense in zip(drawn(LAYOUTS[layout](DENSE)), drawn(DENSE), strict=True):
        torch.testing.assert_close(sparse, dense)


def test_rows_beside_a_sparse_input_that_all_share_are_told_apart() -> None:
    class Shared(Graph):
        def forward(self, x: Tensor, neighbors: Any = None) -> Tensor:
            return self.last(self.drop(torch.relu(self.first(x @ neighbors.to_dense()))))

    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    sampler = caveat.mc_dropout(Shared().eval(), output=caveat.Mean())
    shared = torch.eye(4).to_sparse()
    torch.testing.assert_close(
        caveat.draws(sampler, (x, shared), 3)[:, 2:3], caveat.draws(sampler, (x[2:3], shared), 3)
    )


def test_a_batch_axis_of_a_sparse_input_is_refused() -> None:
    sampler = caveat.mc_dropout(Graph().eval(), output=caveat.Mean(), in_dims=0)
    with pytest.raises(caveat.errors.InvalidArgumentError, match="sparse"):
        caveat.draws(sampler, (X, DENSE.to_sparse()), 3)


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
def test_a_nested_tensor_at_a_site_is_named(layout: torch.layout) -> None:
    x = torch.nested.nested_tensor([torch.randn(length, 4) for length in (3, 6)], layout=layout)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)).eval()
    with pytest.raises(caveat.errors.InvalidArgumentError, match="nested tensor at site '1'"):
        caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 3)
