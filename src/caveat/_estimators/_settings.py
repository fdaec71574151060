"""The parameters of estimators: one frozen dataclass for each kind, read off the estimator and checked once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from caveat._checks import require_integer, require_seed
from caveat.errors import InvalidArgumentError, explain


class Settings(Protocol):
    """What the base reads of a kind's parameters; each kind's own dataclass has more."""

    @property
    def draws(self) -> int:
        """The number of functions that a prediction summarizes."""
        ...

    @property
    def calibration(self) -> float:
        """The fraction of rows that is not trained on but calibrates; 0 for none."""
        ...

    @property
    def random_state(self) -> int:
        """The random seed for training and for draws."""
        ...

    @property
    def networks(self) -> int:
        """The number of networks that are trained."""
        ...


SettingsT = TypeVar("SettingsT", bound=Settings)


def settings_of(estimator: Any, kind: type[SettingsT]) -> SettingsT:
    """Returns the parameters of an estimator as the dataclass ``kind``; paths become text, NumPy numbers Python's."""
    named: dict[str, Any] = {}
    for field in fields(kind):  # pyright: ignore[reportArgumentType] - a dataclass
        value: Any = getattr(estimator, field.name)
        value = value.item() if hasattr(value, "item") else value
        path = hasattr(value, "__fspath__") or (field.name == "device" and value is not None)
        named[field.name] = str(value) if path else value
    return kind(**named)


def check_settings(
    settings: SettingsT,
    *,
    choices: Mapping[str, Collection[str]],
    integers: Mapping[str, int],
    numbers: Mapping[str, float],
) -> SettingsT:
    """Returns the settings if all are in range; what may be None is left out where it is.

    Args:
        settings: Dataclass of parameters.
        choices: Allowed words for each parameter that is one of several.
        integers: Least value for each parameter that is an integer.
        numbers: Value for each parameter that is a number which it must be above 0 and below; ``calibration`` may be 0.

    Raises:
        InvalidArgumentError: A word that is not known, or a number out of range.
    """
    optional = {f.name for f in fields(settings) if f.default is None}  # pyright: ignore[reportArgumentType]
    given: dict[str, Any] = {
        name: getattr(settings, name)
        for name in (*choices, *integers, *numbers)
        if not (name in optional and getattr(settings, name) is None)
    }
    for name, value in given.items():
        if name in choices and value not in choices[name]:
            first = next(iter(choices[name]))
            raise wrong_setting(name, value, f"must be one of {', '.join(choices[name])}", f"{name}={first!r}")
        if name in integers:
            require_integer(value, name, integers[name], fix="leave it out")
        if name in numbers:
            least = "at least" if name == "calibration" else "above"
            above = isinstance(value, (int, float)) and (value > 0 or (value == 0 and least == "at least"))
            if not above or value >= numbers[name]:
                rule = f"must be a number {least} 0 and below {numbers[name]:g}"
                raise wrong_setting(name, value, rule, "leave it out")
    require_seed(settings.random_state, "random_state")
    return settings


def wrong_setting(name: str, value: Any, rule: str, fix: str) -> InvalidArgumentError:
    """Returns the error for a parameter that cannot be used."""
    cause = "a typo, or a value that was computed and came out as nothing"
    return InvalidArgumentError(explain(f"{name} {rule}.", got=f"{name}={value!r}", cause=cause, fix=fix))
