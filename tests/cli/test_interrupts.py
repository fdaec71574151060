"""Ctrl-C stays Ctrl-C, whatever a library makes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

import caveat.cli._cli as cli

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")


def swallowed() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return


def turned_into_another_error() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("half of a library") from None


def ended_by_the_library() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise SystemExit(1) from None


def printed_by_python() -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    Dying()
    while True:  # until it is raised again
        pass


@pytest.mark.parametrize("library", [swallowed, turned_into_another_error, ended_by_the_library, printed_by_python])
def test_an_interrupt_ends_in_one_line_and_130(
    library: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def require(module: str, extra: str) -> None:
        library()

    monkeypatch.setattr(cli, "require", require)
    assert cli.main(["--help"]) == 130
    assert capsys.readouterr().err == "caveat: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_callers_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(cli, "require", lambda module, extra: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        cli.main(["audit", "no_colon"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT, signal.SIGINT]
