"""One recipe held to a network: what it fires, what it moves, whether its draws are draws, and how far off they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt
from statistics import median
from typing import Any

import torch
from torch import Tensor

from caveat._doctor._diagnosis import Comparison, Fault
from caveat._doctor._faults import buffers_moved, fault, faults_of_moved
from caveat._doctor._firing import Firing
from caveat._doctor._law import Gap, flat, gap_between, is_constant, is_repeated
from caveat._doctor._network_under_test import Examined
from caveat._doctor._reading import Reading, find_reading, leaves_like
from caveat._doctor._recipe import Recipe
from caveat._doctor._runs import Run, run_way
from caveat._inputs import as_given
from caveat.errors import CaveatError

_WANTED, _MOST_RUNS, _FEWEST_PASSES = 60, 8, 9
_MOST_NUMBERS = 1 << 28
_AGAIN = 1000
_WHOLE = 1 - 1e-6


@dataclass(frozen=True)
class Checked:
    """What was found of a recipe: ``fires`` has for each site the fraction of the draws in which it drew anew."""

    faults: list[Fault]
    fires: list[float]
    comparison: Comparison
    leaf: int


@dataclass(frozen=True)
class _Drawn:
    """A recipe's outputs and caveat's read alike, both (S, E): of one call, of all calls, of n draws."""

    run: Run
    once: Tensor
    pooled: Tensor
    reference: Tensor
    reading: Reading


def faults_of_passes(examined: Examined, run: Run, firing: Firing, *, mode: bool) -> list[Fault]:
    """What a watched run damages, whatever its outputs are."""
    found, moved = list[Fault](), [name for name in run.moved if name not in examined.rest.moved]
    by_batch = run.seen.by_batch - examined.rest.seen.by_batch
    if by_batch:
        moving = [path for path in by_batch if buffers_moved(moved, path)]
        more = "outputs use the statistics of the batch" + (", and its running statistics move" if moving else "")
        found.append(fault("batch_norm_moves", sorted(by_batch), more))
    fired = [place for place, covered in zip(examined.places, firing.covered, strict=True) if covered > 0]
    off = [place.site for place in fired if not place.expected]
    branches = [site.path for site in off if site.kind == "stochastic depth"]
    others = [site.path for site in off if site.kind != "stochastic depth"]
    resting = examined.firing(examined.rest)
    extra = firing.extra - resting.extra
    fired_off = {"stochastic_depth_on": branches, "site_not_asked_for": others, "training_noise_on": extra}
    fired_off["site_fires_twice"] = firing.twice - resting.twice
    found += [fault(name, sorted(where)) for name, where in fired_off.items() if where]
    if firing.outside:
        found.append(fault("random_outside_the_network"))
    if firing.rates:
        where = [examined.places[at].site.path for at in firing.rates]
        pairs = [f"{rate:g} in place of {examined.places[at].rate:g}" for at, rate in firing.rates.items()]
        found.append(fault("rate_changed", where, ", ".join(dict.fromkeys(pairs))))
    if run.seen.structures - examined.rest.seen.structures:
        found.append(fault("auxiliary_heads_on"))
    return found + faults_of_moved(moved, by_batch, mode=mode)


def check_recipe(examined: Examined, recipe: Recipe, n: int) -> Checked:
    """Runs a recipe a few times and says what is wrong with it."""
    drawn, others = _draw(examined, recipe, n)
    run, T = drawn.run, len(drawn.once)
    firing = examined.firing(run)
    faults = faults_of_passes(examined, run, firing, mode=True)
    if _fixes_random_state(others):
        faults.append(fault("global_seed_set"))
    constant, repeated = is_constant(drawn.once), _is_repeated(examined, drawn)
    fires = [min(covered / T, 1.0) for covered in firing.covered]
    unseen = not run.seen.draws and not constant
    explained = not {one.name for one in faults} & _UNEXPLAINED
    gap = gap_between(drawn.pooled, drawn.reference)
    if unseen:
        fires = _fires_by_law(examined, drawn, gap)
    expected = [at for at, place in enumerate(examined.places) if place.expected]
    passes = sum(run.seen.sizes) / max(examined.entries, 1)
    silent = [at for at in expected if fires[at] < _WHOLE and (passes >= T * _WHOLE or fires[at] == 0)]
    if silent:
        some = [fires[at] for at in silent if fires[at] > 0]
        more = f" ({min(some):.0%} of the passes)" if some else ""
        faults.append(fault("site_silent", [examined.places[at].site.path for at in silent], more))
    stale = [at for at in expected if 0 < fires[at] < _WHOLE and at not in silent]
    partly = any(0 < fires[at] < _WHOLE for at in silent)  # then the outputs of the other passes are the same
    if stale or (repeated and not partly and any(fires[at] > 0 for at in expected)):
        more = f": {T} outputs of {passes:g} passes" if 0 < passes < T * _WHOLE else ""
        faults.append(fault("masks_repeated_over_draws", [examined.places[at].site.path for at in stale], more))
        explained = False
    if not unseen:
        by_batch = "batch_norm_moves" in {one.name for one in faults}
        faults += _faults_over_rows(examined, recipe, drawn, others[0], firing, by_batch=by_batch)
    explained = explained and "rows_depend_on_each_other" not in {one.name for one in faults}
    if explained and not partly and not (unseen and silent):
        faults += _faults_of_law(examined, recipe, drawn, fires, gap)
    if not bool(drawn.once.isfinite().all()) and bool(drawn.reference.isfinite().all()):
        faults.append(fault("not_finite"))
    if T < _FEWEST_PASSES:
        faults.append(fault("too_few_passes", more=str(T)))
    return Checked(faults, fires, _compare(examined, drawn, others), drawn.reading.leaf)


_UNEXPLAINED = {
    *("batch_norm_moves", "training_noise_on", "random_outside_the_network", "rate_changed", "site_fires_twice"),
    *("parameters_changed", "buffers_changed", "inputs_changed"),
}
"""Faults that move the outputs by themselves, by an amount that nothing here foretells."""


def _draw(examined: Examined, recipe: Recipe, n: int) -> tuple[_Drawn, list[Run]]:
    """Calls the recipe, watched and not, and draws what its outputs are compared with.

    The first call that is not watched is from the watched one's seed, the others each from its own.
    """
    run = _run(examined, recipe, examined.x, examined.seed, watched=True)
    assert run.outputs is not None
    T = len(run.outputs)
    candidates = leaves_like(run.outputs, examined.leaves)
    count = min(max(ceil(_WANTED / T), 2), _MOST_RUNS)
    seeds = [examined.seed, *(examined.seed + at for at in range(1, count + 1))]
    others = [_run(examined, recipe, examined.x, seed) for seed in seeds]
    outputs = [other.outputs for other in others[1:] if other.outputs is not None]
    wanted = max(n, 4 * T)
    draws = max(2 * T, min(wanted, _MOST_NUMBERS // max(run.outputs[0].numel() * len(candidates), 1)))
    reading, reference = find_reading(run.outputs, {leaf: examined.draws(leaf, draws) for leaf in candidates})
    once = flat(run.outputs)
    pooled = [once]
    for values in outputs:
        new = values.shape[1:] == run.outputs.shape[1:] and not torch.equal(values[0], run.outputs[0])  # its own seed
        if new and (len(pooled) + 1) * T * 3 <= draws:
            pooled.append(flat(values))
    return _Drawn(run, once, torch.cat(pooled), flat(reference), reading), others


def _is_repeated(examined: Examined, drawn: _Drawn) -> bool:
    """Returns whether draws repeat each other, more than caveat's do by chance, with masks for each row or for all."""
    if not is_repeated(drawn.once, drawn.reference):
        return False
    shared = examined.draws(drawn.reading.leaf, len(drawn.reference), "shared")
    return is_repeated(drawn.once, flat(drawn.reading.function(shared)))


def _run(examined: Examined, recipe: Recipe, x: Any, seed: int, *, watched: bool = False) -> Run:
    return run_way(examined.network.model, x, recipe.run, seed=seed, watched=watched, held=recipe.held)


def _fixes_random_state(others: list[Run]) -> bool:
    """Returns whether one of the generators ends in the same state wherever it began."""
    first, second = others[0].state, others[1].state
    return any(a == b for a, b in zip(first, second, strict=True))


def _fires_by_law(examined: Examined, drawn: _Drawn, gap: Gap) -> list[float]:
    """Which sites fire where no operator was seen to draw, told by what the outputs' law is like.

    Masks may come from a hash, as caveat's own, or from NumPy: if the draws are like caveat's all fire; if they are
    like caveat's without the sites of one module, that is silent.
    """
    live = [1.0 if place.expected else 0.0 for place in examined.places]
    if not (gap.mean_differs or gap.spread_differs):
        return live
    for path in examined.paths():
        fires = [0.0 if place.site.path == path else one for place, one in zip(examined.places, live, strict=True)]
        other = gap_between(drawn.pooled, _reference(examined, drawn, fires))
        if not (other.mean_differs or other.spread_differs):
            return fires
    return live


def _reference(examined: Examined, drawn: _Drawn, fires: list[float]) -> Tensor:
    """Caveat's draws with the sites live that a recipe fires."""
    if all((one > 0) == place.expected for one, place in zip(fires, examined.places, strict=True)):
        return drawn.reference
    paths = {place.site.path for one, place in zip(fires, examined.places, strict=True) if one > 0}
    values = examined.draws(drawn.reading.leaf, len(drawn.reference), only=lambda path: path in paths)
    return flat(drawn.reading.function(values))


def _faults_of_law(
    examined: Examined, recipe: Recipe, drawn: _Drawn, fires: list[float], gap: Gap
) -> list[Fault]:
    """Where means or variances are not what the sites that fire would give: seen twice, with other random numbers."""
    mixed = {place.site.path for place, one in zip(examined.places, fires, strict=True) if place.expected and one == 0}
    mixed &= {place.site.path for place, one in zip(examined.places, fires, strict=True) if one > 0}
    if mixed:
        return []
    reference = _reference(examined, drawn, fires)
    if reference is not drawn.reference:
        gap = gap_between(drawn.pooled, reference)
    if not (gap.mean_differs or gap.spread_differs):
        return []
    again = replace(examined, seed=examined.seed + _AGAIN)
    fresh, _ = _draw(again, recipe, len(reference) * 2)
    second = gap_between(fresh.pooled, _reference(again, fresh, fires))
    gap = replace(
        gap,
        mean_differs=gap.mean_differs and second.mean_differs,
        spread_differs=gap.spread_differs and second.spread_differs,
    )
    distance = f"{gap.mean_distance:.2g} standard deviations away"
    ratio = f"{gap.spread_ratio:.2g} times the variance"
    found = [fault("mean_differs", more=distance)] if gap.mean_differs else []
    return found + ([fault("spread_differs", more=ratio)] if gap.spread_differs else [])


def _faults_over_rows(
    examined: Examined, recipe: Recipe, drawn: _Drawn, again: Run, firing: Firing, *, by_batch: bool
) -> list[Fault]:
    """Masks that rows share, and rows that reach into others: what a batch of one row, several times over, shows.

    ``again`` is a second run from the same seed, which shows whether the recipe repeats itself.
    """
    found = list[Fault]()
    if firing.shared:
        found.append(fault("masks_repeated_over_rows", [examined.places[at].site.path for at in sorted(firing.shared)]))
    axes, outputs = examined.probe.axes, drawn.run.outputs
    if axes is None or not examined.probe.separable or outputs is None:
        return found
    rows, at = examined.rows, {1 + axis for axis in examined.probe.output_axes or ()}
    if rows < 2 or len(at) != 1 or outputs.dim() <= (axis := at.pop()) or outputs.shape[axis] != rows:
        return found
    alike = as_given(examined.x, axes.take(examined.inputs, [0] * rows))
    try:
        run = _run(examined, recipe, alike, examined.seed)
    except CaveatError:  # it may count on its batch
        return found
    if run.outputs is None or run.outputs.shape != outputs.shape:
        return found
    values, outputs = run.outputs.movedim(axis, 1).double(), outputs.movedim(axis, 1)
    scale = 1e-4 * float(outputs.abs().amax())
    repeatable = run.state == again.state  # as many random numbers, whatever the values
    if again.outputs is not None:
        repeatable = repeatable and bool(((again.outputs.movedim(axis, 1) - outputs).abs() <= scale).all())
    if not by_batch and repeatable and bool(((values[:, 0] - outputs[:, 0]).abs() > scale).any()):
        found.append(fault("rows_depend_on_each_other"))
    alike_in_all = not firing.shared and _rows_alike(values) and _draws_differ(values)
    if alike_in_all and not _rows_alike_of_caveat(examined, drawn, axis):
        found.append(fault("masks_repeated_over_rows"))
    return found


def _rows_alike(values: Tensor) -> bool:
    """Returns whether all rows of each draw (T, B, ...) are the same."""
    scale = float(values.abs().amax()) + 1e-12
    return bool(((values - values[:, :1]).abs() <= 1e-5 * scale).all())


def _draws_differ(values: Tensor) -> bool:
    """Returns whether draws (T, B, ...) differ by more than the rounding errors that equal rows, normalized, leave."""
    scale = float(values.abs().amax()) + 1e-12
    return bool(((values - values[:1]).abs() > 1e-4 * scale).any())


def _rows_alike_of_caveat(examined: Examined, drawn: _Drawn, axis: int) -> bool:
    """Returns whether rows that are alike would stay so with masks of their own, as where the network shares masks."""
    axes = examined.probe.axes
    assert axes is not None
    alike: Any = axes.take(examined.inputs, [0] * examined.rows)
    other = replace(examined, x=as_given(examined.x, alike), inputs=alike)
    return _rows_alike(other.draws(drawn.reading.leaf, len(drawn.once)).movedim(axis, 1).double())


def _compare(examined: Examined, drawn: _Drawn, others: list[Run]) -> Comparison:
    T, n = len(drawn.once), len(drawn.reference)
    gap = gap_between(drawn.once, drawn.reference)
    return Comparison(
        passes=T,
        draws=n,
        read_as=drawn.reading.name,
        mean_distance=gap.mean_distance,
        mean_distance_expected=sqrt(1 / T + 1 / n),
        spread_ratio=gap.spread_ratio,
        spread_ratio_error=gap.spread_ratio_error,
        standard_error=1 / sqrt(T),
        seconds=median(other.seconds for other in others) / T,
        caveat_seconds=examined.seconds_per_draw(drawn.reading.leaf, T),
    )
