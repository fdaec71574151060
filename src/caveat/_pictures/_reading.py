"""Pictures of any size and kind, brought to squares of one size; what cannot be read is named and stops no run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caveat._arrays import plain_tensor
from caveat._extras import require
from caveat._files import open_regular
from caveat._pictures._listing import name_of

Array = NDArray[Any]
SMALLEST = 4
"""Pixels along the shorter side of a picture that is looked at."""


@dataclass(frozen=True)
class Format:
    """What networks get of each picture: ``channels`` (1 gray, 3 color) of ``size`` by ``size`` pixels."""

    channels: int
    size: int


@dataclass(frozen=True)
class Problem:
    """A picture that is left out: its row, what it is called and what is wrong with it."""

    row: int
    name: str
    why: str


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that were read.

    Fields:
        pixels: (B, channels, size, size) uint8; gray where a picture is left out.
        good: Whether each could be read, (B,) bool.
        problems: Pictures that are left out.
    """

    pixels: Tensor
    good: Tensor
    problems: tuple[Problem, ...]


def read_pictures(sources: Sequence[Any], format: Format, first: int = 0) -> Pictures:
    """Returns B pictures as squares of one size, stretched where they are not square.

    Args:
        sources: Paths, arrays (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or of fractions, or PIL images.
        format: Channels and size.
        first: Row number of the first.
    """
    pixels = torch.full((len(sources), format.channels, format.size, format.size), 128, dtype=torch.uint8)
    good = torch.ones(len(sources), dtype=torch.bool)
    problems: list[Problem] = []
    for row, source in enumerate(sources):
        square = _square_of(source, format)
        if isinstance(square, str):
            good[row] = False
            problems.append(Problem(first + row, name_of(source, first + row), square))
        else:
            pixels[row] = torch.from_numpy(square)
    return Pictures(pixels, good, tuple(problems))


def read_in_batches(sources: Sequence[Any], format: Format, batch: int) -> Iterator[Pictures]:
    """Yields pictures, so many at a time, in order; memory holds one batch."""
    for start in range(0, len(sources), batch):
        yield read_pictures(sources[start : start + batch], format, start)


def learn_format(sources: Sequence[Any], size: int | None, largest: int, looked_at: int = 500) -> Format:
    """Returns the format of pictures like these: color if any has color, and their median size up to ``largest``.

    Args:
        sources: Pictures.
        size: Size, if it is said.
        largest: Most pixels along a side, if it is not.
        looked_at: The number of pictures that are looked at, evenly spread.
    """
    sides: list[int] = []
    channels = 1
    for source in sources[:: max(1, len(sources) // looked_at)]:
        image = _open(source)
        if not isinstance(image, str):
            sides.append(min(image.size))
            channels = 3 if image.mode not in ("1", "L", "LA", "F") and not image.mode.startswith("I") else channels
    middle = int(np.median(sides)) if sides else largest
    return Format(channels, size or min(max(middle, 16), largest))


def digest_rows(pixels: Tensor) -> list[bytes]:
    """Returns a digest of each picture: equal pictures have equal ones."""
    return [hashlib.sha256(row.tobytes()).digest() for row in pixels.numpy()]


def describe_problems(problems: Sequence[Problem], of: int, most: int = 5) -> str:
    """Returns a line that names pictures that were left out, with their number.

    Example:
        >>> describe_problems([Problem(3, "a.png", "tiny: 1 x 1 pixels")], of=9)
        '1 of 9 pictures are left out: a.png (tiny: 1 x 1 pixels)'
    """
    named = ", ".join(f"{problem.name} ({problem.why})" for problem in problems[:most])
    more = len(problems) - most
    return f"{len(problems)} of {of} pictures are left out: {named}{f' and {more} more' if more > 0 else ''}"


def _square_of(source: Any, format: Format) -> Array | str:
    """Returns a picture (channels, size, size) uint8, or what is wrong with it."""
    image = _open(source)
    if isinstance(image, str):
        return image
    if min(image.size) < SMALLEST:
        return f"tiny: {image.size[0]} x {image.size[1]} pixels"
    try:
        square: Array = np.array(_resize(image, format)).reshape(format.size, format.size, -1).transpose(2, 0, 1)
    except Exception as error:  # PIL's plugins raise whatever comes to them of broken bytes
        return f"cannot be read: {_first_line(error)}"
    if bool((square != square[:, :1, :1]).any()):
        return square
    values: Array = np.asarray(image if isinstance(source, (str, Path)) else plain_tensor(source))
    if values.dtype.itemsize == 1 or bool((values == values[:1, :1]).all()):
        return "blank: one color only"
    return f"no contrast: its values, {values.min():g} to {values.max():g}, are one level in the 8 bits that are read"


def upright(image: Any) -> Any:
    """Returns a PIL image turned as its camera was, of bytes: PIL's own convert() cuts wider numbers off at 255.

    Raises:
        ValueError: Numbers of which it is not known how large white is.
    """
    ready = require("PIL.ImageOps", "image").exif_transpose(image)
    if ready.mode == "F":
        ready = _of_array(np.asarray(ready))
        if isinstance(ready, str):
            raise ValueError(ready)
    if ready.mode == "I" and image.format not in ("PNG", "PPM"):  # of which PIL makes 16 bits
        raise ValueError("integers whose white is not known: save it with 8 or 16 bits, or as fractions from 0 to 1")
    if ready.mode.startswith("I"):
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]  # a TIFF may say that it has 12
        ready = require("PIL.Image", "image").fromarray((np.asarray(ready) >> (bits - 8)).astype(np.uint8))
    return ready


def _resize(image: Any, format: Format) -> Any:
    """Returns a PIL image of the format, transparent parts white."""
    library = require("PIL.Image", "image")
    if image.format == "JPEG":
        image.draft(None, (2 * format.size, 2 * format.size))  # of large JPEGs no more is decoded than is used
    ready = upright(image)
    if "A" in ready.mode or "transparency" in ready.info:
        ready = ready.convert("RGBA")
        ready = library.alpha_composite(library.new("RGBA", ready.size, "white"), ready)
    ready = ready.convert("L" if format.channels == 1 else "RGB")
    shape = (format.size, format.size)
    return ready if ready.size == shape else ready.resize(shape, library.Resampling.BILINEAR)


def _open(source: Any) -> Any:
    """Returns a PIL image whose size and mode are known, or what is wrong with it."""
    library = require("PIL.Image", "image")
    if isinstance(source, library.Image):
        return source
    if not isinstance(source, (str, Path)):
        return _of_array(plain_tensor(source))
    try:
        with open_regular(Path(source)) as file:
            return library.open(io.BytesIO(file.read()))
    except FileNotFoundError:
        return "there is no such file"
    except IsADirectoryError:
        return "no file: the path is empty, or that of a folder"
    except library.UnidentifiedImageError:
        return "cannot be read: no picture, or of a format that is not known"
    except Exception as error:  # as above
        return f"cannot be read: {_first_line(error)}"


def _of_array(source: Any) -> Any:
    values: Array = np.asarray(source)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)) or not values.size:
        return f"no picture: shape {values.shape} where (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is read"
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            return "no picture: fractions must be finite and from 0 to 1"
        values = np.round(values * 255).astype(np.uint8)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        return f"no picture: {values.dtype} where uint8, or fractions from 0 to 1, are read"
    plain = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return require("PIL.Image", "image").fromarray(np.ascontiguousarray(plain))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines and lines[0] else type(error).__name__)[:120]
