"""Functions named on the command line as `module:function`: a network and a batch, a batch alone, a recipe."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from caveat.errors import WEIGHTS_FILES, InvalidArgumentError, explain_no_network

if TYPE_CHECKING:
    from torch import nn

FORM = "module:function"


def make_model_and_batch(target: str, batch: str | None = None) -> tuple[nn.Module, Any]:
    """What `module:function` returns: (model, example_input); or a model, and the batch of another function.

    Raises:
        InvalidArgumentError: there is no such module or function, it fails, or it returns something else.
    """
    made = _call(target, "make a model")
    from torch import nn

    match made:
        case (nn.Module() as model, example):
            return model, example if batch is None else _call(batch, "make a batch")
        case nn.Module() if batch is not None:
            return made, _call(batch, "make a batch")
        case nn.Module():
            raise InvalidArgumentError(
                f"{target} returned a model alone, and its sites are found by running it: "
                "let it return (model, example_input)."
            )
        case _:
            raise InvalidArgumentError(
                f"{target} must return (model, example_input); it returned {type(made).__name__}."
            )


def check_form(target: str) -> None:
    """Raises InvalidArgumentError unless a text has the form module:function."""
    module, colon, name = target.partition(":")
    if not colon and target.endswith(WEIGHTS_FILES):
        rule = f"A network is named by a function that returns (model, example_input), named as {FORM}."
        raise InvalidArgumentError(explain_no_network(target, rule))
    if not (module and colon and name):
        raise InvalidArgumentError(f"A function is named as {FORM}; got {target!r}.")


def import_function(target: str) -> Any:
    """The function that the target names, looked for in the current folder too.

    Raises:
        InvalidArgumentError: there is no such module or function.
    """
    check_form(target)
    module_name, _, name = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as problem:
        raise InvalidArgumentError(
            f"{module_name} cannot be imported: {type(problem).__name__}: {problem}"
        ) from problem
    function = getattr(module, name, None)
    if not callable(function):
        raise InvalidArgumentError(f"{module_name} has no function {name!r}.")
    return function


def _call(target: str, purpose: str) -> Any:
    function = import_function(target)
    try:
        return function()
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise InvalidArgumentError(
            f"{target} must {purpose} without being given anything; it raised {reason}"
        ) from problem
