"""The command `caveat`: runs a command, and turns what goes wrong into one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caveat.errors import CaveatError
from caveat.extras import require

WRONG = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `caveat` with these arguments, or those of the process; the exit code.

    Example:
        >>> main(["audit", "no_colon"])
        2
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        for module in ("typer", "rich"):
            require(module, "demo")
        from caveat.app.commands import app

        return int(app(args=given or ["--help"], prog_name="caveat", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except Exception as problem:
        line = _one_line(problem)
        if line is None:
            raise
        return _fail(line, WRONG)


def _one_line(problem: Exception) -> str | None:
    """What to tell a person, or None where a traceback is the better answer: an error nobody foresaw."""
    if isinstance(problem, CaveatError):
        first, *rest = (line.strip() for line in str(problem).splitlines())
        return " ".join([first, "; ".join(rest)]).strip()
    of_typer = getattr(problem, "format_message", None)
    return None if of_typer is None else f"{of_typer()} (see caveat --help)"


def _fail(line: str, code: int) -> int:
    print(f"caveat: {line}", file=sys.stderr)
    return code
