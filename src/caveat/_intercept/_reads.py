"""Places that read whether a module is in training: an instruction that reads the flag, or an argument ``training``."""

from __future__ import annotations

from functools import lru_cache
from types import CodeType
from typing import Any

import torch
from torch import nn

ReadKey = tuple[CodeType | type[nn.Module], int]
"""A place that reads ``training``: a code object and an instruction, or a class that takes it as an argument and -1."""

_TORCH_FOLDER = str(torch.__file__).removesuffix("__init__.py")


@lru_cache(maxsize=4096)
def first_instruction(code: CodeType, instruction: int) -> int:
    """The first instruction at the source position of this one: a call that Python has specialized runs at another."""
    positions = list(code.co_positions())
    return 2 * positions.index(positions[instruction // 2])


def is_torch_code(code: CodeType) -> bool:
    """Returns whether this is torch's own code, whose reads of the flag reach functions that are followed anyway."""
    return code.co_filename.startswith(_TORCH_FOLDER)


def argument_read(module: nn.Module, kwargs: dict[str, Any]) -> ReadKey | None:
    """The read of a module that is called with ``training=False`` or, as layers of Keras are, without its value."""
    if kwargs.get("training") or not ("training" in kwargs or vars(module).get("_call_has_training_arg")):
        return None
    return type(module), -1


def place(read: ReadKey) -> str:
    """Where a read stands in the source: ``file:line (function)``, or the class that takes the argument."""
    code, instruction = read
    if isinstance(code, type):
        return f"{code.__module__}.{code.__qualname__}(training=...)"
    line = code.co_firstlineno
    for start, stop, number in code.co_lines():
        if number is not None and start <= instruction < stop:
            line = number
    return f"{code.co_filename.rsplit('/', 1)[-1]}:{line} ({code.co_name})"
