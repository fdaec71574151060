"""Test-time augmentation: each draw is the network on inputs that were changed in one random way.

See "Test-Time Data Augmentation for Estimation of Heteroscedastic Aleatoric Uncertainty in Deep Neural Networks", Ayhan
and Berens, 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._checks import require_model
from caveat._engine import OneByOne, P, P_co, Stream, Values, as_output
from caveat._inputs import Axes, Inputs, as_inputs, map_leaves, rows_along, structure_of, with_leaves
from caveat._intercept import Known, agree, read_random_states, seeded
from caveat._seeds import check_seed, fold_in, generator_of
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError, NothingRandomError, explain
from caveat.predictive import Output
from caveat.samplers._members._as_eval import EvalNetwork, rows_of

Augment = Callable[[Any, torch.Generator], Any]
"""``augment(x, generator)``: inputs like ``x``, changed in a way that the generator's random numbers decide."""

_TRIED_DRAWS = 8
_States = tuple[Any, Any]


@dataclass(frozen=True, eq=False, repr=False)
class TestTimeAugmentation(Generic[P_co]):
    """The sampler that ``test_time_augmentation`` makes; see there."""

    __test__ = False  # its name begins as a test's does

    model: nn.Module
    output: Output[P_co]
    augment: Augment
    _network: EvalNetwork = field(repr=False)
    _together: Known[bool] = field(default_factory=Known[bool], repr=False)

    __repr__ = in_a_line

    size = None
    """There is no end of augmentations."""
    strata = None
    """Augmentations are independent."""

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Generator[Stream]:
        """Holds what is needed to draw on ``x``: see ``caveat.samplers.Sampler``."""
        check_seed(seed)
        network = self._network
        inputs = as_inputs(x, network.device)
        kind = network.kind(inputs)
        axes = kind.probe.axes
        together = self._alike_together(inputs, axes)
        inputs, numbers = rows_of(inputs, kind.probe, rows, network.device)

        def one(draw: int) -> Values:
            with torch.set_grad_enabled(gradient):
                changed = self._changed(inputs, seed, draw, None if together else axes)
            return network.draw(changed, numbers, network.kind(changed), draw, seed, gradient)

        yield OneByOne(one, len(numbers) if kind.separable else None)

    def _alike_together(self, inputs: Inputs, axes: Axes | None) -> bool:
        """Returns whether augmenting the batch gives each row what augmenting it by itself gives. Tried on a few rows.

        Random numbers of each row's own may leave these rows as they are (zeros that are scaled): then the random
        states tell it, which go on further with more rows.
        """
        _, known = self._together.get(inputs)
        if known is None:
            count = 1 if axes is None else axes.count(inputs) or 1
            rows = sorted({0, count // 2, max(count - 2, 0), count - 1})
            some = inputs if axes is None else axes.take(inputs, rows)
            self._check_random(some)
            if axes is not None and count > 1:
                self._check_apart(some, axes.take(inputs, rows[:1] * len(rows)), axes)
                known = all(self._are_alike(some, axes, draw) for draw in range(_TRIED_DRAWS))
            else:
                known = True
            self._together.add(inputs, axes, known)
        return known

    def _check_random(self, inputs: Inputs) -> None:
        """Raises unless a draw's augmentation follows from its number, and differs from draw to draw or may."""
        states = list[_States]()
        first, again = (self._changed(inputs, 0, 0, None, states) for _ in range(2))
        if not agree(first, again, _same):
            raise InvalidArgumentError(_own_numbers())
        others = [self._changed(inputs, 0, draw, None, states) for draw in range(1, _TRIED_DRAWS)]
        if all(before == after for before, after in states) and all(agree(first, other, _same) for other in others):
            raise NothingRandomError(_nothing_random())

    def _check_apart(self, inputs: Inputs, first_repeated: Inputs, axes: Axes) -> None:
        """Raises if the first row is changed otherwise where the rows beside it are others."""
        for draw in range(_TRIED_DRAWS):
            first, again = (self._changed(given, 0, draw, None) for given in (inputs, first_repeated))
            if not agree(axes.take(first, [0]), axes.take(again, [0]), _same):
                raise InvalidArgumentError(_mixed_rows())

    def _are_alike(self, inputs: Inputs, axes: Axes, draw: int) -> bool:
        states = list[_States]()
        together = self._changed(inputs, 0, draw, None, states)
        one_by_one = self._changed(inputs, 0, draw, axes, states)
        return agree(together, one_by_one, torch.equal) and all(after == states[0][1] for _, after in states)

    def _changed(
        self, inputs: Inputs, seed: int, draw: int, axes: Axes | None, states: list[_States] | None = None
    ) -> Inputs:
        """The inputs as a draw changes them: all at once, or row by row along ``axes``.

        Where there are ``states``, the random states before and after each augmentation are added to them.
        """
        if axes is None:
            return self._augmented(inputs, seed, draw, states)
        rows = range(axes.count(inputs) or 1)
        parts = [self._augmented(axes.take(inputs, [row]), seed, draw, states) for row in rows]
        first = structure_of(parts[0]).leaves
        pairs = zip(axes.of, zip(*(structure_of(part).leaves for part in parts), strict=True), strict=True)
        joined = [leaves[0] if at is None else torch.cat(cast(Any, leaves), dim=at) for at, leaves in pairs]
        return with_leaves(parts[0], first, joined)

    def _augmented(self, inputs: Inputs, seed: int, draw: int, states: list[_States] | None) -> Inputs:
        # An augmentation may write on what it gets.
        args, kwargs = map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)
        given: Any = kwargs if kwargs else args[0] if len(args) == 1 else args
        generator = generator_of(seed, draw, "augmentation")
        with seeded(fold_in(seed, "augmentation in the global state", draw)):
            before = None if states is None else self._state_of(generator)
            changed = self.augment(given, generator)
            if states is not None:
                states.append((before, self._state_of(generator)))
        if changed is None or _first_sizes(as_inputs(changed, self._network.device)) != _first_sizes(inputs):
            raise InvalidArgumentError(_another_batch(given, changed))
        return as_inputs(changed, self._network.device)

    def _state_of(self, generator: torch.Generator) -> Any:
        return bytes(generator.get_state().numpy()), read_random_states({self._network.device}).parts()


def test_time_augmentation(  # no test, though its name begins as one's
    model: nn.Module,
    augment: Augment,
    *,
    output: Output[P] | dict[str, Output],
    in_dims: Any = None,  # noqa: PT028
) -> TestTimeAugmentation[P]:
    """A sampler that changes the inputs in random ways that should not matter: test-time augmentation.

    Draw i calls ``augment(x, generator)`` with a generator whose state depends on (seed, i) alone, and the network in
    eval mode on what comes back. A row must get the same whatever rows are beside it: where a trial shows that it does
    not (a random number for each row), ``augment`` is called row by row, which is slower. What is uncertain here is
    the input, so read the variance over draws as sensitivity to these changes.

    Args:
        model: Any network.
        augment: takes inputs as they are passed to ``predict`` (a tensor, a tuple or a dict) and a ``torch.Generator``
            on the CPU, and returns inputs with as many rows. Augmentations that draw from torch's, NumPy's or Python's
            own random state work as well: these are set for the call and put back.
        output: How to read what the network returns, or a dict of outputs by name for several heads.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.

    Returns:
        An unbounded sampler.

    Raises:
        InvalidArgumentError: not a network or not a function; while drawing, inputs of another number of rows, random
            numbers of the function's own, or rows that are mixed with one another.
        NothingRandomError: while drawing, an augmentation that draws no random number and does the same in every draw.

    See "Test-Time Data Augmentation for Estimation of Heteroscedastic Aleatoric Uncertainty in Deep Neural Networks",
    Ayhan and Berens, 2018, https://openreview.net/forum?id=rJZz-knjz.

    Example:
        >>> import caveat
        >>> def jitter(x, generator):
        ...     return x + 0.1 * torch.randn(x.shape[1:], generator=generator).to(x.device)
        >>> sampler = test_time_augmentation(nn.Linear(4, 3), jitter, output=caveat.Logits())
        >>> caveat.predict(sampler, torch.zeros(2, 4), n=20).mean.shape
        torch.Size([2, 3])
    """
    require_model(model)
    if not callable(augment):
        fix = "def augment(x, generator): return x + 0.1 * torch.randn(x.shape[1:], generator=generator).to(x.device)"
        raise InvalidArgumentError(_wrong_kind("augment must be a function of (inputs, generator).", augment, fix))
    as_read = as_output(output)
    return TestTimeAugmentation(model, as_read, augment, EvalNetwork(model, as_read.read, in_dims))


test_time_augmentation.__test__ = False  # type: ignore[attr-defined]


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal, NaN beside NaN too."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _first_sizes(inputs: Inputs) -> list[int | None]:
    return [rows_along(leaf, 0) for leaf in structure_of(inputs).leaves]


def _wrong_kind(rule: str, got: object, fix: str) -> str:
    return explain(rule, got=type(got).__name__, cause="the arguments in another order", fix=fix)


def _another_batch(given: Any, changed: Any) -> str:
    def shapes(tree: Any) -> str:
        return ", ".join(str(tuple(leaf.shape)) for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))

    return explain(
        "augment must return inputs with as many rows as it gets.",
        got=f"{shapes(given)} became {shapes(changed) or type(changed).__name__}",
        cause="an augmentation that returns several views of each row, or that forgets its return",
        fix="return one view; each draw makes another one",
    )


def _own_numbers() -> str:
    return explain(
        "augment must take its random numbers from its generator, or from the global ones of torch, NumPy or random.",
        got="two results for one draw of one batch",
        cause="a NumPy or torch generator of its own, the time, or a count of its calls",
        fix="np.random.default_rng(int(torch.randint(2**31, (), generator=generator))) in the function",
    )


def _mixed_rows() -> str:
    return explain(
        "augment must change each row by itself.",
        got="a row that is changed otherwise where the rows beside it are others",
        cause="rows mixed with one another, or the mean or largest value of the batch",
        fix="take means over a row's own axes; mixup and the like are for training",
    )


def _nothing_random() -> str:
    return explain(
        "Test-time augmentation needs an augmentation that differs from draw to draw.",
        got="a function that draws no random number, and the same inputs in every draw",
        cause="the inputs returned as they came, or a fixed change such as a flip",
        fix="decide by the generator: x.flip(-1) if torch.rand((), generator=generator) < 0.5 else x",
    )
