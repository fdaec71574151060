"""What is served: a model of a folder, of whatever kind, under its name; and within which limits."""

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


@dataclass(frozen=True)
class Settings:
    """The limits of a service.

    Fields:
        body_bytes: Largest body of a request.
        body_seconds: Longest that a body may take to arrive.
        rows: Most rows of a request.
        draws: Most draws that a request may ask for.
        waiting: Most rows that wait to be computed; requests beyond are turned away with 503.
        batch_rows: Most rows that are computed together.
        batch_wait: Seconds that the first request of a batch waits for others.
        rate: Requests per second of one client; None permits any number.
        api_key: Key that requests must bring, or None.
        reload: Seconds between looks at the folders.
        drain: Seconds between SIGTERM and the end of listening, in which each answer closes its connection.
        log_rows: Whether rows and answers are logged.
    """

    body_bytes: int = 16 << 20
    body_seconds: float = 20.0
    rows: int = 10_000
    draws: int = 1_000
    waiting: int = 100_000
    batch_rows: int = 128
    batch_wait: float = 0.002
    rate: float | None = None
    api_key: str | None = None
    reload: float = 1.0
    drain: float = 1.0
    log_rows: bool = False


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
