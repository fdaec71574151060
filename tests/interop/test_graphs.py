"""torch_geometric's graphs and transformers' encodings as inputs, beside a plain loop over torch's dropout."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat.errors import NothingRandomError, RowsNotSeparatedWarning

JIT = "ignore:.*torch.jit.* is deprecated"  # torch_geometric still scripts parts of itself
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings(JIT)]


def ring(nodes: int, seed: int = 0) -> Any:
    from torch_geometric.data import Data

    there = torch.stack((torch.arange(nodes), (torch.arange(nodes) + 1) % nodes))
    x = torch.randn(nodes, 4, generator=torch.Generator().manual_seed(seed))
    return Data(x=x, edge_index=torch.cat((there, there.flip(0)), 1), y=torch.arange(nodes) % 3)


def network(kind: str, whole_graphs: bool, rate: float = 0.5) -> nn.Module:
    """Convolutions with dropout between them, attention with dropout in it, or edges dropped."""
    from torch_geometric.nn import GATConv, GCNConv, global_mean_pool
    from torch_geometric.utils import dropout_edge

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = GATConv(4, 8, heads=2, dropout=rate) if kind == "attention" else GCNConv(4, 16)
            self.leave = GCNConv(16, 3)

        def forward(self, data: Any) -> Tensor:
            edges = data.edge_index
            if kind == "edges":
                edges, _ = dropout_edge(edges, p=rate, training=self.training)
            h = self.enter(data.x, edges).relu()
            if kind == "nodes":
                h = F.dropout(h, rate, self.training)
            h = self.leave(h, edges)
            return global_mean_pool(h, data.batch) if whole_graphs else h

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network().eval()


def loop(model: nn.Module, data: Any, n: int) -> Tensor:
    twin = copy.deepcopy(model).train()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        return torch.stack([twin(data).softmax(-1) for _ in range(n)])


@pytest.mark.parametrize("whole_graphs", [False, True])
@pytest.mark.parametrize("kind", ["nodes", "attention", "edges"])
def test_graph_networks_are_those_of_a_plain_loop(kind: str, whole_graphs: bool) -> None:
    from torch_geometric.data import Batch

    data = Batch.from_data_list([ring(4), ring(5, 1), ring(6, 2)]) if whole_graphs else ring(7)
    tensors = {name: (value, value.clone()) for name, value in data if isinstance(value, Tensor)}
    model = network(kind, whole_graphs)
    state, n = copy.deepcopy(model.state_dict()), 400 if kind == "edges" else 1500
    with pytest.warns(RowsNotSeparatedWarning, match="no axis behaves as a batch"):
        pred = caveat.predict(caveat.mc_dropout(model, output=caveat.Logits()), data, n)
    truth = loop(model, data, 1500)
    assert pred.mean.shape == ((3, 3) if whole_graphs else (7, 3))
    error = truth.std(0) * (1 / n + 1 / 1500) ** 0.5
    assert ((pred.mean - truth.mean(0)) / error).abs().max() < 4.5
    torch.testing.assert_close(pred.variance.sqrt(), truth.std(0), rtol=0.25 if kind == "edges" else 0.15, atol=1e-4)
    assert not any(part.training for part in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(data[name] is held and torch.equal(held, was) for name, (held, was) in tensors.items())


@pytest.mark.filterwarnings("ignore::caveat.errors.RowsNotSeparatedWarning")
def test_batches_come_from_the_loader_of_graphs() -> None:
    from torch_geometric.loader import DataLoader

    sampler = caveat.mc_dropout(network("nodes", True), output=caveat.Logits())
    loader = DataLoader([ring(nodes) for nodes in (4, 5, 6)], batch_size=2)
    assert [pred.mean.shape[0] for pred in caveat.predict_batches(sampler, loader, 5)] == [2, 1]
    with pytest.raises(NothingRandomError):
        caveat.predict(caveat.mc_dropout(network("nodes", False, rate=0.0), output=caveat.Logits()), ring(4))


def test_an_encoding_is_keyword_arguments() -> None:
    transformers = pytest.importorskip("transformers")

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head, self.drop = nn.Embedding(20, 8), nn.Linear(8, 3), nn.Dropout(0.3)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            h = self.drop(self.words(input_ids)) * attention_mask[..., None]
            return self.head(h.sum(1) / attention_mask.sum(1, keepdim=True))

    ids = torch.randint(0, 20, (5, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([7, 5, 3, 6, 7])[:, None]).long()
    sampler = caveat.mc_dropout(Reads(), output=caveat.Logits())
    pred = caveat.predict(sampler, transformers.BatchEncoding({"input_ids": ids, "attention_mask": mask}), 20)
    assert torch.equal(pred.mean, caveat.predict(sampler, (ids, mask), 20).mean)
