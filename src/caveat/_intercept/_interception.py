"""One forward pass seen call by call: live sites drop with our masks, and nothing else of the network moves.

A ``Pass`` is a ``TorchFunctionMode``: torch hands it every call that the network makes. Calls fall in four kinds:
sites (``handlers``), calls that would write on memory which is not theirs (``mutation``), calls before the first live
site (``prefix``), and the rest, which go through as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from caveat._inputs import Inputs, map_leaves, with_own_containers
from caveat._intercept import _mutation as mutation
from caveat._intercept._bindings import Bindings, attributes_kept
from caveat._intercept._draw_axis import as_draws, as_slots, current_level, slots_inside, with_slots_first
from caveat._intercept._guard import FunctionMode
from caveat._intercept._layout import Layout
from caveat._intercept._masks import Make, uniform_by_row
from caveat._intercept._network import Network, original_of, storages_of
from caveat._intercept._patching import calls_itself, flags_kept, following, run_plainly
from caveat._intercept._prefix import Diverged, Prefix, Unplaced
from caveat._intercept._reads import argument_read, first_instruction, is_torch_code
from caveat._intercept._rules import Drawing, Observation, Observations, Rules
from caveat._intercept._sites import SiteKey, nested_message, rate_message
from caveat._intercept._writes import mutates
from caveat.errors import InvalidArgumentError

Handler = Callable[["Pass", Any, tuple[Any, ...], dict[str, Any]], Any]
HANDLERS: dict[Any, Handler] = {}
Masked = tuple[Tensor, Layout]
OfShape = Callable[[tuple[int, ...]], Tensor]


def handles(*functions: Any) -> Callable[[Handler], Handler]:
    """Register a handler for torch functions (those that this version of torch has)."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update({function: handler for function in functions if function is not None})
        return handler

    return register


class Pass(FunctionMode):
    """One forward pass. With a ``drawing`` the live sites drop; without one, the pass looks and changes nothing."""

    def __init__(
        self,
        network: Network,
        rules: Rules,
        inputs: Inputs,
        drawing: Drawing | None = None,
        prefix: Prefix | None = None,
    ) -> None:
        super().__init__()
        self.network, self.rules, self.drawing, self.inputs = network, rules, drawing, inputs
        self.seen = Observations()
        self.prefix = prefix
        self.replaying = prefix is not None and prefix.settled
        self.recording = prefix is not None and not prefix.settled
        self.position = 0
        self.stack: list[nn.Module] = []
        self.arguments: list[tuple[Any, ...]] = []
        self.ordinals: dict[str, int] = {}
        self.aliases: dict[int, tuple[Tensor, Tensor]] = {}
        self.deferred: dict[int, mutation.Waiting] = {}
        self.flags_written: list[tuple[nn.Module, bool]] = []
        self._end_replay_at_end()
        self._frozen: set[int] | None = None
        self._bound: Bindings | None = None
        self._level = drawing.level if drawing is not None and drawing.level is not None else current_level()

    # -- the modules ---------------------------------------------------------------------------------------------

    def follows(self, module: nn.Module) -> bool:
        """Returns whether this is a module of the network."""
        return id(module) in self.network.paths

    def training(self, module: nn.Module, reader: FrameType) -> bool:
        """False, as in eval mode, but for the reads that hide a live site."""
        if self.drawing is not None and not self.rules.flips:
            return False
        key = (reader.f_code, first_instruction(reader.f_code, reader.f_lasti))
        if self.drawing is None and not is_torch_code(reader.f_code):
            self.seen.reads.setdefault(key, module)
        return key in self.rules.flips and self.is_live(module)

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module of the network, with ``training=True`` where that hides a live site."""
        module = original_of(module)
        key = argument_read(module, kwargs)
        if key is not None and key in self.rules.flips and self.is_live(module):
            kwargs = {**kwargs, "training": True}
        returned = self._replayed_or_run(module, args, kwargs)
        if key is not None and self.drawing is None:  # after the modules inside: innermost first
            self.seen.reads.setdefault(key, module)
        return returned

    def _replayed_or_run(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module of the network, unless the whole of it is in the recorded prefix."""
        if self.drawing is None:
            self.seen.called.add(self.network.paths[id(module)])
        if self.in_transform() or (module is self.network.model and len(self.stack) == 1):
            return self._run(module, args, kwargs)  # the outermost, reached by a __call__ of its own
        if self.replaying and self.prefix is not None and self.prefix.is_next(self.position, module):
            with _unseen():
                return self._next(module)
        mark = self.prefix.mark() if self.prefix is not None and self.recording else 0
        returned = self._run(module, args, kwargs)
        if self.recording and self.prefix is not None and not self.rules.leaves_marks:
            with _unseen():
                self.prefix.collapse(mark, module, returned)
        return returned

    def run(self, bound: Bindings | None = None) -> Any:
        """Call the network, on whose modules ``bound`` is bound now; what it returns, with every write in place."""
        args, kwargs = self._own_inputs(copies := self.rules.writes_on_views)
        marks = attributes_kept(self.network.modules) if self.rules.leaves_marks or copies else nullcontext()
        if self.drawing is None:
            self._bound = bound or Bindings(self.network.modules, objects=True)
        with marks:
            if copies:
                self.network.copy_buffers()
                self._frozen = storages_of(self.network.model.parameters())
            with flags_kept(self), following(self), self:
                returned = self.call_whole(args, kwargs)
        return mutation.substituted_anywhere(self, returned)

    def _own_inputs(self, copies: bool) -> Inputs:
        """The inputs with containers and objects of this pass alone: a network may put things into them."""
        if copies:
            return map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, self.inputs)
        return with_own_containers(self.inputs)

    def call_whole(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The outermost call, which is never replayed whole: nothing would be drawn."""
        self.seen.called.add("")
        model = self.network.model
        if not calls_itself(model):
            return self._run(model, args, kwargs)
        self.stack.append(model)
        self.arguments.append(args)
        try:
            return model(*args, **kwargs)
        finally:
            self.stack.pop()
            self.arguments.pop()

    def _run(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.stack.append(module)
        self.arguments.append(args)
        try:
            return run_plainly(module, args, kwargs)
        finally:
            self.stack.pop()
            self.arguments.pop()

    def in_transform(self) -> bool:
        """Whether the network is inside a transform of its own (vmap, grad), whose tensors mean nothing outside it.

        Such calls are neither recorded nor replayed; what they may use is kept.
        """
        if not (self.recording or self.replaying) or current_level() == self._level:
            return False
        if self.recording and self.prefix is not None:
            with _unseen():
                self.prefix.pin()
        return True

    # -- the calls -----------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = HANDLERS.get(func)
        if handler is not None:
            return handler(self, func, args, kwargs)
        if self.drawing is None:
            self.seen.note(func, args, kwargs, self.network)
        return self.plain(func, *self.settled(args, kwargs))

    def settled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments in which no tensor stands for another one."""
        if not self.aliases and not self.deferred:
            return args, kwargs
        return mutation.substituted(self, args), mutation.substituted(self, kwargs)

    def plain(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[..., Any] | None = None
    ) -> Any:
        """A call that draws nothing: replayed, or run (by ``run`` if given in place of ``func``) and recorded."""
        apart = self.in_transform()
        if self.replaying and not apart:
            return self._next(func)
        followed = self.seen.followed
        sites = followed.meet(func, args, kwargs) if followed is not None else None
        if mutates(func, kwargs, args):
            returned = mutation.call_kept_away(self, run or func, args, kwargs)
        else:
            returned = (run or func)(*args, **kwargs)
        if self.recording and self.prefix is not None and not apart:
            self.prefix.add(func, returned)
        elif self.drawing is None:
            self.seen.of_weights.follow(func, args, kwargs, returned, self.network)
            if isinstance(returned, Tensor):
                self.note_size(returned)
            if followed is not None:
                followed.follow(func, args, kwargs, returned, sites)
        return returned

    def note_size(self, tensor: Tensor) -> None:
        """Remember the largest tensor made after the first live site: it decides how many draws fit the cache."""
        if any(observation.live for observation in self.seen.observed):
            self.seen.largest_after = max(self.seen.largest_after, tensor.numel() * tensor.element_size())

    def _next(self, what: Any) -> Any:
        assert self.prefix is not None
        returned = self.prefix.replay(self.position, what)
        self.position += 1
        self._end_replay_at_end()
        return returned

    def _end_replay_at_end(self) -> None:
        if self.replaying and self.prefix is not None and self.position == len(self.prefix):
            self.replaying = False
            self.aliases = dict(self.prefix.aliases)

    # -- the sites -----------------------------------------------------------------------------------------------

    def owner(self) -> nn.Module:
        """The innermost module that is running."""
        return self.stack[-1]

    def site(self, kind: str, rate: float, tensor: Tensor | None, mask_shape: Any) -> SiteKey | None:
        """The key of a live site that is about to drop, or None where it stays as in eval mode."""
        module = self.owner()
        key = self._next_key()
        live = rate > 0 and key not in self.rules.resting and self.is_live(module)
        if live and rate >= 1:
            raise InvalidArgumentError(rate_message(kind, key.path, rate))
        if live and tensor is not None and tensor.is_nested:
            raise InvalidArgumentError(nested_message(kind, key.path))
        if self.drawing is None:
            slots = self.slots()
            lead = tuple(size for _, size in slots)
            shape = (*lead, *mask_shape(tuple(tensor.shape))) if tensor is not None and mask_shape is not None else None
            kept = with_slots_first(tensor.detach(), slots) if tensor is not None else None
            followed = self.seen.followed
            constant = followed is not None and followed.is_made_of_constants(tensor)
            self.seen.observed.append(Observation(key, kind, rate, live, module, kept, shape, constant=constant))
            if tensor is not None:
                self.note_size(tensor)
            return None
        if live:
            self.begin_drawing()
            return key
        return None

    def _next_key(self) -> SiteKey:
        path = self.network.paths[id(self.owner())]
        ordinal = self.ordinals.get(path, 0)
        self.ordinals[path] = ordinal + 1
        return SiteKey(path, ordinal)

    def noise_site(self, kind: str, like: Tensor) -> SiteKey | None:
        """The key of a call for random numbers, whatever is live; None in a pass that only looks."""
        module, key = self.owner(), self._next_key()
        if self.drawing is None:
            shape = (*(size for _, size in self.slots()), *like.shape)
            self.seen.observed.append(Observation(key, kind, math.nan, True, module, None, shape))
            return None
        self.begin_drawing()
        return key

    def slots(self) -> list[tuple[int, int]]:
        """The maps of the network's own that the running call is in, where each slot has its own random numbers."""
        return slots_inside(self._level)

    def would_drop(self, rate: float) -> bool:
        """Returns whether a site of the running module with this rate is live; in a probe every one is."""
        return self.drawing is None or self.is_live(self.owner())

    def is_live(self, module: nn.Module) -> bool:
        """Returns whether the sites of this module are asked for."""
        known = self.network.live.get(id(module))
        if known is None:
            known = self.network.live[id(module)] = self.rules.live(self.network.paths[id(module)], module)
        return known

    def begin_drawing(self) -> None:
        """The first live site fires: what came before is settled."""
        if self.recording and self.prefix is not None:
            self.recording = False
            self.prefix.settle(self.aliases)
            self._frozen = None
        elif self.replaying:
            raise Diverged("a site fired earlier than in the recorded pass")

    def masks_for(self, key: SiteKey, shape: tuple[int, ...], rate: float, make: Make) -> Masked:
        """A site's masks for all draws of the pass, (S, ...), broadcast over ``layout.open(tensor)`` draw by draw.

        In a map of the network's own the slots come first: ``one_draw(masks, inside=True)`` hands them to the map.
        """
        assert self.drawing is not None
        source, draws, rows = self.drawing.source, self.drawing.draws, self.drawing.rows
        return self._laid_out(
            key,
            shape,
            lambda one: source.masks(key, one, rate, draws, make),
            lambda one: source.masks_by_row(key, one, rate, draws, rows, make),
        )

    def uniform_for(self, key: SiteKey, shape: tuple[int, ...], dtype: torch.dtype, *, by_row: bool) -> Tensor:
        """Uniform numbers of the running draw that broadcast over a tensor of this shape; ``by_row`` as masks are."""
        assert self.drawing is not None
        source, draws, rows = self.drawing.source, self.drawing.draws, self.drawing.rows
        numbers, layout = self._laid_out(
            key,
            shape,
            lambda one: source.uniform(key, one, draws, dtype),
            (lambda one: uniform_by_row(source, key, one, draws, rows, dtype)) if by_row else None,
        )
        number = self.one_draw(numbers, inside=True)
        if layout.axis is None or layout.each == 1:
            return number
        # Rows are folded in with other entries: adding to zeros of the opened shape broadcasts the numbers over them.
        return layout.close(number + layout.open(torch.zeros(shape, dtype=number.dtype, device=number.device)))

    def _laid_out(self, key: SiteKey, shape: tuple[int, ...], of_all: OfShape, of_rows: OfShape | None) -> Masked:
        """What is made for one row's shape, for all rows or for each, laid out as the tensor of the batch is."""
        assert self.drawing is not None
        rows, slots, lead = len(self.drawing.rows), self.slots(), len(self.drawing.draws)
        layout, one = self.layout_of(key, (*(size for _, size in slots), *shape))
        same = layout is None or key in self.rules.unbatched or (layout.axis is None and layout.rows > 1)
        if self.rules.per_row and of_rows is not None and layout is not None and not same:
            made = of_rows(one).reshape(lead, rows, *one)
            made = made[:, 0] if layout.axis is None else layout.mask_by_row(made, lead=1)
        else:
            layout = layout or Layout(rows, None)
            made = layout.mask_for_all(of_all(one).reshape(lead, *one), lead=1)
        return layout.behind_slots(made, len(slots)) if slots else (made, layout)

    def layout_of(self, key: SiteKey, shape: tuple[int, ...]) -> tuple[Layout | None, tuple[int, ...]]:
        """Where the batch is in a mask of this shape, and the mask's shape for one row."""
        assert self.drawing is not None
        rows = len(self.drawing.rows)
        memo = self.network.layouts
        found = memo.get((key, shape, rows))
        if found is None:
            found = memo[key, shape, rows] = self._find_layout(key, shape, rows)
        return found

    def _find_layout(self, key: SiteKey, shape: tuple[int, ...], rows: int) -> tuple[Layout | None, tuple[int, ...]]:
        if rows == 1 or key in self.rules.unbatched:
            return Layout(rows, None), shape
        if not self.rules.layout_known:
            return None, shape
        placed, known = self.rules.placed.get(key), self.rules.sites.get(key)
        if placed is not None and known is not None:
            layout = replace(placed, rows=rows)
            one = layout.row_shape(shape)
            if one is not None and (one == known.shape or self.rules.sizes_follow_values):
                return layout, one
        raise Unplaced(key)

    def one_draw(self, of_all: Tensor, *, inside: bool = False) -> Tensor:
        """From a tensor over ``drawing.draws`` (S first) the part of the draw that is running, in vmap's sense."""
        assert self.drawing is not None
        one = of_all[0] if self.drawing.level is None else as_draws(of_all, self.drawing.level)
        return as_slots(one, self.slots()) if inside else one

    # -- memory that is not the pass's own -------------------------------------------------------------------------

    def is_frozen(self, tensor: Tensor) -> bool:
        """Returns whether this memory is the user's (parameters, buffers, inputs) or the recorded prefix's."""
        if self._frozen is None:
            attached = () if self._bound is None else self.network.attached(self._bound)
            self._frozen = self.network.storages(self.inputs) | storages_of(attached)
            if self.prefix is not None and self.prefix.settled:
                self._frozen |= storages_of(self.prefix.kept)
        return bool(storages_of([tensor]) & self._frozen)


_unseen = torch._C.DisableTorchFunction  # pyright: ignore[reportPrivateUsage]  # it has no public name
"""A context in which the pass does not see its own book-keeping (a module's call is outside ``__torch_function__``)."""
