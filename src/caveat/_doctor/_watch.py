"""What happens while a recipe runs: which module draws random numbers, and which normalizes by the batch.

Two things are put on, and neither changes what torch does (a hook or a function mode would switch the fused transformer
layer off): a follower of module calls, and a dispatch mode, which sees every operator, also those inside one call of
torch. An operator counts as a draw if torch tags it as random, and its arguments do not say that it rests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from types import FrameType
from typing import Any, cast

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._inputs import structure_of, tensors_in
from caveat._intercept import DispatchMode, argument, draws_random_numbers, following, rate_of, run_plainly


@dataclass(frozen=True)
class Draw:
    """Random numbers that an operator drew: of which module (None outside the network), in which pass, how many.

    ``call`` numbers the calls of the network, None in a part that was called by itself. ``rate`` is the fraction that
    is left out, where the operator says it.
    """

    path: str | None
    call: int | None
    numbers: int
    rate: float | None


@dataclass
class Seen:
    """What a watched run showed.

    ``sizes`` has, for each call of the network, the number of entries of its inputs; ``structures`` what the network
    returned; ``by_batch`` the modules that normalized by the statistics of the batch.
    """

    draws: list[Draw] = field(default_factory=list[Draw])
    sizes: list[int] = field(default_factory=list[int])
    structures: set[str] = field(default_factory=set[str])
    by_batch: set[str] = field(default_factory=set[str])


class Watch(DispatchMode):
    """Follows the modules of a run, the network's own and those of copies and wrappers of it, and every operator."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.seen = Seen()
        self.flags_written: list[tuple[nn.Module, bool]] = []
        self._own = dict(named_modules(model))
        self._paths = {id(module): path for path, module in self._own.items()}
        self._alive = {id(module): module for module in self._own.values()}  # the id of a freed module may return
        self._stack: list[str | None] = []
        self._call: int | None = None

    def run(self, function: Callable[[], Any]) -> Any:
        """Calls ``function`` and returns what it does."""
        with following(self), self:
            return function()

    # -- modules ---------------------------------------------------------------------------------------------------

    def follows(self, module: nn.Module) -> bool:
        """Every module, for a recipe may run a copy; but not one that is being made, or is TorchScript."""
        return "training" in vars(module)

    def training(self, module: nn.Module, reader: FrameType) -> bool:
        """The flag as it is."""
        return cast(bool, vars(module)["training"])

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the module, and notes what runs."""
        if not self._stack:
            self._note_paths(module)
        path = self._paths.get(id(module))
        whole = path == "" and self._call is None
        if whole:
            self._call = len(self.seen.sizes)
            self.seen.sizes.append(count_entries((args, kwargs)))
        self._stack.append(path)
        try:
            returned: Any = run_plainly(module, args, kwargs)
        finally:
            self._stack.pop()
            if whole:
                self._call = None
        if whole:
            self.seen.structures.add(structure(returned))
        return returned

    def _note_paths(self, outermost: nn.Module) -> None:
        """Names the modules of a copy or a wrapper as the network names its own, also those put in place of others."""
        path, part_of_it = self._paths.get(id(outermost)), outermost
        if path is None and id(outermost) not in self._alive:
            path, part_of_it = "", most_alike(outermost, self._own)
        if path is None or part_of_it is None:
            return
        for inner, part in named_modules(part_of_it):
            self._paths.setdefault(id(part), ".".join(name for name in (path, inner) if name))
            self._alive[id(part)] = part

    # -- operators -------------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        returned = func(*args, **kwargs)
        if draws_random_numbers(func, args, kwargs):
            self._note_draw(func, args, kwargs, returned)
        self._note_norm(func, args, kwargs)
        return returned

    def _note_draw(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], returned: Any) -> None:
        path = next((path for path in reversed(self._stack) if path is not None), None)
        drawn = next((leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)), None)
        if drawn is None:
            return
        in_place = func._schema.name.endswith("_") and bool(args)
        made = in_place and isinstance(args[0], nn.Parameter)  # the weights of a module that is being made
        if path is None and (made or not drawn.is_floating_point()):  # or indices of a loader, say
            return
        times = 1
        if (layers := argument(func, args, kwargs, "num_layers")) is not None:
            times = max(int(layers) - 1, 1)
        draw = Draw(path, self._call, prod(drawn.shape), rate_of(func, args, kwargs))
        self.seen.draws.extend([draw] * times)

    def _note_norm(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if "batch_norm" not in str(func) or "backward" in str(func):
            return
        path = next((path for path in reversed(self._stack) if path is not None), None)
        always = "with_update" in str(func)
        if path is not None and (always or argument(func, args, kwargs, "training")):
            self.seen.by_batch.add(path)


def structure(returned: Any) -> str:
    """How what a network returned is put together, whatever the values and sizes."""
    found = structure_of(((returned,), {}))
    around = [cast("tuple[Any, ...]", part)[0] if isinstance(part, tuple) else part for part in found.around]
    return f"{around} {[leaf.dim() if isinstance(leaf, Tensor) else 'packed' for leaf in found.leaves]}"


def count_entries(inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> int:
    """The number of entries of all tensors in some inputs."""
    return sum(tensor.numel() for tensor in tensors_in(inputs))


def most_alike(outermost: nn.Module, own: dict[str, nn.Module]) -> nn.Module | None:
    """The part of a module that is most like a network: at half of the paths or more it has the same classes."""
    best, most = None, max(len(own) / 2, 1.5)
    for _, part in named_modules(outermost):
        alike = sum(type(inner) is type(own.get(path)) for path, inner in named_modules(part))
        if alike >= most:
            best, most = part, alike + 0.5
    return best


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module with its path."""
    return list(cast("list[tuple[str, nn.Module]]", model.named_modules()))
