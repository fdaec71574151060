"""`caveat audit module:factory`: import a function that makes a model, and list what is random in it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import caveat
from caveat.cli._interrupts import Unwound
from caveat.cli._named_functions import make_model_and_batch

if TYPE_CHECKING:
    from caveat._intercept import Audit


def audit_factory(target: str) -> Audit:
    """The audit of what `module:function` returns: (model, example_input).

    Raises:
        InvalidArgumentError: there is no such module or function, it fails, or it returns something else.
    """
    with Unwound():
        model, example = make_model_and_batch(target)
        return caveat.audit(model, example)


def audit_as_json(found: Audit) -> dict[str, Any]:
    """An audit as plain Python values; a rate that is no number is None."""
    sites = [asdict(site) for site in found]
    for site in sites:
        site["rate"] = None if math.isnan(site["rate"]) else site["rate"]
    return {"schema": "caveat-audit-1", "sites": sites, "live": len(found.live), "notes": list(found.notes)}
