"""Answers and errors as JSON."""

from __future__ import annotations

import json
import math
from typing import Any, cast

from fastapi import Response


def encode(value: Any) -> bytes:
    """Returns a value as JSON, null where a number is not finite; ASCII, whatever strings hold.

    Example:
        >>> encode({"high": float("inf"), "name": "é"})
        b'{"high":null,"name":"\\\\u00e9"}'
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":")).encode()


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns a response in JSON."""
    return Response(encode(value), status, headers, "application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
