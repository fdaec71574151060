"""Tensors and a JSON note in one safetensors file, written whole or not at all. Reading one runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caveat.errors import InvalidArgument, explain
from caveat.extras import require
from caveat.files import open_regular, write_whole

_EXTRA = "checkpoints"
_RULE = "A checkpoint must be a file that caveat has written."


def write(path: Path, tensors: Mapping[str, Tensor], note: Any) -> None:
    """Write tensors and what JSON can hold.

    Raises:
        MissingExtra: safetensors is not installed.
    """
    library = require("safetensors.torch", _EXTRA)
    # A clone: the library refuses tensors that share memory, and views of one flat buffer do.
    whole = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, library.save(whole, metadata={"caveat": json.dumps(note)}))


def read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors, on the CPU, and the note.

    Raises:
        InvalidArgument: the file is not one that ``write`` has written.
        MissingExtra: safetensors is not installed.
    """
    library = require("safetensors", _EXTRA)
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
    except OSError as error:
        got = f"{path.name}, and {error.strerror or error}"
        fix = "pass another path, or remove what is there"
        raise InvalidArgument(explain(_RULE, got=got, cause="a folder or a pipe is there", fix=fix)) from error
    try:
        with library.safe_open(str(path), framework="pt") as file:
            note = json.loads(file.metadata()["caveat"])
            return {name: _own(file.get_tensor(name)) for name in file.keys()}, note  # noqa: SIM118  # no mapping
    except (library.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(
            explain(
                _RULE,
                got=f"{path.name} ({size} bytes), and {type(error).__name__}: {error}",
                cause="another program's file has the same name",
                fix="pass another path, or delete the file to start afresh",
            )
        ) from error


def _own(tensor: Tensor) -> Tensor:
    """Not a view of the file, which may be replaced."""
    return torch.clone(tensor)
