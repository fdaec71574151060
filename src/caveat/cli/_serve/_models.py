"""The models of a service by name; a folder that is replaced is loaded while the old model answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from caveat._estimators import FILES, fingerprint
from caveat.cli._serve._batches import Batches
from caveat.cli._serve._inputs import columns_of, example_row, inputs_of
from caveat.cli._serve._served import Served, open_model
from caveat.errors import CaveatError, InvalidArgumentError

Models = dict[str, Served]
Note = Callable[[str, Served, str], None]
"""Is told that a model was "loaded" or "failed", and why."""


def open_models(folders: Sequence[Path]) -> Models:
    """Returns the models of folders by the folders' names.

    Raises:
        InvalidModelError: A folder is no model.
        InvalidArgumentError: Two folders of one name.
    """
    models: Models = {}
    for folder in folders:
        name = folder.resolve().name
        if name in models:
            raise InvalidArgumentError(
                f"Models are served by the names of their folders, which must differ; got {name!r} twice."
            )
        models[name] = open_model(folder, name)
    return models


async def warm_up(batches: Batches, served: Served) -> None:
    """Computes one row like those of training: the first call of a network takes many times longer than the next."""
    row = example_row(served)
    if row:
        inputs = inputs_of(served, columns_of(list(row), [row]))
        await batches.ask(served, inputs, 1, draws=served.model.settings.draws, level=0.9, until=None)


async def watch_folders(models: Models, batches: Batches, every: float, note: Note) -> None:
    """Looks at each folder again and again; a new model takes the place of the old one once it has been loaded."""
    seen: dict[str, object] = {}  # none yet: a folder may have been replaced since it was loaded
    told: dict[str, object] = {}
    while True:
        await asyncio.sleep(every)
        for name, served in list(models.items()):
            stamp = _stamp(served.folder)
            if name in seen and stamp == seen[name]:
                continue
            try:
                if await asyncio.to_thread(fingerprint, served.folder) != served.mark:
                    new = await asyncio.to_thread(open_model, served.folder, name)
                    await warm_up(batches, new)
                    models[name] = new
                    note("loaded", new, "")
                seen[name] = stamp
            except Exception as error:  # such as a copy that goes on: looked at again, told once
                why = str(error) if isinstance(error, (CaveatError, OSError)) else f"{type(error).__name__}: {error}"
                if told.get(name) != (stamp, why):
                    note("failed", served, why)
                told[name] = stamp, why


def _stamp(folder: Path) -> tuple[int, ...] | None:
    """Returns what changes with the manifest; None where there is none."""
    try:
        about = (folder / FILES[1]).stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
