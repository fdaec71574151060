"""Pictures in files, arrays and PIL images: listed with their answers, and read as squares of one size."""

from caveat._pictures._listing import as_sources, empty_classes, list_pictures
from caveat._pictures._reading import (
    Format,
    Pictures,
    Problem,
    describe_problems,
    digest_rows,
    learn_format,
    read_in_batches,
    read_pictures,
    upright,
)

__all__ = [
    "Format",
    "Pictures",
    "Problem",
    "as_sources",
    "describe_problems",
    "digest_rows",
    "empty_classes",
    "learn_format",
    "list_pictures",
    "read_in_batches",
    "read_pictures",
    "upright",
]
