"""Masks written by hand behind ``self.training``, in classes of any name."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..situation import Situation, normal, situation

KEEP = 0.6


def bernoulli(h: Tensor) -> Tensor:
    return torch.bernoulli(torch.full_like(h, KEEP)) / KEEP


def bernoulli_rate(h: Tensor) -> Tensor:
    return torch.empty_like(h).bernoulli_(KEEP) / KEEP


def bernoulli_into(h: Tensor) -> Tensor:
    return torch.empty(h.shape).bernoulli_(KEEP).div_(KEEP)


def bernoulli_new(h: Tensor) -> Tensor:
    return h.new_empty(h.shape).bernoulli_(KEEP) / KEEP


def bernoulli_method(h: Tensor) -> Tensor:
    return h.new_full(h.shape, KEEP).bernoulli() / KEEP


def rand_like(h: Tensor) -> Tensor:
    return (torch.rand_like(h) > 1 - KEEP).to(h.dtype) / KEEP


def rand(h: Tensor) -> Tensor:
    return (torch.rand(h.shape, device=h.device) < KEEP).float() / KEEP


def rand_sizes(h: Tensor) -> Tensor:
    return torch.rand(h.size(0), h.size(1)).lt(KEEP).float().mul(1 / KEEP)


def floor(h: Tensor) -> Tensor:
    return torch.floor(KEEP + torch.rand(h.shape, dtype=h.dtype)) / KEEP


def uniform(h: Tensor) -> Tensor:
    return (torch.empty_like(h).uniform_() < KEEP) / KEEP


def uniform_bounds(h: Tensor) -> Tensor:
    return (h.new_zeros(h.shape).uniform_(-1.0, 1.0) < 2 * KEEP - 1) / KEEP


def gaussian(h: Tensor) -> Tensor:
    return 1 + 0.5 * torch.randn_like(h)


def gaussian_in_place(h: Tensor) -> Tensor:
    return torch.empty_like(h).normal_(1.0, 0.5)


def gaussian_sizes(h: Tensor) -> Tensor:
    return torch.normal(1.0, 0.5, size=h.shape)


def gaussian_moments(h: Tensor) -> Tensor:
    return torch.normal(torch.ones_like(h), torch.full_like(h, 0.5))


def distribution(h: Tensor) -> Tensor:
    return torch.distributions.Bernoulli(probs=torch.full_like(h, KEEP)).sample() / KEEP


def integers(h: Tensor) -> Tensor:
    return (torch.randint(0, 10, h.shape) < 10 * KEEP) / KEEP


def gumbel(h: Tensor) -> Tensor:
    scores = torch.tensor([KEEP, 1 - KEEP]).log().expand(*h.shape, 2)
    return F.gumbel_softmax(scores, hard=True)[..., 0] / KEEP


def one_for_all_rows(h: Tensor) -> Tensor:
    return torch.bernoulli(torch.full_like(h[:1], KEEP)) / KEEP


def without_a_row_axis(h: Tensor) -> Tensor:
    return (torch.rand(h.shape[-1]) < KEEP).float() / KEEP


def expanded(h: Tensor) -> Tensor:
    return h.new_empty(1, h.size(1)).bernoulli_(KEEP).div(KEEP).expand_as(h)


def of_the_type(h: Tensor) -> Tensor:
    return torch.bernoulli(torch.full((h.size(0), h.size(1)), KEEP, dtype=torch.float64)).type_as(h) / KEEP


def without_gradient(h: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.bernoulli(torch.full_like(h, KEEP)) / KEEP


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    f.__name__: f
    for f in (
        bernoulli,
        bernoulli_rate,
        bernoulli_into,
        bernoulli_new,
        bernoulli_method,
        rand_like,
        rand,
        rand_sizes,
        floor,
        uniform,
        uniform_bounds,
        gaussian,
        gaussian_in_place,
        gaussian_sizes,
        gaussian_moments,
        distribution,
        integers,
        gumbel,
        one_for_all_rows,
        without_a_row_axis,
        expanded,
        of_the_type,
        without_gradient,
    )
}


WITHOUT_ROWS = (one_for_all_rows, without_a_row_axis, expanded)
"""Masks that have no entry for each row."""


class Encoder(nn.Module):
    """A mask in the forward of a network that is called anything, beside an ordinary dropout or without."""

    def __init__(self, mask: Callable[[Tensor], Tensor], beside: bool) -> None:
        super().__init__()
        self.a, self.b, self.mask = nn.Linear(4, 16), nn.Linear(16, 3), mask
        self.drop = nn.Dropout(0.1) if beside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            h = h * self.mask(h)
        return self.b(self.drop(h))


class BesideNoise(nn.Module):
    """Noise that is drawn in eval mode, too, comes before the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x + 0.1 * torch.randn_like(x)))
        return self.b(h * bernoulli(h) if self.training else h)


class InAProductOfSums(nn.Module):
    """The mask is multiplied in by ``torch.einsum``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            h = torch.einsum("bf,bf->bf", h, bernoulli(h))
        return self.b(h)


class Regularizer(nn.Module):
    """A layer that returns early in eval mode, as most are written."""

    def __init__(self, rate: float = 0.4) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, h: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return h
        keep = 1 - self.rate
        return h * (torch.rand_like(h) < keep) / keep


class InAMethod(nn.Module):
    """The flag is read in forward, the mask is made two methods further down."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.b(self.thin(h) if self.training else h)

    def thin(self, h: Tensor) -> Tensor:
        return h * self.chosen(h.shape) / KEEP

    def chosen(self, shape: torch.Size) -> Tensor:
        return torch.bernoulli(torch.full(shape, KEEP))


class ReadsInAMethod(InAMethod):
    """The method reads the flag."""

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.thin(torch.relu(self.a(x))))

    def thin(self, h: Tensor) -> Tensor:
        return super().thin(h) if self.training else h


def thin(h: Tensor, rate: float, training: bool) -> Tensor:
    """A plain function that is given the flag."""
    if not training:
        return h
    return h * torch.empty_like(h).bernoulli_(1 - rate) / (1 - rate)


class GivesTheFlag(nn.Module):
    """Hands its flag to a plain function, at a call or from a partial one that it keeps."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)
        self.act = functools.partial(thin, rate=0.4) if keeps else None

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.b(self.act(h, training=self.training) if self.act else thin(h, 0.4, self.training))


class ReadsElsewhere(nn.Module):
    """The flag of a child, of a parent, or read by getattr."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.a, self.b, self.way = nn.Linear(4, 16), nn.Linear(16, 3), way

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        flag = self.a.training if self.way == "child" else getattr(self, "training", False)
        return self.b(h * bernoulli(h) if flag else h)


class KeepsItsMask(nn.Module):
    """A mask that is made once a pass, kept as an attribute, and used at each step."""

    mask: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head, self.mask = nn.GRUCell(4, 8), nn.Linear(8, 3), None

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 8)
        self.mask = torch.bernoulli(torch.full_like(h, KEEP)) / KEEP if self.training else None
        for step in x.unbind(1):
            h = self.cell(step, h if self.mask is None else h * self.mask)
        return self.head(h)


class OverSteps(nn.Module):
    """One mask for all steps of a row: (B, 1, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        if self.training:
            h = h * (h.new_empty(h.shape[0], 1, h.shape[2]).bernoulli_(KEEP) / KEEP)
        return self.b(h.cumsum(1))


class DroppedWeights(nn.Module):
    """DropConnect: the mask is on the weight and has no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.b.weight
        if self.training:
            weight = weight * torch.bernoulli(torch.full_like(weight, KEEP)) / KEEP
        return F.linear(torch.relu(self.a(x)), weight, self.b.bias)


class LearntRate(nn.Module):
    """Concrete dropout by hand: a rate that is a parameter, and a relaxed mask."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.logit = nn.Linear(4, 16), nn.Linear(16, 3), nn.Parameter(torch.tensor(-0.5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            u = torch.rand_like(h).clamp(1e-6, 1 - 1e-6)
            h = h * (1 - torch.sigmoid((self.logit + u.logit()) / 0.1)) / (1 - self.logit.sigmoid())
        return self.b(h)


class TwoUnderOneFlag(nn.Module):
    """One read of the flag lets two masks in, the second of which is torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        train = self.training
        h = torch.relu(self.a(x))
        h = h * rand_like(h) if train else h
        h = torch.relu(self.b(h))
        return self.c(F.dropout(h, 0.3) if train else h)


class Pixels(nn.Module):
    """Whole channels of an image are dropped by hand: (B, C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            h = h * (torch.rand((*h.shape[:2], 1, 1)) < KEEP) / KEEP
        return self.b(h).mean((2, 3))


class OwnGenerator(nn.Module):
    """Draws from a generator of its own, whose state must not move."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)
        self.source = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            h = h * (torch.rand(h.shape, generator=self.source) < KEEP) / KEEP
        return self.b(h)


X = functools.partial(normal, 3, 4)
"""Three rows of four features."""

SEQUENCE = functools.partial(normal, 3, 4, 4)


def named(name: str, base: type[nn.Module]) -> type[nn.Module]:
    """The same class, called something else."""
    return type(name, (base,), {})


def between(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), layer(), nn.Linear(16, 3))


SITUATIONS: list[Situation] = [
    *(
        situation(f"by_hand_{name}", lambda f=f: Encoder(f, False), X, fold=1 if f in WITHOUT_ROWS else 10)
        for name, f in MASKS.items()
    ),
    situation("by_hand_beside_dropout", lambda: Encoder(bernoulli, True), X, fold=10),
    situation("by_hand_gaussian_beside_dropout", lambda: Encoder(gaussian, True), X, fold=10),
    *(
        situation(f"by_hand_in_a_class_called_{name}", between(named(name, Regularizer)), X, fold=10)
        for name in ("Regularizer", "Dropout", "Noise", "Block")
    ),
    situation("by_hand_beside_noise", BesideNoise, X, fold=10, always=True),
    situation("by_hand_in_einsum", InAProductOfSums, X, fold=10),
    situation("by_hand_in_a_method", InAMethod, X, fold=10),
    situation("by_hand_in_a_method_that_reads", ReadsInAMethod, X, fold=10),
    situation("by_hand_in_a_function", lambda: GivesTheFlag(False), X, fold=10),
    situation("by_hand_in_a_partial_function", lambda: GivesTheFlag(True), X, fold=10),
    situation("by_hand_flag_of_a_child", lambda: ReadsElsewhere("child"), X, fold=10),
    situation("by_hand_flag_by_getattr", lambda: ReadsElsewhere("getattr"), X, fold=10),
    situation("by_hand_mask_kept", KeepsItsMask, SEQUENCE, fold=10),
    situation("by_hand_over_steps", OverSteps, SEQUENCE, fold=10),
    situation("by_hand_weights", DroppedWeights, X),
    situation("by_hand_learnt_rate", LearntRate, X, fold=10),
    situation("by_hand_two_under_one_flag", TwoUnderOneFlag, X, fold=10),
    situation("by_hand_channels", Pixels, functools.partial(normal, 3, 2, 5, 5), fold=10),
    situation("by_hand_own_generator", OwnGenerator, X),
]
