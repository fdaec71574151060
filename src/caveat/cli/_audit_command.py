"""`caveat audit module:factory`: import a function that makes a model, and list what is random in it."""

from __future__ import annotations

import importlib
import math
import os
import sys
from dataclasses import asdict
from typing import Any

from torch import nn

import caveat
from caveat._intercept import Audit
from caveat.cli._interrupts import Unwound
from caveat.errors import WEIGHTS_FILES, InvalidArgumentError, explain_no_network

FORM = "module:function"


def audit_factory(target: str) -> Audit:
    """The audit of what `module:function` returns: (model, example_input).

    Raises:
        InvalidArgumentError: there is no such module or function, it fails, or it returns something else.
    """
    with Unwound():
        model, example = _called(target)
        return caveat.audit(model, example)


def audit_as_json(found: Audit) -> dict[str, Any]:
    """An audit as plain Python values; a rate that is no number is None."""
    sites = [asdict(site) for site in found]
    for site in sites:
        site["rate"] = None if math.isnan(site["rate"]) else site["rate"]
    return {"schema": "caveat-audit-1", "sites": sites, "live": len(found.live), "notes": list(found.notes)}


def _called(target: str) -> tuple[nn.Module, Any]:
    factory = _imported(target)
    try:
        made = factory()
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise InvalidArgumentError(
            f"{target} must make a model without being given anything; it raised {reason}"
        ) from problem
    match made:
        case (nn.Module() as model, example):
            return model, example
        case nn.Module():
            raise InvalidArgumentError(
                f"{target} returned a model alone, and an audit follows a forward pass: "
                "let it return (model, example_input)."
            )
        case _:
            raise InvalidArgumentError(
                f"{target} must return (model, example_input); it returned {type(made).__name__}."
            )


def _imported(target: str) -> Any:
    """The function that the target names, looked for in the current folder too."""
    module_name, colon, name = target.partition(":")
    if not colon and target.endswith(WEIGHTS_FILES):
        rule = f"What to audit is a function that returns (model, example_input), named as {FORM}."
        raise InvalidArgumentError(explain_no_network(target, rule))
    if not (module_name and colon and name):
        raise InvalidArgumentError(f"What to audit must be named as {FORM}; got {target!r}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as problem:
        raise InvalidArgumentError(
            f"{module_name} cannot be imported: {type(problem).__name__}: {problem}"
        ) from problem
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InvalidArgumentError(f"{module_name} has no function {name!r}.")
    return factory
