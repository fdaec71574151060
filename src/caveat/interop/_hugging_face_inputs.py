"""What a model of transformers takes: texts as tokens, padded on the right, those of like length together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from caveat._checks import describe
from caveat._extras import require
from caveat.errors import InvalidArgumentError

_STEP = 8
"""Lengths are rounded up to a multiple of it: a network is looked at anew for each length that it meets."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows: their numbers (b,) int64, and the model's keyword arguments."""

    rows: Tensor
    inputs: dict[str, Any]


def transformers_library() -> Any:
    """The library itself.

    Raises:
        MissingExtraError: it is not installed, or too old.
    """
    return require("transformers", "encoders", at_least="4.45")


def check_padding(tokenizer: Any, config: Any) -> None:
    """Raises ``InvalidArgumentError`` unless tokenizer and model agree on a token of padding."""
    own, models = tokenizer.pad_token_id, getattr(config, "pad_token_id", None)
    if own is None or own != models:
        raise InvalidArgumentError(
            "Tokenizer and model must have one and the same padding token.",
            got=f"tokenizer.pad_token_id={own}, model.config.pad_token_id={models}",
            cause="a decoder such as GPT-2, which comes without one" if own is None else None,
            fix="tokenizer.pad_token = tokenizer.eos_token; model.config.pad_token_id = tokenizer.pad_token_id"
            if own is None
            else "model.config.pad_token_id = tokenizer.pad_token_id",
        )


def encoded_texts(tokenizer: Any, X: Any, max_length: int | None) -> list[dict[str, list[int]]]:
    """The tokens of each text, or pair of texts, as the model takes them.

    Raises:
        InvalidArgumentError: not a sequence of texts or of pairs, or none.
    """
    rows = _texts(X)
    limit = {"truncation": True, "max_length": max_length} if max_length else {"truncation": _has_limit(tokenizer)}
    pairs = isinstance(rows[0], tuple)
    columns: tuple[Any, ...] = tuple(map(list, zip(*rows, strict=True))) if pairs else (rows,)
    encoded = cast("Mapping[str, list[list[int]]]", tokenizer(*columns, **limit, verbose=False))
    names = [name for name in encoded if name in {*tokenizer.model_input_names, "input_ids", "attention_mask"}]
    listed = [{name: encoded[name][row] for name in names} for row in range(len(rows))]
    empty = next((row for row, one in enumerate(listed) if not one["input_ids"]), None)
    if empty is not None:
        raise InvalidArgumentError(
            "Each text must have at least one token.",
            got=f"{rows[empty]!r} in row {empty}, of which the tokenizer makes none",
            fix="leave these rows out",
        )
    return listed


def padded_batches(
    tokenizer: Any, encoded: Sequence[Mapping[str, list[int]]], batch_size: int, config: Any
) -> Iterator[Batch]:
    """Batches of rows of like length, each padded on the right to its longest."""
    lengths = torch.tensor([len(row["input_ids"]) for row in encoded])
    for rows in cast("tuple[Tensor, ...]", lengths.argsort(stable=True).split(batch_size)):
        longest = int(lengths[rows].max())
        size = -(-longest // _STEP) * _STEP
        if size > (getattr(config, "max_position_embeddings", None) or size):
            size = longest
        yield Batch(rows, pad_right([encoded[int(row)] for row in rows], size, tokenizer))


def pad_right(encoded: Sequence[Mapping[str, list[int]]], size: int, tokenizer: Any) -> dict[str, Tensor]:
    """Rows of tokens as (b, size) tensors."""
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    padded = {
        name: torch.tensor([row[name] + [fill.get(name, 0)] * (size - len(row[name])) for row in encoded])
        for name in encoded[0]
    }
    there = [[1] * len(row["input_ids"]) + [0] * (size - len(row["input_ids"])) for row in encoded]
    return {**padded, "attention_mask": torch.tensor(there)}


def right_padded(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same rows with their padding on the right: a token's random numbers go by its place from the left.

    What has the shape of ``attention_mask`` (B, T) is moved with it.
    """
    mask = inputs.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return inputs
    before = (mask.cumsum(1) == 0).sum(1)  # padding on the left
    if not bool(before.any()):
        return inputs
    places = (torch.arange(mask.shape[1], device=mask.device) + before[:, None]) % mask.shape[1]
    return {
        name: value.gather(1, places) if isinstance(value, Tensor) and value.shape == mask.shape else value
        for name, value in inputs.items()
    }


def _texts(X: Any) -> list[Any]:
    rows: list[Any] = [] if isinstance(X, (str, bytes)) or not hasattr(X, "__iter__") else list(X)
    rows = [tuple(cast("list[Any]", row)) if isinstance(row, list) else row for row in rows]
    one = rows and all(isinstance(row, str) for row in rows)
    two = rows and all(isinstance(row, tuple) and [*map(type, cast(Any, row))] == [str, str] for row in rows)
    if one or two:
        return rows
    odd = next((at for at, row in enumerate(rows) if not isinstance(row, str)), None)
    raise InvalidArgumentError(
        "The rows must be texts, or pairs of texts.",
        got=describe(X) if odd is None else f"{rows[odd]!r} in row {odd}",
        cause="one text that is not in a list, or a missing value",
        fix='predict(["one text"])',
    )


def _has_limit(tokenizer: Any) -> bool:
    """A tokenizer that knows no limit says a number without meaning, about 1e30."""
    return int(tokenizer.model_max_length) < 1 << 40
