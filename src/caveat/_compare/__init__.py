"""Several ways of being uncertain on the same rows, in one table."""

from caveat._compare._compare import compare
from caveat._compare._comparison import Comparison

__all__ = ["Comparison", "compare"]
