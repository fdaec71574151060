"""Tensors and a JSON note in one safetensors file, written whole or not at all. Reading one runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from caveat._extras import require
from caveat._files import open_regular, write_whole
from caveat.errors import InvalidArgumentError

_EXTRA = "checkpoints"
_RULE = "A checkpoint must be a file that caveat has written."


def write(path: Path, tensors: Mapping[str, Tensor], note: Any) -> None:
    """Write tensors and what JSON can hold.

    Raises:
        MissingExtraError: safetensors is not installed.
    """
    library = require("safetensors.torch", _EXTRA)
    # A clone: the library refuses tensors that share memory, and views of one flat buffer do.
    content = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, library.save(content, metadata={"caveat": json.dumps(note)}))


def read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors, on the CPU, and the note.

    Raises:
        InvalidArgumentError: the file is not one that ``write`` has written.
        MissingExtraError: safetensors is not installed.
    """
    library, of_torch = require("safetensors", _EXTRA), require("safetensors.torch", _EXTRA)
    try:
        with open_regular(path) as file:
            content: bytes = file.read()
    except OSError as error:
        got = f"{path.name}, and {error.strerror or error}"
        fix = "pass another path, or remove what is there"
        raise InvalidArgumentError(_RULE, got=got, cause="a folder or a pipe is there", fix=fix) from error
    try:
        # The library's reader of open files calls Python, and makes errors of its own of a signal that strikes there.
        tensors: dict[str, Tensor] = of_torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, json.loads(header["__metadata__"]["caveat"])
    except (library.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgumentError(
            _RULE,
            got=f"{path.name} ({len(content)} bytes), and {type(error).__name__}: {error}",
            cause="another program's file has the same name",
            fix="pass another path, or delete the file to start afresh",
        ) from error
