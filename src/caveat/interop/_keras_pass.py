"""One call of a Keras model on JAX or TensorFlow: which layers are told that they train, and what random numbers are.

Keras passes ``training`` down as an argument, and its layers ask ``keras.random`` for numbers. During a pass each layer
is told what a rule says of it, and the numbers are hashed from (seed, draw, layer, coordinates within a row), as for
networks of torch. Weights and seed generators are read and never written: the pass is in a ``keras.StatelessScope``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

import caveat._extras as extras
from caveat._inputs import Inputs, tensors_in, with_leaves
from caveat._intercept import (
    Layout,
    LivePredicate,
    Make,
    MaskSource,
    Observation,
    Observations,
    ReadKey,
    SiteKey,
    normal_from_uniform,
    put_back,
)
from caveat.errors import InvalidArgumentError

_FUNCTIONS = ("dropout", "uniform", "normal", "truncated_normal", "randint")
_OTHERS = ("categorical", "shuffle", "gamma", "binomial", "beta")
_EXTREMES = (0.001, 0.999)
"""Uniform numbers that every mask tells apart."""

_active = threading.local()
_lock = threading.RLock()


@dataclass(frozen=True)
class Told:
    """The rule of a pass: which sites are asked for, whose ``training`` is True, and where rows lie in the numbers."""

    live: LivePredicate
    flips: frozenset[ReadKey] = frozenset()
    placed: dict[SiteKey, Layout] = field(default_factory=dict[SiteKey, Layout])
    unbatched: frozenset[SiteKey] = frozenset()
    resting: frozenset[SiteKey] = frozenset()


class KerasPass:
    """One call of the model; without a ``source`` its sites rest, and what it does is noted in ``seen``."""

    def __init__(
        self, model: Any, inputs: Inputs, told: Told, rows: int, source: MaskSource | None = None, draw: int = 0
    ) -> None:
        self.model, self.inputs, self.told, self.rows, self.source, self.draw = model, inputs, told, rows, source, draw
        self.seen = Observations()
        self.paths = {id(layer): path for path, layer in layers_of(model)}
        self._stack: list[Any] = []
        self._ordinals: dict[str, int] = {}
        self._normals = set[SiteKey]()
        self._level: float | None = None
        self.keras = cast(Any, extras.require("keras", "keras"))

    def run(self) -> Any:
        """What the model returns, its arrays as torch tensors."""
        leaves = tensors_in(self.inputs)
        arrays: Any = [self.keras.ops.convert_to_tensor(leaf.detach().cpu().numpy()) for leaf in leaves]
        args, kwargs = with_leaves(self.inputs, leaves, arrays)
        with _lock, _intercepting(self), self.keras.StatelessScope() as scope:
            returned = in_inference(self.model, *args, **kwargs)
        self.seen.written = set(scope.state_mapping)
        return self.keras.tree.map_structure(self._as_tensor, returned)

    def _as_tensor(self, value: Any) -> Any:
        if not self.keras.ops.is_tensor(value):
            return value
        return torch.tensor(self.keras.ops.convert_to_numpy(value))  # a copy: JAX lends read-only memory

    # -- layers ----------------------------------------------------------------------------------------------------

    def call(self, layer: Any, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a layer, with ``training=True`` where the rule says so."""
        takes = "training" in kwargs or getattr(layer, "_call_has_training_arg", False)
        key = (cast("type[nn.Module]", type(layer)), -1) if takes and not kwargs.get("training") else None
        if key is not None and key in self.told.flips and self.is_live(layer):
            kwargs = {**kwargs, "training": True}
        first, ordinals = len(self.seen.observed), dict(self._ordinals)
        self._stack.append(layer)
        try:
            returned = plain(*args, **kwargs)
            noise = [s for s in self.seen.observed[first:] if s.kind == "noise" and s.module is layer]
            if noise and self.source is None and self._level is None:
                masks = self._multiplies(partial(plain, **kwargs), args, ordinals, normal=noise[0].key in self._normals)
                for observation in noise:
                    observation.masks = masks
        finally:
            self._stack.pop()
        if key is not None and self.source is None:  # after the layers inside, so that the innermost come first
            self.seen.reads.setdefault(key, layer)
        return returned

    def _multiplies(
        self, call: Callable[..., Any], args: tuple[Any, ...], ordinals: dict[str, int], *, normal: bool
    ) -> bool:
        """Returns whether the layer's random numbers scale or choose what comes in, rather than are added to it.

        Seen by how it answers a shift of its input: noise that is added, flips and jitter answer alike whatever the
        numbers are. Normal numbers are a mask where they leave zeros what they are.
        """
        after, seen = dict(self._ordinals), list(self.seen.observed)

        def at(level: float, scale: float, shift: float) -> Any:
            self._level, self._ordinals = level, dict(ordinals)
            moved = self.keras.tree.map_structure(partial(self._moved, scale=scale, shift=shift), args)
            return self._as_tensor(self.keras.tree.flatten(call(*moved))[0])

        try:
            low, high = (at(level, 1.0, 1.0) - at(level, 1.0, 0.0) for level in _EXTREMES)
            zeros = [at(level, 0.0, 0.0) for level in _EXTREMES] if normal else []
        finally:
            self._level, self._ordinals, self.seen.observed = None, after, seen
        return not torch.allclose(low, high, atol=1e-4) and not (normal and not torch.allclose(zeros[0], zeros[1]))

    def _moved(self, value: Any, scale: float, shift: float) -> Any:
        floating = self.keras.ops.is_tensor(value) and "float" in self.keras.backend.standardize_dtype(value.dtype)
        return value * scale + shift if floating else value

    def is_live(self, layer: Any) -> bool:
        """Returns whether the sites of this layer are asked for."""
        return self.told.live(self.paths[id(layer)], layer)

    # -- random numbers --------------------------------------------------------------------------------------------

    def random(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function of ``keras.random`` gives in this pass."""
        return getattr(self, f"_{name}")(*args, **kwargs) if name in _FUNCTIONS else self._refuse(name)

    def _dropout(self, inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        sizes = zip(noise_shape, inputs.shape, strict=True) if noise_shape is not None else ()
        shape = tuple(b if a is None else a for a, b in sizes) if noise_shape is not None else tuple(inputs.shape)
        key = self._next_key()
        live = rate > 0 and key not in self.told.resting and self.is_live(self._stack[-1])
        if self.source is None:
            kept = self._values(inputs)
            self.seen.observed.append(Observation(key, "dropout", rate, live, self._stack[-1], kept, shape))
        if self.source is None or not live:
            return inputs
        if rate >= 1:
            raise InvalidArgumentError(
                "A live dropout rate must be in [0, 1).", got=f"rate {rate} at {key.path}", fix="a lower rate"
            )
        make = Make((rate, "keras"), lambda keep: keep.to(torch.float32) / (1 - rate))
        draws = range(self.draw, self.draw + 1)
        source = self.source
        mask = self._numbers(key, shape, lambda one: source.masks(key, one, rate, draws, make)[0])
        return inputs * self.keras.ops.cast(mask, inputs.dtype)

    def _values(self, value: Any) -> Tensor | None:
        """The values of an array; None inside a loop that the back end traces, where there are none."""
        try:
            return self._as_tensor(value)
        except Exception:
            return None

    def _uniform(self, shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        number = self._uniform_numbers(tuple(shape), normal=False)
        return self.keras.ops.cast(number, dtype or self.keras.config.floatx()) * (maxval - minval) + minval

    def _normal(self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        number = self._uniform_numbers(tuple(shape), normal=True)
        return self.keras.ops.cast(number, dtype or self.keras.config.floatx()) * stddev + mean

    def _truncated_normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        number = self._uniform_numbers(tuple(shape), normal=True, within=2.0)
        return self.keras.ops.cast(number, dtype or self.keras.config.floatx()) * stddev + mean

    def _randint(self, shape: Any, minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> Any:
        number = self._uniform_numbers(tuple(shape), normal=False)
        low: Any = minval
        return self.keras.ops.cast(self.keras.ops.floor(number * (maxval - low)) + low, dtype)

    def _uniform_numbers(self, shape: tuple[int, ...], *, normal: bool, within: float | None = None) -> Any:
        key = self._next_key()

        def shaped(uniform: Tensor) -> Tensor:
            if within is not None:
                low = 0.5 * math.erfc(within / math.sqrt(2))
                uniform = low + uniform * (1 - 2 * low)
            return normal_from_uniform(uniform) if normal else uniform

        if self.source is None:
            layer = self._stack[-1]
            self.seen.observed.append(Observation(key, "noise", math.nan, True, layer, None, shape))
            self._normals |= {key} if normal else set[SiteKey]()
            level = 0.5 if self._level is None else self._level
            return self.keras.ops.convert_to_tensor(shaped(torch.full(shape, level)).numpy())
        source, draws = self.source, range(self.draw, self.draw + 1)
        return self._numbers(key, shape, lambda one: shaped(source.uniform(key, one, draws, torch.float32)[0]))

    def _numbers(self, key: SiteKey, shape: tuple[int, ...], make: Callable[[tuple[int, ...]], Tensor]) -> Any:
        """Numbers of this shape for all rows, the same for each, made from those of one row."""
        layout = self.told.placed.get(key) if self.rows != 1 and key not in self.told.unbatched else None
        layout = replace(layout, rows=self.rows) if layout is not None else Layout(self.rows, None)
        one = layout.row_shape(shape)
        if one is None:
            raise InvalidArgumentError(
                "A layer must ask for random numbers of the same shape for each row.",
                got=f"shape {shape} for {self.rows} rows at {key.path}",
                fix="pass the rows one by one",
            )
        numbers = layout.mask_for_all(make(one).reshape(one))
        whole = layout.close((numbers + layout.open(torch.zeros(shape))).contiguous())
        return self.keras.ops.convert_to_tensor(whole.numpy())

    def _next_key(self) -> SiteKey:
        if not self._stack:
            raise InvalidArgumentError(
                "Random numbers must be drawn by a layer.", got="a draw outside of any layer", fix="make it a layer"
            )
        path = self.paths[id(self._stack[-1])]
        ordinal = self._ordinals.get(path, 0)
        self._ordinals[path] = ordinal + 1
        return SiteKey(path, ordinal)

    def _refuse(self, name: str) -> Any:
        path = self.paths[id(self._stack[-1])] if self._stack else "(the model)"
        raise InvalidArgumentError(
            f"A Keras model on JAX or TensorFlow may draw only {', '.join(_FUNCTIONS)} numbers.",
            got=f"keras.random.{name} in {path}",
            cause="a layer that samples in inference as well",
            fix='KERAS_BACKEND="torch", where these are drawn too',
        )


def in_inference(model: Any, *args: Any, **kwargs: Any) -> Any:
    """What the model returns in inference; not told so, layers that augment take ``training`` to be True."""
    return model(*args, **{"training": False, **kwargs})


def layers_of(model: Any, prefix: str = "", known: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """The model and every layer in it by path, as ``layers.0``: names count how many layers a process has made."""
    known = set[int]() if known is None else known
    if id(model) in known:
        return
    known.add(id(model))
    yield prefix, model
    for number, layer in enumerate(model._layers):
        yield from layers_of(layer, f"{prefix}.layers.{number}".lstrip("."), known)


@contextmanager
def _intercepting(ctx: KerasPass) -> Generator[None]:
    """Sends the layers' calls and the random functions of this thread to ``ctx``."""
    module = cast(Any, extras.require("keras.src.backend", "keras")).random
    spaces: list[dict[str, Any]] = [vars(layer) for _, layer in layers_of(ctx.model)]
    own = [(space, space.get("call")) for space in spaces]
    functions = {name: getattr(module, name) for name in (*_FUNCTIONS, *_OTHERS)}
    before = getattr(_active, "ctx", None)

    def restore() -> None:
        _active.ctx = before
        for space, call in own:
            if call is None:
                space.pop("call", None)
            else:
                space["call"] = call
        for name, function in functions.items():
            setattr(module, name, function)

    with put_back(restore):
        for _, layer in layers_of(ctx.model):
            vars(layer)["call"] = partial(_call, layer, layer.call)
        for name, function in functions.items():
            setattr(module, name, partial(_random, name, function))
        _active.ctx = ctx
        yield


def _call(layer: Any, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    ctx = getattr(_active, "ctx", None)
    return plain(*args, **kwargs) if ctx is None else ctx.call(layer, plain, args, kwargs)


def _random(name: str, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    ctx = getattr(_active, "ctx", None)
    return plain(*args, **kwargs) if ctx is None else ctx.random(name, args, kwargs)
