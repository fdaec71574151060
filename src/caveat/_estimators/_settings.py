"""The parameters of estimators: one dataclass for each kind, which its estimators inherit; a model keeps a copy.

The copy is checked once, and ``set_params`` of the estimator does not change it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from caveat._checks import require_integer, require_seed
from caveat.errors import InvalidArgumentError

_LEAST = {"members": 1, "draws": 2, "width": 1, "epochs": 1, "batch_size": 1, "patience": 1}
_BELOW = {"dropout": 1.0, "validation": 1.0, "learning_rate": 1e6, "calibration": 1.0, "weight_decay": 1e6}
_MAY_BE_0 = ("calibration", "weight_decay")
METHODS = ("ensemble", "mc_dropout")


@dataclass(kw_only=True, eq=False)
class SharedSettings:
    """The parameters that all kinds have: see their estimators. None leaves it to what is trained and to the rows."""

    members: int = 5
    draws: int = 100
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    weight_decay: float | None = None
    calibration: float = 0.15
    random_state: int = 0


@dataclass(kw_only=True, eq=False)
class NetworkSettings(SharedSettings):
    """The parameters of kinds that train whole networks, or heads on a frozen one."""

    method: str | None = None
    width: int | None = None
    learning_rate: float | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class SharedShape:
    """What the shapes of all networks say: plain data, from which a kind builds its network.

    Fields:
        outputs: Classes, or a mean and a log-variance for each target.
        classes: Whether it answers with classes.
        width: Width of the hidden layer, or what the kind calls its width.
        dropout: Rate of dropout.
    """

    outputs: int
    classes: bool
    width: int
    dropout: float


SettingsT = TypeVar("SettingsT", bound=SharedSettings)


def settings_of(estimator: Any, kind: type[SettingsT]) -> SettingsT:
    """Returns the parameters of an estimator as the dataclass ``kind``; paths become text, NumPy numbers Python's."""
    named: dict[str, Any] = {}
    for field in fields(kind):
        value: Any = getattr(estimator, field.name)
        value = value.item() if hasattr(value, "item") else value
        path = hasattr(value, "__fspath__") or (field.name == "device" and value is not None)
        named[field.name] = str(value) if path else value
    return kind(**named)


def check_ranges(
    settings: SettingsT, *, least: Mapping[str, int], **choices: Collection[str]
) -> SettingsT:
    """Returns the settings if all are in range; what may be None is left out where it is.

    Args:
        settings: Parameters.
        least: Least value for each integer that only this kind has, or that has another least value.
        choices: Allowed words for each parameter that is one of several; ``METHODS`` of the method if not said.

    Raises:
        InvalidArgumentError: A word that is not known, or a number out of range.
    """
    integers, choices = {**_LEAST, **least}, {"method": METHODS, **choices}
    optional = {field.name: field.default is None for field in fields(settings)}
    for name in (*choices, *integers, *_BELOW):
        if name not in optional or (optional[name] and getattr(settings, name) is None):
            continue
        value: Any = getattr(settings, name)
        if name in choices and value not in choices[name]:
            first = next(iter(choices[name]))
            raise wrong_setting(name, value, f"must be one of {', '.join(choices[name])}", f"{name}={first!r}")
        if name in integers:
            require_integer(value, name, integers[name], fix="leave it out")
        if name in _BELOW:
            least_word = "at least" if name in _MAY_BE_0 else "above"
            above = isinstance(value, (int, float)) and (value > 0 or (value == 0 and name in _MAY_BE_0))
            if not above or value >= _BELOW[name]:
                rule = f"must be a number {least_word} 0 and below {_BELOW[name]:g}"
                raise wrong_setting(name, value, rule, "leave it out")
    require_seed(settings.random_state, "random_state")
    return settings


def count_networks(settings: Any, usual: str) -> int:
    """Returns how many networks are trained: the members of an ensemble, or one; ``usual`` is the method if None."""
    return settings.members if (settings.method or usual) == "ensemble" else 1


def fill_in(settings: SettingsT, networks: int, **usual: Any) -> SettingsT:
    """Returns the settings with as many members as networks are trained, and usual values for those that are None."""
    open_ones = {name: value for name, value in usual.items() if getattr(settings, name) is None}
    return replace(settings, members=networks, **open_ones)


def usual_pace(settings: SharedSettings, rows: int, steps: int, fewest: int = 4) -> dict[str, int]:
    """Returns the usual ``batch_size`` and ``epochs``: small batches of small sets, and about ``steps`` steps.

    Args:
        settings: Parameters, whose batch size counts where it is chosen.
        rows: Number of rows to train on.
        steps: Number of steps that the epochs come to, where these are from ``fewest`` to 60.
        fewest: Least number of epochs.
    """
    batch = settings.batch_size or (16 if rows < 500 else 32 if rows < 3_000 else 64)
    return {"batch_size": batch, "epochs": max(fewest, min(60, steps * batch // max(rows, 1)))}


def wrong_setting(name: str, value: Any, rule: str, fix: str) -> InvalidArgumentError:
    """Returns the error for a parameter that cannot be used."""
    cause = "a typo, or a value that was computed and came out as nothing"
    return InvalidArgumentError(f"{name} {rule}.", got=f"{name}={value!r}", cause=cause, fix=fix)
