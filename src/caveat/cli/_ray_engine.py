"""`caveat predict --engine ray`: the blocks of a file predicted by a cluster into a folder of parts and a manifest.

A block is a chunk of the file, so its rows are those of `caveat predict`. A worker writes a block as one file, whole or
not at all, and what it wrote is named in the manifest once it is there. Until all is done the folder stands hidden
beside its place; a run that was killed goes on from its manifest, and a block done twice is the same file twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

from caveat._estimators import Model, fingerprint, load_model
from caveat._extras import require
from caveat._files import beside_of, write_whole
from caveat._progress import Rhythm
from caveat._state_file import differences, read_state, write_state
from caveat._tables import Chunk, ImpossibleDates, Spelling, content_of, read_chunks
from caveat.cli._output_file import encoder, writing
from caveat.cli._predict_command import (
    changed_data,
    changed_model,
    describe_output,
    describe_work,
    open_to_predict,
    predicted,
)
from caveat.cli._tabular_tested import TABLES, Advance, spelling_of
from caveat.errors import BusyError, CaveatError, InvalidArgumentError, InvalidDataError, InvalidModelError, explain
from caveat.interop import ray as on_ray

Part = dict[str, Any]
MANIFEST, SCHEMA = "manifest.json", "caveat-predictions-1"
_SECONDS = 1.0
"""At least, between two writings of the manifest; blocks that it does not name yet are done again after a kill."""
_COUNTING = 0.05
_PROBLEMS = {kind.__name__: kind for kind in (InvalidDataError, InvalidModelError, InvalidArgumentError, BusyError)}


@dataclass(eq=False)
class Parts:
    """A folder of parts in the making: which blocks there are, and which of them are done."""

    folder: Path
    what: dict[str, Any]
    blocks: list[int] = field(default_factory=list[int])
    done: dict[int, Part] = field(default_factory=dict[int, Part])
    _rhythm: Rhythm = field(default_factory=lambda: Rhythm(_SECONDS))

    def note(self, *, now: bool = False, complete: bool = False) -> None:
        """Writes the manifest, unless that was a short while ago."""
        if now or complete or self._rhythm.is_due:
            parts = [self.done[number] for number in sorted(self.done)]
            state = {"schema": SCHEMA, "complete": complete, "of": self.what, "rows": self.rows, "blocks": self.blocks}
            with self._rhythm.beat():
                write_state(self.folder / MANIFEST, {**state, "parts": parts}, indent=1)

    @property
    def rows(self) -> int:
        """The number of rows that are done."""
        return sum(part["rows"] for part in self.done.values())


def predict_file_by_ray(
    folder: Path,
    data: Path,
    out: Path,
    *,
    draws: int | None,
    level: float,
    keep: Sequence[str],
    workers: int | None,
    advance: Advance,
) -> dict[str, Any]:
    """Predicts every row of a file by the actors of a Ray cluster, which all see the same paths.

    Raises:
        InvalidDataError: A row that does not fit, no room, or a folder that holds something else.
        InvalidModelError: The folder is no model that can be read.
        MissingExtraError: Ray is not installed.
    """
    content = content_of(data)
    model, mark = open_to_predict(TABLES, folder, draws, level)
    dates = ImpossibleDates(model.reader.schema)
    asked = {"draws": draws, "level": level, "keep": list(keep)}
    what = describe_work(mark, content, draws, level, keep)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else Ray writes between the lines of the command
    with writing(out):
        finished = _find_finished(out, what)
        if finished is not None:
            return _summarize(out, finished, finished.rows)
        try:
            parts = _begin(beside_of(out, "part"), what)
            resumed = parts.rows
            if dates.columns or not parts.blocks:
                parts.blocks = _count_blocks(data, advance, dates, spelling_of(model, keep))
            settings = {"folder": str(folder.resolve()), "data": str(data.resolve()), "mark": mark, **asked}
            _work(parts, settings, workers, advance)
            if content_of(data) != content:
                raise changed_data(data)
            parts.note(complete=True)
            for path in parts.folder.glob(".*"):  # of workers that were killed while they wrote
                path.unlink(missing_ok=True)
            parts.folder.replace(out)
        except InvalidDataError:  # of these data no run can go on
            shutil.rmtree(beside_of(out, "part"), ignore_errors=True)
            raise
        except CaveatError:
            raise
        except OSError as error:
            raise CaveatError(_explain_no_room(out, error)) from error
        return _summarize(out, parts, resumed, dates.notes())


class BlockPredictor:
    """An actor: reads blocks of the file in order, predicts them with the model that it loaded once, writes them."""

    def __init__(self, into: str, folder: str, data: str, mark: str, **asked: Any) -> None:
        self.into, self.folder, self.data, self.mark, self.asked = Path(into), Path(folder), Path(data), mark, asked
        self._model: Model | None = None
        self._chunks: Iterator[Chunk] = iter(())
        self._next = -1

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Returns what was written of one block, or what is wrong with it."""
        number, first = int(item["block"][0]), int(item["first"][0])
        part: Part = {"file": _name(number), "first": first, "rows": 0, "answer": 0, "refer": 0, "bytes": 0}
        try:
            part |= self._write(number, first) | {"problem": "", "kind": ""}
        except CaveatError as error:
            kinds = [name for name, kind in _PROBLEMS.items() if isinstance(error, kind)]
            part |= {"sha256": "", "problem": str(error), "kind": kinds[0] if kinds else ""}
        except OSError as error:
            part |= {"sha256": "", "problem": _explain_no_room(self.into, error), "kind": ""}
        return {name: [value] for name, value in {"block": number, **part}.items()}

    def _write(self, number: int, first: int) -> Part:
        if self._model is None:
            self._model = load_model(TABLES, self.folder)
            if fingerprint(self.folder) != self.mark:
                raise changed_model(self.folder)
        rows = predicted(self._model, self._chunk(self._model, number), first, **self.asked)
        path = self.into / _name(number)
        written = encoder(path)(rows, True)
        write_whole(path, written)
        counts = Counter(str(row["decision"]) for row in rows)
        digest = hashlib.sha256(written).hexdigest()
        return {
            "rows": len(rows), "answer": counts["answer"], "refer": counts["refer"], "bytes": len(written),
            "sha256": digest,
        }  # fmt: skip

    def _chunk(self, model: Model, number: int) -> Chunk:
        """Returns a chunk of the file, which is read on from the last one, or anew for one before it."""
        if self._next < 0 or number < self._next:
            spelling = spelling_of(model, self.asked["keep"])
            self._chunks, self._next = read_chunks(self.data, spelling=spelling), 0
        for chunk in self._chunks:
            self._next += 1
            if self._next > number:
                return chunk
        raise changed_data(self.data)


def _work(parts: Parts, settings: dict[str, Any], workers: int | None, advance: Advance) -> None:
    """Has all blocks done that are not done yet."""
    starts = [*accumulate(parts.blocks, initial=1)]
    items = [{"block": k, "first": starts[k]} for k in range(len(parts.blocks)) if k not in parts.done]
    settings = {"into": str(parts.folder.resolve()), **settings}
    parts.note()
    try:
        for found in on_ray.each_by_actor(BlockPredictor, settings, items, workers=workers):
            if found["problem"]:
                raise _PROBLEMS.get(found["kind"], CaveatError)(found["problem"])
            block = int(found.pop("block"))
            parts.done[block] = {name: found[name] for name in found if name not in ("problem", "kind")}
            parts.note()
            advance(_COUNTING + (0.999 - _COUNTING) * len(parts.done) / len(parts.blocks))
    except require("ray.exceptions", "ray").RayError as error:
        got = next(iter(str(error).strip().splitlines()), type(error).__name__)
        fix = "run the same command again, which goes on where this run stopped"
        raise CaveatError("Ray must be able to run the workers.", got=got[:500], fix=fix) from error
    finally:
        parts.note(now=True)


def _find_finished(out: Path, what: dict[str, Any]) -> Parts | None:
    """Returns what a run of the same has finished; None where there is nothing.

    Raises:
        InvalidDataError: Something else is there.
    """
    if out.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise InvalidArgumentError(f"With --engine ray, --out is a folder of parts; got {out}, the name of a file.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    parts = _read(out, what)
    if parts is None or parts.rows != sum(parts.blocks):
        raise InvalidDataError(
            f"{out} must be a new folder, or what the same command wrote.",
            got=_describe_other(out),
            cause="the folder of an earlier run was named again",
            fix="name a folder that does not exist yet, or move away what is there",
        )
    return parts


def _describe_other(out: Path) -> str:
    if (out / MANIFEST).is_file():
        return "predictions of another model, of other data or options, or parts that were changed"
    return "a folder that holds something else" if out.is_dir() else "a file"


def _begin(folder: Path, what: dict[str, Any]) -> Parts:
    """Returns what a killed run of the same has left, or an empty folder."""
    parts = _read(folder, what)
    if parts is None:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        parts = Parts(folder, what)
    return parts


def _read(folder: Path, what: dict[str, Any]) -> Parts | None:
    """Returns a folder of parts as its manifest says, without those that are not there; None if of another run."""
    try:
        state = read_state(folder / MANIFEST)
        if state["schema"] != SCHEMA or differences(state["of"], what):
            return None
        names = {_name(number): number for number in range(len(state["blocks"]))}
        done = {
            names[part["file"]]: cast(Part, part)
            for part in state["parts"]
            if part["file"] in names and _has_size(folder / part["file"], part["bytes"])
        }
        return Parts(folder, what, list(state["blocks"]), done)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _explain_no_room(place: Path, error: OSError) -> str:
    return explain(
        f"{place} must be a place that can be written to.",
        got=error.strerror or str(error),
        cause="a full disk, or a folder that not all machines share",
        fix="make room, and run the same command again, which goes on where this run stopped",
    )


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _count_blocks(data: Path, advance: Advance, dates: ImpossibleDates, spelling: Spelling) -> list[int]:
    """Returns the number of rows of each block; counts dates that do not exist, and looks at keys, on the way."""
    blocks: list[int] = []
    for chunk in read_chunks(data, spelling=spelling):
        dates.count(chunk.columns, chunk.place)
        blocks.append(len(chunk.lines))
        advance(_COUNTING * chunk.read)
    return blocks


def _name(block: int) -> str:
    return f"part-{block:06}.csv"


def _summarize(out: Path, parts: Parts, resumed: int, warnings: Sequence[str] = ()) -> dict[str, Any]:
    counts = {kind: sum(part[kind] for part in parts.done.values()) for kind in ("answer", "refer")}
    return {**describe_output(out, parts.rows, resumed, counts, warnings), "parts": len(parts.done)}
