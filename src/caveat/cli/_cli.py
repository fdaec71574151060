"""The command `caveat`: runs a command, and turns what goes wrong into one line and exit code 2."""

from __future__ import annotations

import os
import sys

from caveat.cli._interrupts import INTERRUPTED, Interrupts

TYPE_CHECKING = False  # all else is loaded once Ctrl-C is noted
if TYPE_CHECKING:
    from collections.abc import Sequence

WRONG = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `caveat` with these arguments, or those of the process; the exit code.

    Example:
        >>> main(["audit", "no_colon"])
        2
    """
    if arguments is None:  # threads that wait asleep leave the processor to others; read when torch is loaded
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with Interrupts(process=arguments is None) as interrupts:
        try:
            code = _run(list(sys.argv[1:] if arguments is None else arguments))
        except KeyboardInterrupt:
            return _fail(interrupts.line, INTERRUPTED)
        except BaseException as problem:
            if interrupts.noted:
                return _fail(interrupts.line, INTERRUPTED)
            line = _one_line(problem)
            if line is None:
                raise
            return _fail(line, WRONG)
        return _fail(interrupts.line, INTERRUPTED) if interrupts.noted else code


def require(module: str, extra: str) -> None:
    """Load an optional library, or say how it is installed."""
    from caveat import _extras as extras

    extras.require(module, extra)


def _run(given: list[str]) -> int:
    for module in ("typer", "rich"):
        require(module, "demo")
    from caveat.cli._commands import app
    from caveat.errors import CaveatError

    try:
        code = int(app(args=given or ["--help"], prog_name="caveat", standalone_mode=False) or 0)
        sys.stdout.flush()
    except (OSError, SystemExit) as problem:  # typer exits where a pipe is closed
        if isinstance(problem, CaveatError) or not _cannot_print():
            raise
        return _fail("the standard output cannot be written to", WRONG)
    return code


def _cannot_print() -> bool:
    """Whether the standard output is full or closed; it is then let go, so that Python does not try again."""
    try:
        sys.stdout.write("")
        sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def _one_line(problem: BaseException) -> str | None:
    """What to tell a person, or None where a traceback is the better answer: an error nobody foresaw."""
    from caveat.errors import CaveatError

    if isinstance(problem, CaveatError):
        first, *rest = (line.strip() for line in str(problem).splitlines() or [type(problem).__name__])
        return " ".join([first, "; ".join(rest)]).strip()
    if isinstance(problem, OSError):
        return " ".join(f"{problem.strerror or problem}: {problem.filename or 'a file'}".splitlines())
    if isinstance(problem, MemoryError):
        return "there is not enough memory for this"
    of_typer = getattr(problem, "format_message", None)
    return None if of_typer is None else " ".join(f"{of_typer()} (see caveat --help)".splitlines())


def _fail(line: str, code: int) -> int:
    print(f"caveat: {line}", file=sys.stderr)
    return code
