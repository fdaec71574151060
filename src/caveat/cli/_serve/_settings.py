"""What a service permits: sizes, rates, waits and a key."""

from __future__ import annotations

from dataclasses import dataclass


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
        rate: Requests a second of one client; None permits any number.
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
