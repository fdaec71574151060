"""The file that a loop goes on from: replaced whole or not at all, by one process at a time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from caveat._files import held
from caveat._state_file import read_state
from caveat.errors import BusyError, InvalidArgumentError


def restore_state(path: Path) -> dict[str, Any] | None:
    """What the file holds; None if there is none.

    Raises:
        InvalidArgumentError: it is no state of an active-learning loop.
    """
    if not path.exists():
        return None
    try:
        state = read_state(path)
    except ValueError:
        state = None
    if _sound(state):
        return cast("dict[str, Any]", state)
    raise InvalidArgumentError(
        "The state of an active-learning loop is the JSON that it wrote.",
        got=f"{path.name}, which is not; it was not changed",
        cause="a path that something else uses, or an edit by hand",
        fix="another path, or mend the file",
    )


def _sound(state: Any) -> bool:
    """Whether it has the form of what a loop writes."""
    try:
        rounds = [[int(row) for row in entry["asked"]] for entry in state["rounds"]]
        finished = [entry["evaluation"] is None or dict(entry["evaluation"]) for entry in state["rounds"]]
        rows = [row for row, _ in state["labels"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    asked = {row for own in rounds for row in own}
    return len(finished) > 0 and isinstance(state["settings"], dict) and asked.issuperset(rows)


@contextmanager
def held_state(path: Path | None) -> Generator[None]:
    """Keep others from running the loop of this file; a lock ends with its process.

    Raises:
        BusyError: another one is running it.
    """
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(path))
        except BusyError as error:
            raise BusyError(
                "A loop's file has one process at a time.",
                got=f"{path.name}, whose loop is running elsewhere",
                cause="the same script was started twice, or an earlier generator was not closed",
                fix="wait for the other, or give this loop a file of its own",
            ) from error
        yield
