"""One forward pass in which every torch call works on means and variances.

The pass runs under the interception that all drawing uses (``caveat._intercept``), which keeps the network as it was
and opens dropout that is guarded by ``self.training``. On top of it, ``Propagation`` sees each call first: dropout
makes a pair of mean and variance, and from there on the rules of ``uncertain.RULES`` are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, overrides
from torch.utils import _pytree as pytree

from caveat._dropping import KINDS
from caveat._inputs import Inputs, map_leaves
from caveat._intercept import (
    RANDOM_FUNCTIONS,
    FunctionMode,
    Network,
    Pass,
    Rules,
    attributes_kept,
    flags_kept,
    following,
    mutates,
    substituted_anywhere,
)
from caveat.errors import CaveatError, UnsupportedModelError
from caveat.samplers._moment_propagation._dropout_moments import dropped
from caveat.samplers._moment_propagation._uncertain import RULES, Approximation, Uncertain, escapes, plain

_unseen = torch._C.DisableTorchFunction  # pyright: ignore[reportPrivateUsage]  # it has no public name
_ABOUT = ("shape", "dtype", "device", "ndim", "layout", "is_cuda", "is_mps", "requires_grad", "is_leaf", "grad_fn")
_KINDS = ("is_sparse", "is_quantized", "is_nested", "is_mkldnn", "is_meta")
# Questions about a tensor that its values do not matter for.
_METADATA: set[Any] = {
    *(getattr(Tensor, name).__get__ for name in (*_ABOUT, *_KINDS) if hasattr(Tensor, name)),
    *(getattr(Tensor, name) for name in ("size", "dim", "numel", "stride", "is_floating_point", "is_contiguous")),
    *(getattr(Tensor, name) for name in ("__len__", "ndimension", "nelement", "element_size", "is_complex", "type")),
    *(torch.is_floating_point, torch.numel, torch.is_complex, torch.is_tensor),
}


class Propagation(FunctionMode):
    """The calls of one pass: what each makes of means and variances, and which of them had to approximate."""

    def __init__(self, ctx: Pass) -> None:
        super().__init__()
        self.ctx = ctx
        self.approximations: dict[Approximation, None] = {}
        self.fired = False
        self._overwritten: dict[int, Tensor] = {}  # by the address of its memory, which it keeps

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given, kwargs = args, kwargs or {}
        args, kwargs = self.ctx.settled(args, kwargs)
        self.check_not_overwritten(func, (args, kwargs))
        if func in KINDS:
            return self._written(func, given, args, kwargs, self._drop(func, args, kwargs))
        if func in RANDOM_FUNCTIONS:
            raise self.cannot(func, "asks torch for random numbers, whose distribution cannot be known from the call")
        if not any(isinstance(leaf, Uncertain) for leaf in pytree.tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func in _METADATA:
            with _unseen():
                return func(*args, **kwargs)
        how = RULES.get(func)
        if how is None or kwargs.get("out") is not None:
            raise self.cannot(func, "has no rule for means and variances")
        try:
            with _unseen():
                result = how(self, func, args, kwargs)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, CaveatError):
                raise
            raise self.cannot(func, "has no rule for these arguments") from error
        return self._written(func, given, args, kwargs, result)

    def check_not_overwritten(self, func: Any, values: Any) -> None:
        """Raises where a tensor is read whose memory another name of it was written on: it holds what was before."""
        if not self._overwritten or func in _METADATA:
            return
        leaves = pytree.tree_leaves(values)
        if any(isinstance(leaf, Tensor) and _memory_of(leaf) in self._overwritten for leaf in leaves):
            raise self.cannot(func, "reads what was written on through a view of it")

    def path(self) -> str:
        """The path of the module that makes the running call, ``""`` for the network itself."""
        return self.ctx.network.paths[id(self.ctx.owner())]

    def assumes(self, func: Any, what: str) -> None:
        """Note that the running call is exact only if ``what`` holds."""
        self.approximations[Approximation(self.path(), _name(func), what)] = None

    def cannot(self, func: Any, why: str) -> UnsupportedModelError:
        """The error for a call that cannot be followed."""
        path = self.path()
        where = f"module {path!r}" if path else "the network's own forward"
        return UnsupportedModelError(
            "Every call after the first dropout needs a rule for means and variances.",
            got=f"{_name(func)} in {where} ({type(self.ctx.owner()).__name__}), which {why}",
            cause="attention, recurrence, a softmax inside the network, or a branch on values",
            fix="draw instead: caveat.predict(caveat.mc_dropout(model, output=...), x) takes any network; "
            "or make only the last sites live with live=caveat.paths(...)",
        )

    def _drop(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor, rate = args[0] if args else kwargs["input"], args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        with _unseen():
            if rate == 0 or not self.ctx.is_live(self.ctx.owner()):
                return tensor
            if func is torch.native_dropout:
                raise self.cannot(func, "returns its mask")
            result = dropped(self, func, tensor, float(rate))
        self.fired = True
        return result

    def _written(
        self, func: Any, given: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> Any:
        """Let what was written in place stand, from here on, for every name of the tensor that it was written on."""
        if func in KINDS and len(args) > 3 and args[3]:
            kwargs = {**kwargs, "inplace": True}
        target = cast(Any, args[0] if args else kwargs.get("input"))
        if not mutates(func, kwargs) or result is target:
            return result
        if isinstance(target, Tensor) and _memory_of(target) != _memory_of(result):
            self._overwritten[_memory_of(target)] = target
        aliases = self.ctx.aliases
        for key, (original, value) in list(aliases.items()):
            if value is target:
                aliases[key] = (original, result)
        for named in (given[0] if given else target, target):
            aliases[id(named)] = (named, result)
        return result


@contextmanager
def _no_escapes(propagation: Propagation) -> Generator[None]:
    """Names the operators that came by an ``Uncertain`` past the rules."""
    found = list[str]()
    token = escapes.set(found)
    try:
        yield
    except Exception as error:
        if not found or isinstance(error, CaveatError):
            raise
        propagation.ctx.stack[:] = [propagation.ctx.network.model]
        raise propagation.cannot(found[0], "runs where calls cannot be seen, as in TorchScript or vmap") from error
    finally:
        escapes.reset(token)


def run(network: Network, rules: Rules, inputs: Inputs, read: Callable[[Any], Any]) -> tuple[Any, Propagation]:
    """What ``read`` takes from one pass over ``inputs``, in ``Uncertain`` tensors, and what the pass had to assume."""
    args, kwargs = inputs
    if rules.writes_on_views:
        args, kwargs = map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)
    ctx = Pass(network, rules, inputs)
    propagation = Propagation(ctx)
    marks = attributes_kept(network.modules) if rules.leaves_marks or not rules.repeatable else nullcontext()
    with marks, _no_escapes(propagation), flags_kept(ctx), following(ctx), ctx, propagation:
        if rules.writes_on_views:
            network.copy_buffers()
        returned = substituted_anywhere(ctx, ctx.call_whole(args, kwargs))
        ctx.stack.append(network.model)
        propagation.check_not_overwritten("the end of the forward pass", returned)
        read_out = read(returned)
    missed = [observation for observation in ctx.seen.observed if observation.live]
    if missed:
        ctx.stack[:] = [missed[0].module]
        raise propagation.cannot(missed[0].kind, "drops inside a call that is not followed")
    return read_out, propagation


def _memory_of(x: Tensor) -> int:
    with _unseen():
        strided = plain(x).layout is torch.strided
        return (plain(x).untyped_storage().data_ptr() if strided else 0) or -id(x)  # 0: of no elements


def _name(func: Any) -> str:
    if isinstance(func, str):
        return func
    return cast(Any, overrides).resolve_name(func) or getattr(func, "__name__", repr(func))
