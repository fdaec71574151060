"""Tensors of the Open Inference Protocol, version 2: as JSON, or as bytes behind the JSON (Triton's extension)."""

from __future__ import annotations

import base64
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from caveat._plain import encode_json, parse_json
from caveat._tables import Array, as_objects

_TYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_MOST_AXES = 8


class InvalidTensorError(ValueError):
    """A body that is no request of the protocol."""


@dataclass(frozen=True, eq=False)
class InferRequest:
    """What a request says.

    Fields:
        tensors: Inputs by name; BYTES as objects: text of JSON, else bytes.
        wanted: Names of the outputs, and whether each is sent as bytes; None for all.
        binary: Whether outputs are sent as bytes where nothing is said of one.
    """

    id: str | None
    parameters: dict[str, Any]
    tensors: dict[str, Array]
    wanted: list[tuple[str, bool]] | None
    binary: bool


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """Returns what a body says; ``header_length`` is how much of it is JSON, if not all.

    Raises:
        InvalidTensorError: It says nothing that could be meant.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or len(header_length) > 12 or int(header_length) > len(body):
            raise InvalidTensorError("Inference-Header-Content-Length must be a length within the body")
        length = int(header_length)
    try:
        about = parse_json(body[:length])
    except ValueError as error:
        raise InvalidTensorError(f"the body must be JSON: {str(error)[:200]}") from error
    said = _expect(about, dict, "the body")
    parameters = _expect(said.get("parameters", {}), dict, "parameters")
    tensors: dict[str, Array] = {}
    rest = memoryview(body)[length:]
    for entry in _expect(said.get("inputs"), list, "inputs"):
        one = _expect(entry, dict, "each of inputs")
        name = _expect(one.get("name"), str, "name")
        if name in tensors:
            raise InvalidTensorError(f"input {name[:60]!r} is there twice")
        tensors[name], rest = _read_tensor(one, name, rest)
    if len(rest):
        raise InvalidTensorError(f"{len(rest)} bytes are left that no input says are its own")
    request_id = said.get("id")
    binary = parameters.get("binary_data_output") is True
    return InferRequest(
        None if request_id is None else _expect(request_id, str, "id"),
        parameters,
        tensors,
        _wanted(said.get("outputs"), binary),
        binary,
    )


def write_response(
    about: dict[str, Any], columns: dict[str, tuple[str, list[Any]]], request: InferRequest
) -> tuple[bytes, int | None]:
    """Returns a body, and how much of it is JSON if that is not all.

    Args:
        about: Model and parameters.
        columns: Datatype and values of each output by its name.
        request: What was asked for.

    Raises:
        InvalidTensorError: An output was asked for that there is not.
    """
    wanted = [(name, request.binary) for name in columns] if request.wanted is None else request.wanted
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in wanted:
        if name not in columns:
            raise InvalidTensorError(f"there is no output {name[:60]!r}; there are: {', '.join(columns)}")
        datatype, values = columns[name]
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(values)]}
        if binary:
            tail.append(_as_bytes(values, datatype))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = values
        outputs.append(entry)
    request_id = {} if request.id is None else {"id": request.id}
    header = encode_json({**about, **request_id, "outputs": outputs})
    return b"".join([header, *tail]), len(header) if tail else None


def _read_tensor(entry: dict[str, Any], name: str, rest: memoryview) -> tuple[Array, memoryview]:
    datatype = _expect(entry.get("datatype"), str, f"datatype of {name[:60]!r}")
    shape = _expect(entry.get("shape"), list, f"shape of {name[:60]!r}")
    whole = [isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 31 for size in shape]
    if not shape or len(shape) > _MOST_AXES or not all(whole):
        raise InvalidTensorError(f"shape of {name[:60]!r} must be 1 to {_MOST_AXES} whole numbers")
    if datatype != "BYTES" and datatype not in _TYPES:
        raise InvalidTensorError(f"datatype of {name[:60]!r} must be BYTES or one of {', '.join(_TYPES)}")
    count = math.prod(shape)
    size = _expect(entry.get("parameters", {}), dict, "parameters").get("binary_data_size")
    if size is None:
        return _from_json(entry.get("data"), name, datatype, count).reshape(shape), rest
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise InvalidTensorError(f"binary_data_size of {name[:60]!r} must be within the body")
    content, rest = rest[:size], rest[size:]
    if datatype == "BYTES":
        return _from_length_prefixed(content, name, count).reshape(shape), rest
    if size != count * np.dtype(_TYPES[datatype]).itemsize:
        raise InvalidTensorError(f"binary_data_size of {name[:60]!r} is not that of {count} {datatype}")
    return np.frombuffer(content, _TYPES[datatype]).reshape(shape), rest


def _from_json(data: Any, name: str, datatype: str, count: int) -> Array:
    flat = _flat(_expect(data, list, f"data of {name[:60]!r}"), _MOST_AXES)
    if len(flat) != count:
        raise InvalidTensorError(f"data of {name[:60]!r} has {len(flat)} values where its shape has {count}")
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in flat):
            raise InvalidTensorError(f"data of {name[:60]!r} must be text")
        return as_objects(flat)
    wanted = bool if datatype == "BOOL" else (int, float) if datatype.startswith("FP") else int
    if not all(isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)) for value in flat):
        raise InvalidTensorError(f"data of {name[:60]!r} must be {datatype}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=_TYPES[datatype])
    except (OverflowError, ValueError) as error:
        raise InvalidTensorError(f"data of {name[:60]!r} is out of the range of {datatype}") from error


def _flat(data: list[Any], depth: int) -> list[Any]:
    if not any(isinstance(one, list) for one in data):
        return data
    if depth == 1 or not all(isinstance(one, list) for one in data):
        raise InvalidTensorError("data must be nested as its shape is")
    return [value for one in data for value in _flat(one, depth - 1)]


def _from_length_prefixed(content: memoryview, name: str, count: int) -> Array:
    values: list[bytes] = []
    at = 0
    while at < len(content):
        if at + 4 > len(content) or at + 4 + (size := struct.unpack_from("<I", content, at)[0]) > len(content):
            raise InvalidTensorError(f"bytes of {name[:60]!r} end in the midst of a value")
        values.append(bytes(content[at + 4 : at + 4 + size]))
        at += 4 + size
    if len(values) != count:
        raise InvalidTensorError(f"bytes of {name[:60]!r} hold {len(values)} values where its shape has {count}")
    return as_objects(values)


def _as_bytes(values: list[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = ["" if value is None else str(value) for value in values]
        encoded = [text.encode("utf-8", "replace") for text in texts]
        return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    return np.array([math.nan if value is None else value for value in values], _TYPES[datatype]).tobytes()


def _wanted(outputs: Any, binary: bool) -> list[tuple[str, bool]] | None:
    if outputs is None:
        return None
    wanted: list[tuple[str, bool]] = []
    for entry in _expect(outputs, list, "outputs"):
        one = _expect(entry, dict, "each of outputs")
        parameters = _expect(one.get("parameters", {}), dict, "parameters")
        wanted.append((_expect(one.get("name"), str, "name"), parameters.get("binary_data", binary) is True))
    return wanted or None


def _expect(value: Any, kind: Any, what: str) -> Any:
    if isinstance(value, kind):
        return value
    word = {dict: "an object", list: "a list", str: "text"}[kind]
    raise InvalidTensorError(f"{what} must be {word}")


def decode_column(values: Array, *, picture: bool) -> Any:
    """Returns a tensor as a column of rows: text of its bytes, or of pictures bytes or arrays as they are.

    Raises:
        InvalidTensorError: Bytes that are no UTF-8, or more than one value per row.
    """
    if picture:
        if values.dtype != object:
            return list(values)
        flat = values.reshape(-1)
        try:
            return [base64.b64decode(one, validate=True) if isinstance(one, str) else one for one in flat]
        except ValueError as error:
            raise InvalidTensorError("a picture in JSON must be base64") from error
    if values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1):
        raise InvalidTensorError(f"an input has one value per row, shape [rows] or [rows, 1], not {list(values.shape)}")
    column = values.reshape(-1)
    if column.dtype != object:
        return column
    try:
        return as_objects([one.decode() if isinstance(one, bytes) else one for one in column])
    except UnicodeDecodeError as error:
        raise InvalidTensorError("BYTES must be UTF-8") from error
