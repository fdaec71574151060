"""Places in code that read a module's ``training`` flag: a code object and an instruction."""

from __future__ import annotations

from functools import lru_cache
from types import CodeType

import torch

_TORCH_FOLDER = str(torch.__file__).removesuffix("__init__.py")


@lru_cache(maxsize=4096)
def first_instruction(code: CodeType, instruction: int) -> int:
    """The first instruction at the source position of this one: a call that Python has specialized runs at another."""
    positions = list(code.co_positions())
    return 2 * positions.index(positions[instruction // 2])


def is_torch_code(code: CodeType) -> bool:
    """Is this torch's own code? Its reads of the flag reach functions that are followed by themselves."""
    return code.co_filename.startswith(_TORCH_FOLDER)


def place(read: tuple[CodeType, int]) -> str:
    """Where a read stands in the source: ``file:line (function)``."""
    code, instruction = read
    line = code.co_firstlineno
    for start, stop, number in code.co_lines():
        if number is not None and start <= instruction < stop:
            line = number
    return f"{code.co_filename.rsplit('/', 1)[-1]}:{line} ({code.co_name})"
