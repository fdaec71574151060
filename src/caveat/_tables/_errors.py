"""What can be wrong with a table, in a class that names it."""

from __future__ import annotations

from caveat.errors import InvalidArgumentError


class InvalidTableError(InvalidArgumentError):
    """A table that cannot be learned from or predicted for; the message names the column and the row."""


class DoubtfulColumnWarning(UserWarning):
    """A column that could be read in two ways, or in part not at all; the message says how it was read."""
