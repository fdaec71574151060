"""Transforms within the forward: torch.vmap with randomness of its own, gradients, and other modes."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..situation import Situation, normal, situation


class Mapped(nn.Module):
    """One block over an axis of the input: steps, heads or rows."""

    def __init__(self, axis: int, randomness: str, by_hand: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.by_hand = nn.Linear(4, 12), nn.Linear(12, 3), by_hand
        self.over = {"in_dims": axis, "out_dims": axis, "randomness": randomness}

    def block(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if not self.by_hand:
            h = F.dropout(h, 0.4, self.training)
        elif self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6
        return self.b(h)

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(self.block, **self.over)(x)


class MappedModule(Mapped):
    """The block ends in a dropout module, and steps are added up, so that one mask for all would show."""

    def __init__(self, axis: int, randomness: str) -> None:
        super().__init__(axis, randomness)
        self.drop = nn.Dropout(0.4)

    def block(self, x: Tensor) -> Tensor:
        return self.b(self.drop(torch.relu(self.a(x))))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum(1)


class MappedTwice(Mapped):
    """Over steps and, within, over heads."""

    def __init__(self, outer: str, inner: str) -> None:
        super().__init__(1, outer)
        self.inner = inner

    def block(self, x: Tensor) -> Tensor:
        return torch.vmap(super().block, in_dims=1, out_dims=1, randomness=self.inner)(x)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum((1, 2))


class Members(nn.Module):
    """A functional ensemble: stacked weights of one network, under one vmap."""

    def __init__(self, randomness: str) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(3, 16, 4) * 0.5), nn.Linear(16, 2)
        self.randomness = randomness

    def forward(self, x: Tensor) -> Tensor:
        def member(weight: Tensor) -> Tensor:
            return self.head(F.dropout(torch.tanh(x @ weight.T), 0.4, self.training))

        return torch.vmap(member, randomness=self.randomness, out_dims=1)(self.weight).mean(1)


class Forces(nn.Module):
    """An energy of positions and its gradient, as force fields give them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.enter, self.drop, self.leave, self.how = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 1), how

    def energy(self, x: Tensor) -> Tensor:
        return self.leave(self.drop(torch.tanh(self.enter(x)))).squeeze(-1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.how == "func":
            return {"forces": -torch.func.grad(lambda at: self.energy(at).sum())(x)}
        if self.how == "vmap of func":
            force = torch.vmap(torch.func.grad(self.energy), randomness="different")
            return {"forces": -force(x)}
        if self.how == "jacobian":
            return {"forces": -torch.func.jacrev(lambda at: self.energy(at).sum())(x)}
        if self.how == "requires_grad_":
            x.requires_grad_(True)
            energy = self.energy(x)
            return {"forces": -torch.autograd.grad(energy.sum(), x, create_graph=self.training)[0], "energy": energy}
        if self.how == "as it is":
            x = x.detach().requires_grad_(True)
            energy = self.energy(x)
            return {"forces": -torch.autograd.grad(energy.sum(), x)[0], "energy": energy}
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            energy = self.energy(x)
            forces = -torch.autograd.grad(energy.sum(), x, create_graph=True)[0]
        return {"forces": forces, "energy": energy}


def energy_and_forces(returned: dict[str, Tensor]) -> Tensor:
    return torch.cat([returned["forces"], returned["energy"][:, None]], -1)


class Frozen(nn.Module):
    """A trunk without gradients, or in inference mode, whose dropout counts as any other's."""

    def __init__(self, inference: bool) -> None:
        super().__init__()
        self.trunk, self.head = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4)), nn.Linear(16, 3)
        self.inference = inference

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode() if self.inference else torch.no_grad():
            h = self.trunk(x)
        return self.head(h.clone())


class Implicit(nn.Module):
    """A fixed point by gradient steps on an energy that has dropout: gradients at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, 1))

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 2)
        with torch.enable_grad():
            for _ in range(2):
                state = state.detach().requires_grad_(True)
                energy = self.f(torch.cat([x, state], -1)).sum()
                state = state - torch.autograd.grad(energy, state)[0]
        return state.detach()


STEPS = functools.partial(normal, 3, 4, 4)
POINTS = functools.partial(normal, 3, 4)


def mapped(name: str, build: Any, inputs: Any = STEPS, **rest: Any) -> Situation:
    return situation(f"vmap_{name}", build, inputs, **rest)


SITUATIONS: list[Situation] = [
    *(
        mapped(
            f"{way}_over_{what}",
            lambda axis=axis, way=way: Mapped(axis, way),
            fold=1 if (way, axis) == ("same", 0) else 10,
        )
        for way in ("different", "same")
        for what, axis in (("rows", 0), ("steps", 1))
    ),
    *(
        mapped(f"{way}_then_sum", lambda way=way: MappedModule(1, way), draws=4500, fold=10)
        for way in ("different", "same")
    ),
    mapped("different_by_hand", lambda: Mapped(1, "different", by_hand=True), fold=10),
    mapped("different_over_rows_by_hand", lambda: Mapped(0, "different", by_hand=True), fold=10),
    mapped("different_over_heads", lambda: Mapped(2, "different"), lambda: normal(3, 2, 3, 4), fold=10),
    *(
        mapped(
            f"twice_{outer}_{inner}",
            lambda outer=outer, inner=inner: MappedTwice(outer, inner),
            lambda: normal(3, 2, 3, 4),
            draws=4500,
            fold=10,
        )
        for outer in ("different", "same")
        for inner in ("different", "same")
    ),
    *(
        mapped(f"members_{way}", lambda way=way: Members(way), POINTS, draws=4500, fold=10)
        for way in ("different", "same")
    ),
    situation("forces_by_func_grad", lambda: Forces("func"), POINTS, select="forces", fold=10),
    situation("forces_by_func_jacrev", lambda: Forces("jacobian"), POINTS, select="forces", fold=10),
    situation("forces_with_enable_grad", lambda: Forces("enabled"), POINTS, select=energy_and_forces, fold=10),
    situation(
        "forces_without_enable_grad",
        lambda: Forces("as it is"),
        POINTS,
        select=energy_and_forces,
        gradient=True,
        fold=10,
    ),
    situation(
        "forces_that_mark_the_input",
        lambda: Forces("requires_grad_"),
        POINTS,
        select=energy_and_forces,
        gradient=True,
        fold=10,
    ),
    situation("gradient_steps_inside", Implicit, POINTS, draws=4500, fold=10),
    situation("trunk_without_gradients", lambda: Frozen(False), POINTS),
    situation("trunk_in_inference_mode", lambda: Frozen(True), POINTS),
]
