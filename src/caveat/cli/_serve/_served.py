"""A model of a folder, of whatever kind, under the name that it is served by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caveat._estimators import Model, fingerprint, load_model
from caveat._kinds import find_kind, package_of
from caveat.errors import BusyError

_TRIES = 50


@dataclass(frozen=True, eq=False)
class Served:
    """A model under its name; ``mark`` is the digest of the manifest that it was loaded by."""

    name: str
    folder: Path
    mark: str
    model: Model

    @property
    def version(self) -> str:
        """The first digits of the mark."""
        return self.mark[:12]

    @property
    def package(self) -> str:
        """The package of its kind: "tabular", "text" or "image"."""
        return self.model.kind.package


def open_model(folder: Path, name: str) -> Served:
    """Returns the model of a folder, whichever kind it is.

    Raises:
        InvalidModelError: No model, or one that was changed.
        BusyError: It was being replaced all the time.
    """
    for _ in range(_TRIES):
        mark = fingerprint(folder)
        model = load_model(find_kind(package_of(folder) or "tabular"), folder)
        if fingerprint(folder) == mark:
            return Served(name, folder, mark, model)
    raise BusyError(f"The model in {folder} must stay as it is while it is read; it is being replaced.")
