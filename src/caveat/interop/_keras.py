"""Monte-Carlo dropout of a Keras 3 model, on torch, JAX or TensorFlow.

See "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", Gal and Ghahramani, 2016.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import caveat._extras as extras
from caveat._engine import OneByOne, P, P_co, Sampler, Stream, Values, as_output
from caveat._inputs import Inputs, along_first, as_inputs
from caveat._intercept import (
    LivePredicate,
    MaskSource,
    Places,
    ProbePass,
    ReadKey,
    agree,
    all_dropout,
    close,
    drops_branches,
    find_hidden,
    last_row,
    nothing_random,
    two_rows,
    warn_not_separated,
)
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError
from caveat.interop._around import Around
from caveat.interop._keras_pass import KerasPass, Told, in_inference, layers_of
from caveat.predictive import Output
from caveat.samplers import mc_dropout

_OLDEST = "3.8"
_MOST_PLANS = 64


def keras_mc_dropout(
    model: Any, *, output: Output[P] | dict[str, Output], live: LivePredicate = all_dropout
) -> Sampler[P]:
    """A sampler of thinned networks from a Keras 3 model with dropout, on any back end: Monte-Carlo dropout.

    Every dropout fires (``Dropout``, spatial, Gaussian and alpha dropout, dropout inside recurrent and attention
    layers, and masks behind the argument ``training`` of layers of your own), found by running the model. Everything
    else is as in inference: batch normalization keeps its statistics, noise and augmentation stay off. No weight and no
    ``SeedGenerator`` moves.

    On torch this is ``caveat.mc_dropout`` of the model as it is in inference. On JAX and TensorFlow the model is called
    once per draw, with random numbers hashed from (seed, draw, layer, coordinates within a row): the same on both.

    Args:
        model: A built ``keras.Model``.
        output: How to read what it returns, or a dict of outputs by name for several heads.
        live: Which sites fire, a predicate over (path, layer); paths are such as ``layers.2.layers.0``.

    Returns:
        A sampler, for ``caveat.predict``, ``caveat.predict_batches`` and ``caveat.draws``. Batches are torch tensors,
        a tuple of arguments or a dict of keyword arguments; a model with several inputs takes ``([a, b],)``.

    Raises:
        MissingExtraError: Keras is not installed, or older than 3.8.
        InvalidArgumentError: No Keras 3 model, or one that is not built; while drawing on JAX or TensorFlow: a layer
            samples by a function of ``keras.random`` that is not followed, or ``gradient=True``.
        NothingRandomError: While drawing: no live dropout with a rate above 0 has run, or none reaches what is read.
    """
    keras = cast(Any, extras.require("keras", "keras", at_least=_OLDEST))
    _check_model(keras, model)
    if keras.backend.backend() == "torch":
        return mc_dropout(Around(model, partial(in_inference, model)), output=output, live=live)
    return KerasMCDropout(model, as_output(output), live)


@dataclass(frozen=True)
class _Plan:
    """What a look at the model on one row and on two found."""

    told: Told
    separable: bool
    rows_alone: bool


@dataclass(frozen=True, eq=False, repr=False)
class KerasMCDropout(Generic[P_co]):
    """The sampler that ``keras_mc_dropout`` makes on JAX and TensorFlow; see there."""

    keras_model: Any
    output: Output[P_co]
    live: LivePredicate
    _plans: dict[Any, _Plan] = field(default_factory=dict[Any, _Plan])

    size = None
    """There is no end of thinned networks."""
    strata = None
    """Every draw is independent."""

    def __repr__(self) -> str:
        return f"KerasMCDropout({self.keras_model.name}, {self.output!r})"

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        if gradient:
            raise InvalidArgumentError(
                "Draws of a Keras model can be differentiated with the torch back end only.",
                got="gradient=True",
                fix='KERAS_BACKEND="torch"',
            )
        inputs = as_inputs(x, torch.device("cpu"))
        plan = self._plan(inputs)
        if rows is not None:
            inputs = along_first(inputs).take(inputs, rows)
        axes, source = along_first(inputs), MaskSource(check_seed(seed))
        count = axes.count(inputs) or 1
        alone = plan.rows_alone and count > 1
        parts = [(axes.take(inputs, [row]), 1) for row in range(count)] if alone else [(inputs, count)]

        def one(draw: int) -> Values:
            values = [self.read(part, plan.told, rows, source, draw) for part, rows in parts]
            return pytree.tree_map(lambda *rows: torch.cat(rows), *values) if alone else values[0]

        yield OneByOne(one, count if plan.separable else None)

    def _plan(self, inputs: Inputs) -> _Plan:
        """The plan for inputs of this kind, made at the first of them and again when a layer has changed."""
        spaces: list[dict[str, Any]] = [vars(layer) for _, layer in layers_of(self.keras_model)]
        settings = [value for space in spaces for value in space.values() if type(value) in (bool, int, float, str)]
        key = along_first(inputs).describe(inputs), tuple(settings)
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = self._look(inputs)
        return self._plans[key]

    def read(self, inputs: Inputs, told: Told, rows: int, source: MaskSource, draw: int) -> Values:
        """What is read of one draw."""
        return self.output.read(KerasPass(self.keras_model, inputs, told, rows, source, draw).run())

    # -- looking ---------------------------------------------------------------------------------------------------

    def _look(self, inputs: Inputs) -> _Plan:
        axes = along_first(inputs)
        told = Told(self.live)
        one = self._try(last_row(inputs, axes), told, 1)
        pair = self._try(two_rows(inputs, axes), told, 2) if one is not None else None
        separable = one is not None and pair is not None and _second_row_is(one.returned, pair.returned)
        looked_at, rows = (last_row(inputs, axes), 1) if separable else (inputs, axes.count(inputs) or 1)
        paths = {id(layer): path for path, layer in layers_of(self.keras_model)}

        def probe(flips: frozenset[ReadKey]) -> ProbePass | None:
            return self._try(looked_at, replace(told, flips=flips), rows)

        hidden = find_hidden(
            probe,
            self._probe(looked_at, told, rows),
            self.live,
            lambda layer: paths[id(layer)],
            _never,
            lambda flips: self._fired(looked_at, replace(told, flips=flips), rows),
        )
        off = [s.key for s in hidden.probe.seen.observed if self.live is all_dropout and drops_branches(s)]
        told = replace(told, flips=hidden.flips, resting=frozenset(off))
        if not any(s.live and s.key not in told.resting for s in hidden.probe.seen.observed):
            raise nothing_random("a forward pass in which no dropout was called")
        if agree(*(self.read(looked_at, told, rows, MaskSource(0), draw) for draw in (0, 1)), equal=torch.equal):
            raise nothing_random("live sites whose effect does not reach the output that is read")
        if not separable:
            warn_not_separated(axes)
            return _Plan(told, separable=False, rows_alone=False)
        places = Places.of(hidden.probe, self._try(two_rows(inputs, axes), told, 2))
        told = replace(told, placed=places.placed, unbatched=frozenset(places.unbatched))
        return _Plan(told, separable=True, rows_alone=places.unknown or bool(places.undecided))

    def _try(self, inputs: Inputs, told: Told, rows: int) -> ProbePass | None:
        try:
            return self._probe(inputs, told, rows)
        except Exception:  # what the model makes of these rows; the whole batch says what is wrong with it
            return None

    def _probe(self, inputs: Inputs, told: Told, rows: int) -> ProbePass:
        ctx = KerasPass(self.keras_model, inputs, told, rows)
        whole = ctx.run()
        leaves, spec = pytree.tree_flatten(whole)
        shapes = [getattr(leaf, "shape", None) for leaf in leaves]
        return ProbePass(ctx.seen, (str(spec), shapes), self.output.read(whole))

    def _fired(self, inputs: Inputs, told: Told, rows: int) -> Any:
        try:
            return self.read(inputs, told, rows, MaskSource(0), 0)
        except Exception:
            return None


def _never(flips: Any, alone: ProbePass) -> bool:
    """Writes of a layer of Keras's are statistics: none is let in."""
    return False


def _second_row_is(one: Any, two: Any) -> bool:
    pairs: Any = zip(pytree.tree_leaves(one), pytree.tree_leaves(two), strict=True)
    return all(b.shape == (2, *a.shape[1:]) and close(b[1:], a) for a, b in pairs if isinstance(a, Tensor))


def _check_model(keras: Any, model: Any) -> None:
    problem = None
    if not isinstance(model, keras.Model):
        got = f"{type(model).__module__}.{type(model).__qualname__}"
        problem = ("model must be a keras.Model of Keras 3.", got, "caveat.mc_dropout takes networks of torch")
    elif not model.built:
        problem = ("A Keras model must be built before it is drawn from.", "one without weights", "call it: model(x)")
    if problem is not None:
        raise InvalidArgumentError(problem[0], got=problem[1], fix=problem[2])
