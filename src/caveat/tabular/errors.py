"""What can be wrong with a table or with a model's folder, each a class that names it."""

from __future__ import annotations

from caveat.errors import InvalidArgument


class InvalidTable(InvalidArgument):
    """A table that cannot be learned from or predicted for; the message names the column and the row."""


class InvalidModel(InvalidArgument):
    """A folder that is no model of caveat's, is cut short, was changed, or is of a newer version."""
