"""The command line: what people start by name, and ``main``, which runs it in this process."""

from caveat.cli._cli import main

__all__ = ["main"]
