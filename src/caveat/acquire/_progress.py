"""What an active-learning loop knows, and has on the disk: the rows that each round asked for, and their labels."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from caveat._files import held
from caveat._state_file import differences, read_state, write_state
from caveat.acquire._pool import Pool
from caveat.errors import BusyError, InvalidArgumentError


@dataclass
class Progress:
    """Rounds (what each asked, and its evaluation once it is finished) and labels; ``save`` puts them on the disk."""

    path: Path | None
    settings: dict[str, Any]
    rounds: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    labels: dict[int, Any] = field(default_factory=dict[int, Any])

    @contextmanager
    def held(self) -> Generator[None]:
        """Keeps others from running the loop of this file; a lock ends with its process.

        Raises:
            BusyError: another one is running it.
        """
        with ExitStack() as stack:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(held(self.path))
                except BusyError as error:
                    raise BusyError(
                        "A loop's file has one process at a time.",
                        got=f"{self.path.name}, whose loop is running elsewhere",
                        cause="the same script was started twice, or an earlier generator was not closed",
                        fix="wait for the other, or give this loop a file of its own",
                    ) from error
            yield

    def restore(self) -> None:
        """Take up what the file holds, if there is one.

        Raises:
            InvalidArgumentError: a file of other settings, or no state.
        """
        if self.path is None or not self.path.exists():
            return
        before = _sound_state(self.path)
        other = differences(before["settings"], self.settings)
        if other:
            raise InvalidArgumentError(
                "A loop goes on from a file of the same settings.",
                got=f"other {', '.join(other)}",
                cause="the path is used by another loop, or a setting was changed since",
                fix="the settings of before, or another path; the file was not changed",
            )
        self.rounds = before["rounds"]
        self.labels = dict(before["labels"])

    def save(self) -> None:
        """On the disk when this returns."""
        if self.path is not None:
            kept = {"settings": self.settings, "rounds": self.rounds, "labels": list(self.labels.items())}
            write_state(self.path, kept)

    @property
    def asked(self) -> list[int]:
        """All rows that were asked for, in order."""
        return [row for entry in self.rounds for row in entry["asked"]]

    def pool(self) -> Pool:
        """The rows that are asked for and have no label are pending."""
        labeled = tuple(row for row in self.asked if row in self.labels)
        return Pool(self.settings["size"], labeled, tuple(row for row in self.asked if row not in self.labels))

    def begin_round(self, rows: list[int]) -> None:
        """Ask for rows; raises where they cannot be asked for."""
        self.pool().ask(rows)
        self.rounds.append({"asked": rows, "evaluation": None})
        self.save()

    def finish_round(self, evaluation: Any) -> None:
        """Keep the evaluation of the last round."""
        self.rounds[-1]["evaluation"] = _checked_evaluation(evaluation)
        self.save()

    def take(self, came: Iterable[tuple[int, Any]], *, one_by_one: bool) -> None:
        """Keep labels; one that is there already may be corrected.

        ``one_by_one`` saves after each, for labels that come slowly; else they are saved together, also those before
        one that is wrong.

        Raises:
            InvalidArgumentError: for the first that is wrong.
        """
        asked = set(self.asked)
        changed = False
        try:
            for row, label in came:
                _check_label(row, label)
                if row not in asked:
                    self.pool().label([row])  # raises where it was not asked for
                if row in self.labels and self.labels[row] == label:
                    continue
                self.labels[row], changed = label, True
                if one_by_one:
                    self.save()
        finally:
            if changed and not one_by_one:
                self.save()

    def history(self) -> list[dict[str, float]]:
        """The evaluation of each finished round, with its number of labels."""
        found: list[dict[str, float]] = []
        labeled = 0
        for entry in self.rounds:
            labeled += len(entry["asked"])
            if entry["evaluation"] is not None:
                found.append({"labels": labeled, **entry["evaluation"]})
        return found


def _sound_state(path: Path) -> dict[str, Any]:
    """What the file holds, if it has the form of what a loop writes."""
    try:
        state = read_state(path)
        rounds = [[int(row) for row in entry["asked"]] for entry in state["rounds"]]
        finished = [entry["evaluation"] is None or dict(entry["evaluation"]) for entry in state["rounds"]]
        asked = {row for own in rounds for row in own}
        if finished and isinstance(state["settings"], dict) and asked.issuperset(row for row, _ in state["labels"]):
            return state
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise InvalidArgumentError(
        "The state of an active-learning loop is the JSON that it wrote.",
        got=f"{path.name}, which is not; it was not changed",
        cause="a path that something else uses, or an edit by hand",
        fix="another path, or mend the file",
    )


def _check_label(row: int, label: Any) -> None:
    if isinstance(label, bool | int | float | str | list):
        try:
            json.dumps(label, allow_nan=False)
            return
        except (TypeError, ValueError):
            pass
    raise InvalidArgumentError(
        "A label is plain data: a finite number, text, or a list of them.",
        got=f"{label!r} for row {row}",
        cause="NaN for what is not known yet, or an object in place of a number",
        fix="leave the row out of the mapping until its label is known",
    )


def _checked_evaluation(evaluation: Any) -> dict[str, float]:
    kept: dict[str, float] = {}
    wrong = not isinstance(evaluation, Mapping)
    for name, value in cast("Mapping[Any, Any]", {} if wrong else evaluation).items():
        try:
            kept[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):
            wrong = True
    bad = [name for name, value in kept.items() if not math.isfinite(value)]
    if not wrong and not bad and "labels" not in kept:
        return kept
    raise InvalidArgumentError(
        'evaluate returns a mapping from names (not "labels", which the history gives) to finite numbers.',
        got=f"{bad[0]}={kept[bad[0]]}" if bad else f"{evaluation!r}"[:80],
        cause="a network that diverged, a metric of one class, or a number without its name",
        fix='return {"accuracy": 0.9}; leave a number out where it is not defined',
    )
