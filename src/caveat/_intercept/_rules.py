"""What a pass is told and what it tells: the rules of drawing, which draws it makes, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._intercept._layout import Layout
from caveat._intercept._masks import MaskSource
from caveat._intercept._multipliers import Followed
from caveat._intercept._network import Network
from caveat._intercept._of_weights import OfWeights
from caveat._intercept._reads import ReadKey
from caveat._intercept._sites import LivePredicate, Site, SiteKey
from caveat._intercept._streams import Streams


@dataclass(frozen=True)
class Rules:
    """What a pass does about randomness, fixed for a sampler.

    ``sites`` holds what one row showed of each site and ``placed`` how two rows lay in it; ``unbatched`` are the sites
    that hold no batch, ``resting`` those that are left off. ``layout_known`` is False where rows depend on each other
    or the batch could not be found. ``sizes_follow_values`` says that the network makes sizes of values (a longest
    length, chosen rows), so that a site may have other sizes on other rows. ``leaves_marks`` says that a pass binds
    something on the modules (a counter, stashed features, a hook), so that modules are not replayed whole, and what is
    bound is put back after each pass; ``hooked`` that hooks of the user's run, which see every draw as it is;
    ``writes_on_views`` that it writes on part of an input or a buffer, so that each pass gets copies of them and
    nothing of it is recorded; ``gradient`` that the network takes a gradient inside. ``constants``
    are calls for random numbers that are the same in every pass.
    """

    live: LivePredicate
    per_row: bool = False
    flips: frozenset[ReadKey] = frozenset()
    sites: dict[SiteKey, Site] = field(default_factory=dict[SiteKey, Site])
    placed: dict[SiteKey, Layout] = field(default_factory=dict[SiteKey, Layout])
    unbatched: frozenset[SiteKey] = frozenset()
    resting: frozenset[SiteKey] = frozenset()
    layout_known: bool = True
    sizes_follow_values: bool = False
    leaves_marks: bool = False
    hooked: bool = False
    writes_on_views: bool = False
    gradient: bool = False
    constants: frozenset[Any] = frozenset()

    @property
    def repeatable(self) -> bool:
        """Whether a pass may be recorded, and its beginning be left out."""
        return not (self.hooked or self.writes_on_views or self.gradient)


@dataclass(frozen=True)
class Drawing:
    """Which functions a pass evaluates: ``draws`` at once, on rows numbered ``rows``.

    ``level`` is the level of vmap that the draws are the axis of, None in a pass of a single draw.
    """

    source: MaskSource
    draws: range
    rows: Tensor
    level: int | None = None


@dataclass
class Observation:
    """A call of a site in a pass that only looks. ``masks`` is False for random numbers that are no mask;
    ``decides`` says that Python has read them, and may have chosen by them.

    ``constant`` says, in a pass that follows what is made of what, that the tensor is made of no data. ``row_shape`` is
    the shape of the mask of one row, where that is known beside the ``mask_shape`` of all.
    """

    key: SiteKey
    kind: str
    rate: float
    live: bool
    module: nn.Module
    tensor: Tensor | None
    mask_shape: tuple[int, ...] | None
    masks: bool = True
    decides: bool = False
    constant: bool = False
    row_shape: tuple[int, ...] | None = None


@dataclass
class Observations:
    """What a pass that only looks has seen. ``chosen_from``: so many sites came before a size was made of values."""

    observed: list[Observation] = field(default_factory=list[Observation])
    reads: dict[ReadKey, nn.Module] = field(default_factory=dict[ReadKey, nn.Module])
    called: set[str] = field(default_factory=set[str])
    takes_gradient: bool = False
    written: set[int] = field(default_factory=set[int])
    writes_weights: bool = False
    sizes_follow_values: bool = False
    chosen_from: int = 0
    largest_after: int = 0
    leaves_marks: bool = False
    hooked: bool = False
    writes_on_views: bool = False
    unmanaged: bool = False
    followed: Followed | None = None
    streams: Streams | None = None
    constants: frozenset[Any] = frozenset()
    of_weights: OfWeights = field(default_factory=OfWeights)

    def note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], network: Network) -> None:
        """Note what a call of torch's says about the network."""
        if not self.sizes_follow_values and makes_sizes_of_values(func, args):
            taken = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.sizes_follow_values = not (taken and all(self.of_weights.holds(leaf, network) for leaf in taken))
            self.chosen_from = len(self.observed)
        self.takes_gradient = self.takes_gradient or func in _GRADIENTS

    def after_a_choice(self) -> set[SiteKey]:
        """The sites that come after the first call that could make a size, or a choice of rows, of values."""
        return {at.key for at in self.observed[self.chosen_from :]} if self.sizes_follow_values else set()


_SIZES_OF_VALUES: set[Any] = {
    *(Tensor.item, Tensor.__int__, Tensor.__index__, Tensor.tolist, Tensor.numpy, Tensor.__array__),
    *(torch.nonzero, Tensor.nonzero, torch.argwhere, Tensor.argwhere, torch.masked_select, Tensor.masked_select),
    *(torch.unique, Tensor.unique, torch.unique_consecutive, Tensor.unique_consecutive, torch.bincount),
    *(Tensor.bincount, torch.repeat_interleave, Tensor.repeat_interleave),
    cast(Any, torch)._VF._pack_padded_sequence,
}


def makes_sizes_of_values(func: Any, args: tuple[Any, ...]) -> bool:
    """Returns whether this call could make a size, or a choice of rows, of the values of a tensor."""
    if func in _SIZES_OF_VALUES:
        return True
    if func is Tensor.__getitem__:
        index = cast(tuple[Any, ...], args[1]) if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) for part in index)
    return func is torch.where and len(args) == 1


_GRADIENTS: set[Any] = {torch.autograd.grad, torch.autograd.backward, Tensor.backward}
