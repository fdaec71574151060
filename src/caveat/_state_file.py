"""What a killed work is gone on from: how far it was, as JSON on the disk, and which work it is the state of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from caveat._files import open_regular, write_whole
from caveat._plain import parse_json


def write_state(path: Path, state: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write how far a work is, as JSON; a crash leaves the old state or the new one, whole.

    Raises:
        ValueError: The state is no plain data, or holds a number that is not finite.
        OSError: As ``write_whole``.
    """
    write_whole(path, json.dumps(state, indent=indent, allow_nan=False).encode())


def read_state(path: Path) -> Any:
    """Return what ``write_state`` wrote.

    Raises:
        ValueError: The file holds anything other than JSON.
        OSError: It is no regular file, is not there, or cannot be read.
    """
    with open_regular(path) as file:
        return parse_json(file.read())


def differences(before: Any, now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return in what a state is of another work than ``now``: the values of then and now by name; nothing of the same.

    Args:
        before: What the state says that it is of.
        now: What says which work this is, as plain data.

    Example:
        >>> differences({"seed": 0, "rows": [1, 2]}, {"seed": 1, "rows": (1, 2)})
        {'seed': (0, 1)}
    """
    then = cast("dict[str, Any]", before) if isinstance(before, dict) else {}
    ours: dict[str, Any] = json.loads(json.dumps(now))
    return {name: (then.get(name), value) for name, value in ours.items() if then.get(name) != value}
