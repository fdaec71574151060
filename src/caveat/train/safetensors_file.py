"""Tensors and a JSON note in one file of the safetensors format, written whole or not at all.

The format is eight bytes of length, a JSON header, and the tensors' bytes, so that reading it runs no code:
https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caveat.errors import InvalidArgument, explain

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def write(path: Path, tensors: Mapping[str, Tensor], note: Any) -> None:
    """Write tensors and what JSON can hold; another process sees the file before or the whole file after."""
    header: dict[str, Any] = {"__metadata__": {"caveat": json.dumps(note)}}
    parts: list[bytes] = []
    end = 0
    for name, tensor in tensors.items():
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        offsets = [end, end + len(raw)]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        parts.append(raw)
        end += len(raw)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([len(head).to_bytes(8, "little"), head, *parts])
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors, on the CPU, and the note.

    Raises:
        InvalidArgument: the file is not one that ``write`` has written.
    """
    raw = path.read_bytes()
    try:
        length = int.from_bytes(raw[:8], "little")
        header: dict[str, Any] = json.loads(raw[8 : 8 + length])
        note = json.loads(header.pop("__metadata__")["caveat"])
        body = bytearray(raw[8 + length :])
        return {name: _tensor(body, **entry) for name, entry in header.items()}, note
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InvalidArgument(
            explain(
                "A checkpoint must be a file that caveat has written.",
                got=f"{path.name} ({len(raw)} bytes), and {type(error).__name__}: {error}",
                cause="another program's file has the same name",
                fix="pass another path, or delete the file to start afresh",
            )
        ) from error


def _tensor(body: bytearray, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    begin, end = data_offsets
    if begin == end:
        return torch.zeros(shape, dtype=_DTYPES[dtype])
    # A copy, because a piece may start at an address that its dtype must not.
    raw = torch.frombuffer(body[begin:end], dtype=torch.uint8).clone()
    return raw.view(_DTYPES[dtype]).reshape(shape)
