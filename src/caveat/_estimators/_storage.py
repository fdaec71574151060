"""A model of any kind as a folder: see ``_model_folder`` for how it is written, and here for what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from caveat._estimators._card import model_card
from caveat._estimators._kind import Kind, Stored
from caveat._estimators._model import Calibration, Model, measures_of
from caveat._estimators._model_checks import (
    check_calibration,
    check_names,
    check_policy,
    check_shape,
    check_size,
    check_summary,
    check_target,
    check_weights,
    require,
    under,
)
from caveat._estimators._model_folder import ABOUT, MOST_ABOUT, read_folder, write_folder
from caveat._estimators._targets import Classes, Target
from caveat._files import open_regular
from caveat._intercept import interruptible, random_states_kept
from caveat._plain import from_plain, parse_json

_PARTS = ("target", "network", "settings", "calibration", "summary", "policy")
_FACTORS, _SCORES, _UNCERTAINTY = "calibration.factors", "calibration.scores", "uncertainty."
_MOST_FREEDOM = 1000
OF_READER = "reader."
"""What the names of a reader's tensors begin with."""


@dataclass(frozen=True)
class _Calibrated:
    """What the manifest says of the calibration."""

    temperature: float
    noise: float | None
    freedom: tuple[int | None, ...]


def save_model(model: Model, folder: str | Path, *, more: Callable[[Path], None] | None = None) -> None:
    """Write the model into a new folder, or over one that holds a model.

    Args:
        model: Model.
        folder: Folder.
        more: Writes further files into one of ``Kind.folders``.

    Raises:
        InvalidModelError: The place is taken by something that is no model, or cannot be written to.
    """
    calibration = model.calibration
    tensors: dict[str, Tensor] = {
        _FACTORS: calibration.factors,
        _SCORES: calibration.scores,
        **{f"{_UNCERTAINTY}{name}": values for name, values in calibration.uncertainty.items()},
    }
    if model.kind.tensors is not None:
        tensors |= {f"{OF_READER}{name}": values for name, values in model.kind.tensors(model).items()}
    for number, network in enumerate(model.networks):
        tensors |= {f"{number}.{name}": tensor for name, tensor in network.state_dict().items()}
    about: dict[str, Any] = {
        "target": asdict(model.target),
        **asdict(model.kind.state(model)),
        "network": asdict(model.shape),
        "settings": asdict(model.settings),
        "calibration": asdict(_Calibrated(calibration.temperature, calibration.noise, calibration.freedom)),
        "summary": model.summary,
        "policy": model.policy,
    }
    write_folder(Path(folder), model.kind.format, about, tensors, model_card(model), more=more)


def format_of(folder: Path) -> str | None:
    """Returns the format that a folder's manifest states, unchecked; None where it cannot be read."""
    try:
        with open_regular(folder / ABOUT) as file:  # a pipe there must not be waited for
            return str(parse_json(file.read(MOST_ABOUT))["format"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


@interruptible
def load_model(kind: Kind, folder: str | Path, **given: Any) -> Model:
    """Returns the model of a folder.

    Args:
        kind: Kind of estimator that saved it.
        folder: Folder.
        given: What the kind's ``restore`` is told besides.

    Raises:
        InvalidModelError: No such model, or one that was changed, cut short, or made by a newer version.
    """
    place = Path(folder)
    with random_states_kept():  # networks are made with random weights before they get their own
        names = (*_PARTS, *(part.name for part in fields(kind.stored)))
        return read_folder(place, kind.format, names, partial(_make, kind, place, given), folders=kind.folders)


def restore_networks(build: Callable[[], nn.Module], stored: Stored) -> tuple[nn.Module, ...]:
    """Returns as many networks as the folder has, in eval mode; nothing is allocated before their weights fit.

    Raises:
        ValueError: Weights that do not fit, or are not finite.
    """
    networks: list[nn.Module] = []
    for number in range(stored.count):
        weights = check_weights(build, under(stored.tensors, f"{number}."), f"network {number}")
        network = build()
        network.load_state_dict(weights)
        networks.append(network.eval())
    return tuple(networks)


def _make(
    kind: Kind, place: Path, given: Mapping[str, Any], about: dict[str, Any], tensors: dict[str, Tensor]
) -> Model:
    shape = from_plain(kind.shape, about["network"], "network")
    settings = kind.check(from_plain(kind.settings, about["settings"], "settings"))
    target = cast(Target, from_plain(Target, about["target"], "target"))
    stated = cast(_Calibrated, from_plain(_Calibrated, about["calibration"], "calibration"))
    count = kind.networks(settings)
    check_size(count, settings.draws, tensors)
    check_target(target)
    check_shape(shape, target, bare=stated.noise is not None)
    of_reader = from_plain(kind.stored, {part.name: about[part.name] for part in fields(kind.stored)}, "its own part")
    reader, networks = kind.restore(Stored(place, of_reader, target, shape, settings, count, tensors, given))
    for network in networks:
        network.to(getattr(settings, "device", None) or "cpu")
    task = "classification" if isinstance(target, Classes) else "regression"
    measures = measures_of(task)
    checked = kind.tensors is not None  # those of the reader, by the kind
    named = [name for name in tensors if not (checked and name.startswith(OF_READER))]
    check_names(named, count, (_FACTORS, _SCORES, *(f"{_UNCERTAINTY}{name}" for name in measures)))
    factors, scores, unsure = tensors[_FACTORS], tensors[_SCORES], under(tensors, _UNCERTAINTY)
    check_calibration(stated.temperature, factors, scores, 0 if isinstance(target, Classes) else target.count)
    require(stated.noise is None or stated.noise > 0, "calibration.noise must be above 0")
    require(len(stated.freedom) in (0, len(factors)), "calibration.freedom must be one for each target")
    require(all(nu is None or 3 <= nu <= _MOST_FREEDOM for nu in stated.freedom), "calibration.freedom: out of range")
    for name, values in unsure.items():
        require(values.ndim == 1 and bool(values.isfinite().all()), f"{_UNCERTAINTY}{name} must be finite numbers")
    calibration = Calibration(stated.temperature, factors, scores, stated.noise, unsure, stated.freedom)
    summary, policy = check_summary(about["summary"]), check_policy(about["policy"], measures)
    return Model(kind, reader, target, shape, settings, networks, calibration, summary, policy)
