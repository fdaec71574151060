"""Masks told from other noise by running: what the random numbers of a network do to its data.

A dropout by hand multiplies by numbers that can be 0 and are never below, or chooses by booleans; or it multiplies by
normal numbers about 1 ("Gaussian dropout", Srivastava et al., 2014). Noise that is added, samples of a latent variable,
jitter and shuffles do none of it. What such a product is shifted by may be made of the same numbers (alpha dropout).
Whether a function without a name here multiplies is tried. So the network runs with all its uniform numbers near 0, in
the middle and near 1, and the first call in which they meet data is looked at: whether it multiplies, and by what.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._intercept._draw_axis import memory_behind
from caveat._intercept._layout import close
from caveat._intercept._network import storages_of
from caveat._intercept._writes import mutates, targets_of

LEVELS = (0.001, 0.5, 0.999, math.nan)
"""The uniform number that all random numbers are made of, in each of the passes; NaN: numbers that differ."""


def _forms(*names: str) -> set[Any]:
    """A function of torch's, the tensor's method, and the method in place."""
    owners = [(torch, ""), (Tensor, ""), (Tensor, "_")]
    return {getattr(owner, name + end) for name in names for owner, end in owners}


_aten: Any = torch.ops.aten
_PRODUCTS: set[Any] = {
    *_forms("mul", "multiply"),
    *(getattr(Tensor, f"__{name}__") for name in ("mul", "rmul", "imul")),
    *(_aten.mul.Tensor, _aten.mul_.Tensor),
    torch.einsum,
}
_QUOTIENTS: set[Any] = {
    *_forms("div", "divide", "true_divide"),
    *(getattr(Tensor, f"__{name}__") for name in ("truediv", "itruediv", "div", "idiv")),
    *(_aten.div.Tensor, _aten.div_.Tensor),
}
_SUMS: set[Any] = {
    *_forms("add", "sub"),
    *(getattr(Tensor, f"__{name}__") for name in ("add", "radd", "iadd", "sub", "rsub", "isub")),
    *(_aten.add.Tensor, _aten.add_.Tensor, _aten.sub.Tensor),
}
_COMPARISONS: set[Any] = {
    *(getattr(torch, name) for name in ("lt", "gt", "le", "ge", "less", "greater", "less_equal", "greater_equal")),
    *(getattr(Tensor, name) for name in ("lt", "gt", "le", "ge", "less", "greater", "less_equal", "greater_equal")),
    *(getattr(Tensor, f"__{name}__") for name in ("lt", "gt", "le", "ge")),
    *(getattr(_aten, name).Tensor for name in ("lt", "gt", "le", "ge")),
    *(getattr(_aten, name).Scalar for name in ("lt", "gt", "le", "ge")),
}

_READ_BY_PYTHON: set[Any] = {
    *(Tensor.item, Tensor.tolist),
    *(getattr(Tensor, f"__{name}__") for name in ("bool", "float", "int")),
}
_GOLDEN = 0.6180339887498949  # its multiples fill (0, 1) evenly
# Functions whose results say nothing of the data.
_MAKERS: set[Any] = {
    *(getattr(torch, name) for name in ("zeros", "ones", "full", "tensor", "as_tensor", "arange", "eye", "linspace")),
    *(getattr(torch, f"{name}_like") for name in ("zeros", "ones", "full", "empty")),
    *(getattr(Tensor, f"new_{name}") for name in ("zeros", "ones", "full", "empty", "tensor")),
}
# Functions that take of what follows their first argument no more than its shape, type and place.
_TAKE_AFTER: set[Any] = {getattr(Tensor, name) for name in ("to", "type_as", "expand_as", "view_as", "reshape_as")}


_Marked = dict[int, tuple[Tensor, frozenset[int]]]
"""Tensors by id, held so that the id stays their own, and random sites."""


@dataclass(frozen=True)
class Meeting:
    """A call in which random numbers meet data: of which sites, whether it could be a mask, and the numbers' range."""

    sites: frozenset[int]
    chooses: bool
    multiplies: bool
    normal: bool
    low: float
    high: float


@dataclass
class Followed:
    """The random numbers of one pass, and what is made of them alone, with every uniform number at ``level``.

    ``no_data`` are constants from the beginning, ``read`` the sites whose numbers Python has read, to decide by them.
    """

    level: float
    no_data: tuple[Tensor, ...] = ()
    meetings: list[Meeting] = field(default_factory=list[Meeting])
    normal: set[int] = field(default_factory=set[int])
    read: set[int] = field(default_factory=set[int])
    _made: _Marked = field(default_factory=dict[int, tuple[Tensor, frozenset[int]]])
    _constants: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    _products: _Marked = field(default_factory=dict[int, tuple[Tensor, frozenset[int]]])
    _scaling: frozenset[int] | None = None

    def __post_init__(self) -> None:
        self._constants.update((id(tensor), tensor) for tensor in self.no_data)

    def numbers(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The uniform numbers of the pass, in place of random ones."""
        if not math.isnan(self.level):
            return torch.full(shape, self.level, dtype=dtype, device=device)
        places = torch.arange(1, shape.numel() + 1, dtype=torch.float64, device=device)
        return (places * _GOLDEN).frac().clamp(1e-3, 1 - 1e-3).to(dtype).reshape(shape)

    def add(self, tensor: Tensor, sites: frozenset[int]) -> None:
        """These are random numbers of the sites, or made of them; holding the tensor keeps its id its own."""
        self._made[id(tensor)] = (tensor, sites)
        self._constants.pop(id(tensor), None)  # memory that was taken to be filled

    def meet(self, func: Any, args: Any, kwargs: Any) -> frozenset[int] | None:
        """Look at a call that is about to run; gives the sites whose random numbers its result is made of alone.

        None: its result is a constant.
        """
        tensors = _tensors_used(func, args, kwargs)
        random = [tensor for tensor in tensors if id(tensor) in self._made]
        if not random:
            return frozenset()
        sites = frozenset(chain.from_iterable(self._made[id(tensor)][1] for tensor in random))
        if func in _READ_BY_PYTHON:
            self.read |= sites
        data = [tensor for tensor in tensors if id(tensor) not in self._made and not self.is_constant(tensor)]
        scales = func in _PRODUCTS or (func in _QUOTIENTS and id(next(iter(args), None)) in self._made)
        if not data and scales and any(self._is_zero(tensor) for tensor in tensors):
            return None
        # A branch of ones that is dropped is data, too, though all of it is one number.
        constants = [tensor for tensor in tensors if id(tensor) in self._constants and tensor.dim() > 0]
        drops_a_constant = scales and len(constants) > 0
        if func in _COMPARISONS or not (data or drops_a_constant):
            return sites
        if func in _SUMS and data and all(self._products.get(id(tensor), (None, None))[1] == sites for tensor in data):
            return frozenset()
        chooses = all(tensor.dtype == torch.bool for tensor in random)
        factors = None if scales or chooses else _factors(func, args, kwargs, data)
        scales = scales or factors is not None
        self._scaling = sites if scales else None
        numbers = random if factors is None else [factors]
        values = torch.cat([memory_behind(tensor).detach().flatten().to(torch.float64) for tensor in numbers])
        self.meetings.append(
            Meeting(
                sites,
                chooses=chooses,
                multiplies=scales,
                normal=sites <= self.normal,
                low=float(values.min()) if len(values) else 0.0,
                high=float(values.max()) if len(values) else 0.0,
            )
        )
        return frozenset()

    def follow(self, func: Any, args: Any, kwargs: Any, returned: Any, sites: frozenset[int] | None) -> None:
        """What a call returned is made of the random numbers of these sites alone, or of constants alone."""
        if self._scaling is not None and isinstance(returned, Tensor):
            self._products[id(returned)] = (returned, self._scaling)
            self._scaling = None
        if sites:
            for leaf in pytree.tree_leaves(returned):
                if isinstance(leaf, Tensor):
                    self.add(leaf, sites)
            if mutates(func, kwargs, args):
                self._add_written(targets_of(func, args, kwargs), sites)
        elif isinstance(returned, Tensor) and id(returned) not in self._made:
            tensors = _tensors_used(func, args, kwargs)
            if sites is None or func in _MAKERS or (tensors and all(map(self.is_constant, tensors))):
                self._constants[id(returned)] = returned

    def _add_written(self, targets: list[Tensor], sites: frozenset[int]) -> None:
        """What constants lie in this memory are made of the random numbers now."""
        memory = storages_of(map(memory_behind, targets))
        for tensor in [*self._constants.values(), *targets]:
            if self.is_constant(tensor) and storages_of([memory_behind(tensor)]) & memory:
                self.add(tensor, sites | self._made.get(id(tensor), (tensor, sites))[1])

    def is_made_of_constants(self, tensor: Tensor | None) -> bool:
        """Returns whether no number of this is made of the data."""
        return id(tensor) in self._constants

    def _is_zero(self, tensor: Tensor) -> bool:
        return id(tensor) in self._constants and not bool(memory_behind(tensor).any())

    def is_constant(self, tensor: Tensor) -> bool:
        """Returns whether this says nothing of the data; one number, such as a learned rate, says nothing either."""
        return tensor.dim() == 0 or id(tensor) in self._constants


def _tensors_used(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors among the arguments whose values matter to the result."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    return tensors[:1] if func in _TAKE_AFTER else tensors


def _factors(func: Any, args: Any, kwargs: Any, data: list[Tensor]) -> Tensor | None:
    """What a call multiplies each element of its data by, beside zeros in place of its other data; None if by nothing.

    That is no more than tried: two other tensors of data must be multiplied by the same numbers.
    """
    shape, zeros = data[0].shape, {id(tensor): torch.zeros_like(tensor) for tensor in data}
    if any(not tensor.is_floating_point() or tensor.shape != shape for tensor in data):
        return None
    places = torch.arange(1, shape.numel() + 1, dtype=torch.float64, device=data[0].device).reshape(shape)
    factors = list[Tensor]()
    for each in {id(tensor): tensor for tensor in data}.values():
        pair = list[Tensor]()
        for shift in (0.0, 0.3):
            other = ((places * _GOLDEN + shift).frac() + 0.5).to(each.dtype)
            try:
                given = _run_on(func, args, kwargs, {**zeros, id(each): other})
            except Exception:  # it cannot be run on other data
                return None
            if not isinstance(given, Tensor) or given.shape != shape:
                return None
            pair.append((given / other).to(each.dtype))
        if not close(*pair):
            return None
        factors.append(pair[0])
    return torch.stack(factors)


def _run_on(func: Any, args: Any, kwargs: Any, others: dict[int, Tensor]) -> Any:
    """What a call gives, or writes, with other tensors in place of those of these ids; it writes on copies."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda leaf: others.get(id(leaf), leaf), (args, kwargs))
    if not mutates(func, kwargs, args):
        return func(*args, **kwargs)
    args, kwargs = pytree.tree_map_only(Tensor, Tensor.clone, (args, kwargs))
    (target,) = targets_of(func, args, kwargs)
    func(*args, **kwargs)
    return target


def sites_of_masks(passes: Sequence[Followed | None], count: int) -> set[int]:
    """Which of ``count`` random sites are masks, by what they did in the passes at all ``LEVELS``."""
    if any(each is None for each in passes):
        return set()
    followed = cast(Sequence[Followed], passes)
    if len({len(each.meetings) for each in followed}) != 1:
        return set()
    masks, others = set[int](), set[int]()
    for at_levels in zip(*(each.meetings for each in followed), strict=True):
        sites = at_levels[0].sites
        (masks if _is_mask(at_levels) else others).update(sites)
    return (masks - others) & set(range(count))


def _is_mask(at_levels: Sequence[Meeting]) -> bool:
    near_0, middle, *_ = at_levels
    if near_0.chooses:
        return True
    if not near_0.multiplies:
        return False
    low, high = min(each.low for each in at_levels), max(each.high for each in at_levels)
    drops = high > 0 and -1e-5 * high <= low <= 0.02 * high
    about_1 = near_0.normal and middle.low == middle.high == 1
    return drops or about_1
