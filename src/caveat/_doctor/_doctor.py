"""``caveat.doctor``: a network and a recipe examined by running them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from caveat._checks import require_choice, require_integer, require_model, require_seed
from caveat._doctor._check_recipe import Checked, check_recipe, faults_of_passes
from caveat._doctor._diagnosis import WAYS, Diagnosis, ExaminedSite, Fault, Way
from caveat._doctor._faults import NAMES, fault, in_order
from caveat._doctor._network_under_test import Examined, look_at
from caveat._doctor._recipe import recipe_of
from caveat._doctor._runs import PASSES, by_switching, by_train, run_way
from caveat._intercept import LivePredicate, all_dropout, interruptible

_HIGH_RATE = 0.9
_DRAWS_FOR_SHARES = 200


@interruptible
def doctor(
    model: nn.Module,
    x: Any,
    recipe: Callable[..., Any] | None = None,
    *,
    live: LivePredicate = all_dropout,
    n: int = 1000,
    seed: int = 0,
    in_dims: Any = None,
    ignore: Iterable[str] = (),
    shares: bool = True,
) -> Diagnosis:
    """Examines a network, and a recipe of one's own for drawing from it, by running them; names every fault found.

    For every site it says whether ``model.train()``, switching the dropout modules of ``torch.nn``, and the recipe fire
    it, and what else each of them does. The recipe is run on the network in eval mode, as it is in use, a few times;
    whatever it changes is noted, and put back.

    Args:
        model: any network.
        x: a batch, as for ``caveat.predict``.
        recipe: ``predict(model, x)``, or ``predict(x)`` of a network that it holds: returns its T outputs stacked
            first, (T, B, ...), or a list of T. It is what one would otherwise use in place of caveat.
        live: which sites are asked for, as for ``caveat.mc_dropout``.
        n: how many of caveat's draws the recipe is compared with; at least four times its T are made.
        seed: Random seed of caveat's draws, and of the process while the recipe runs.
        in_dims: The inputs' batch axes, as for ``caveat.mc_dropout``; found by trial if not given.
        ignore: Names of faults that are meant to be, and are a note.
        shares: Whether each site's share of the variance is found, by drawing without it.

    Raises:
        NothingRandomError: the network has no site that could fire.
        InvalidArgumentError: the network does not run on the batch; the recipe raises, or returns anything but
            T outputs; or there is no fault of a name in ``ignore``.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        >>> def predict(model, x):
        ...     model.train()
        ...     return torch.stack([model(x) for _ in range(30)])
        >>> [fault.name for fault in doctor(model, torch.randn(16, 4), predict)]
        ['batch_norm_moves', 'left_in_train_mode']
    """
    require_model(model)
    require_integer(n, "n", 100)
    require_seed(seed)
    ignored = tuple(ignore)
    for name in ignored:
        require_choice(name, "ignore", NAMES)
    given_in_train_mode = model.training
    examined = look_at(model, x, live, in_dims, seed)
    checked = None if recipe is None else check_recipe(examined, recipe_of(recipe, examined.network.model), n)
    ways, fires = list[Way](), dict[str, list[float]]()
    for name, way in zip(WAYS, (by_train, by_switching), strict=False):
        found, fires[name] = _examine_way(examined, name, way)
        ways.append(found)
    faults = _faults_of_rates(examined)
    if checked is not None:
        ways.append(Way(WAYS[2], in_order(checked.faults)))
        fires[WAYS[2]] = checked.fires
        faults += checked.faults
    left_out = [f"{one.name} is ignored: {one.what}" for one in faults if one.name in ignored]
    return Diagnosis(
        faults=in_order(one for one in faults if one.name not in ignored),
        notes=(*left_out, *_notes(examined, given_in_train_mode)),
        sites=_sites(examined, fires, checked, shares),
        ways=tuple(ways),
        comparison=None if checked is None else checked.comparison,
    )


def _examine_way(examined: Examined, name: str, way: Callable[..., Any]) -> tuple[Way, list[float]]:
    try:
        run = run_way(examined.network.model, examined.inputs, way, seed=examined.seed, draws=False)
    except Exception as error:
        return Way(name, (), f"{type(error).__name__}: {error}".splitlines()[0]), [float("nan")] * len(examined.places)
    firing = examined.firing(run)
    faults = faults_of_passes(examined, run, firing, mode=False)
    fires = [min(covered / PASSES, 1.0) for covered in firing.covered]
    silent = [
        place.site.path for place, one in zip(examined.places, fires, strict=True) if place.expected and one < 1
    ]
    if silent:
        faults.append(fault("site_silent", silent))
    return Way(name, in_order(faults)), fires


def _faults_of_rates(examined: Examined) -> list[Fault]:
    high = [place for place in examined.places if place.expected and (place.rate or 0) >= _HIGH_RATE]
    if not high:
        return []
    rates = ", ".join(dict.fromkeys(f"{place.rate:.0%}" for place in high))
    return [fault("rate_too_high", [place.site.path for place in high], rates)]


def _notes(examined: Examined, given_in_train_mode: bool) -> list[str]:
    zero = [place.site.path or "(model)" for place in examined.places if place.rate == 0]
    notes = [f"{len(zero)} site(s) of rate 0 draw nothing: {', '.join(zero[:6])}."] if zero else []
    if given_in_train_mode:
        notes.append("the network was given in train mode, and examined in eval mode, as it is in use.")
    return [*notes, *examined.audit.notes]


def _sites(
    examined: Examined, fires: dict[str, list[float]], checked: Checked | None, shares: bool
) -> tuple[ExaminedSite, ...]:
    fractions = _variance_fractions(examined, 0 if checked is None else checked.leaf) if shares else {}
    return tuple(
        ExaminedSite(
            path=place.site.path,
            kind=place.site.kind,
            rate=place.rate,
            live=place.expected,
            variance_fraction=fractions.get(place.site.path) if place.expected else None,
            fires={way: of_sites[at] for way, of_sites in fires.items()},
        )
        for at, place in enumerate(examined.places)
    )


def _variance_fractions(examined: Examined, leaf: int) -> dict[str, float]:
    """How much smaller the variance is without the sites of each module; the other masks stay what they are."""
    paths = examined.paths()
    whole = _variance(examined, leaf, paths)
    if whole == 0:
        return {}
    return {
        path: 1 - _variance(examined, leaf, [other for other in paths if other != path]) / whole for path in paths
    }


def _variance(examined: Examined, leaf: int, paths: list[str]) -> float:
    values = examined.draws(leaf, _DRAWS_FOR_SHARES, "shared", only=lambda path: path in paths)
    return float(values.double().var(0).nan_to_num(0.0, 0.0, 0.0).sum())
