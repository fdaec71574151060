"""What can be wrong with sentences or with their encoder, each a class that names it."""

from __future__ import annotations

from caveat.errors import InvalidArgumentError


class InvalidTextError(InvalidArgumentError):
    """Sentences or answers that cannot be learned from or predicted for; the message names the row."""


class InvalidEncoderError(InvalidArgumentError):
    """An encoder that cannot be found or read, or that does not give a vector for each token."""


class SentencesTruncatedWarning(UserWarning):
    """Sentences that are longer than what is read of one; their ends were left out."""
