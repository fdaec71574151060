"""Dense networks that index, write into, branch on and route the tensors around their dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..entry import Entry, entry, flags, normal


class Residual(nn.Module):
    """``x += drop(h)``: an in-place sum onto what carries no draw axis yet."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()) for _ in range(2)
        )
        self.drop = nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x += self.drop(block(x))
        return x


class Reshaped(nn.Module):
    """Views, permutes and chunks between a dropout and its use."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(6, 24), nn.Linear(8, 4), nn.Dropout(0.3, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.a(x)).view(x.size(0), 3, 8).transpose(1, 2).contiguous().permute(0, 2, 1)
        first, rest = h[:, 0], h[:, 1:].reshape(x.shape[0], -1)
        left, right = rest.chunk(2, dim=-1)
        return self.b(torch.cat([first[:, :4], left[..., 4:] * right[..., :4]], -1)).squeeze().view(-1, 4)


class Assigned(nn.Module):
    """Slices of a fresh tensor are written with dropped values."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(5, 6), nn.Linear(6, 4), nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        out = torch.zeros(x.shape[0], 6, dtype=h.dtype, device=h.device)
        out[:, :3] = self.drop(h)[:, :3]
        out[:, 3:] = h[:, 3:]
        h[:, 0] = 0.5
        return self.b(out) + h[:, :4]


class Einsum(nn.Module):
    """A bilinear form by einsum, with dropout on both of its sides."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 6), nn.Linear(5, 7)
        self.core, self.drop = nn.Parameter(torch.randn(6, 7, 4) * 0.4), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,ijk,bj->bk", self.drop(self.left(x)), self.core, self.drop(self.right(x)))


class Branching(nn.Module):
    """Control flow on values: on the input's before the first site, and on a drawn one after it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(5, 12), nn.Linear(12, 4), nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if x.abs().max().item() < 50:
            h = torch.tanh(h)
        h = self.drop(h)
        if bool(torch.isfinite(h).all()):
            return self.b(h)
        raise FloatingPointError("the hidden layer is not finite")


class Experts(nn.Module):
    """Mixture of experts: each expert drops out on the rows that were routed to it, a part of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(5, 2)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Dropout(0.4), nn.Linear(12, 4)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(-1)
        out = x.new_zeros(x.shape[0], 4)
        for e, expert in enumerate(self.experts):
            (at,) = torch.where(chosen == e)
            out.index_add_(0, at, expert(x[at]))
        return out


class Checkpointed(nn.Module):
    """The body runs under activation checkpointing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Dropout(0.4))
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(checkpoint(self.body, x, use_reentrant=False))


X = normal(5)

ENTRIES: list[Entry] = [
    entry("tensor_residual_inplace", Residual, X, 2),
    entry("tensor_views", Reshaped, normal(6), 1),
    entry("tensor_slice_assignment", Assigned, X, 1),
    entry("tensor_einsum", Einsum, X, 2),
    entry("tensor_branching_on_values", Branching, X, 1),
    entry("tensor_checkpoint", Checkpointed, X, 1, reference=flags()),
    entry(
        "tensor_experts",
        Experts,
        X,
        2,
        rows=False,
        quirk="an expert sees a part of the batch, whose rows it cannot name",
    ),
]
