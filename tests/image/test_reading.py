"""Pictures of every kind become squares; what is none of them is named and stops nothing."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")
from PIL import Image

from caveat._pictures._reading import Format, digest_rows, learn_format, read_in_batches, read_pictures

COLOR, GRAY = Format(3, 8), Format(1, 8)
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3


def read(source: Any, format: Format = GRAY) -> torch.Tensor:
    pictures = read_pictures([source], format)
    assert pictures.problems == ()
    return pictures.pixels[0]


def test_a_picture_of_the_right_size_is_not_changed() -> None:
    assert torch.equal(read(RAMP)[0], torch.from_numpy(RAMP))


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "gif", "webp"])
def test_files_of_every_format_are_read_the_same(ending: str, tmp_path: Path) -> None:
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(RAMP).save(tmp_path / f"ramp.{ending}", **options)
    assert torch.equal(read(tmp_path / f"ramp.{ending}"), read(RAMP))
    assert torch.equal(read(str(tmp_path / f"ramp.{ending}")), read(RAMP))


def test_a_jpeg_is_read_as_it_is_or_smaller(tmp_path: Path) -> None:
    large = np.kron(RAMP, np.ones((40, 40), np.uint8))
    Image.fromarray(large).save(tmp_path / "large.jpg", quality=95)
    difference = read(tmp_path / "large.jpg").float() - read(RAMP).float()
    assert difference.abs().max() < 12


@pytest.mark.parametrize(
    "same",
    [
        RAMP[:, :, None],
        RAMP.astype(np.float32) / 255,
        Image.fromarray(RAMP),
        Image.fromarray(RAMP).convert("RGB"),
        Image.fromarray(RAMP).convert("RGBA"),
        Image.fromarray(RAMP.astype(np.uint16) * 256),
        torch.from_numpy(RAMP),
        (torch.from_numpy(RAMP) / 255).requires_grad_(),
    ],
    ids=["channel", "fractions", "image", "rgb", "opaque", "sixteen bits", "tensor", "gradient"],
)
def test_arrays_and_images_are_read_the_same(same: Any) -> None:
    assert torch.equal(read(same), read(RAMP))
    assert learn_format([same], None, 64).size == learn_format([RAMP], None, 64).size


def twelve_bits(place: Path) -> Path:
    """Writes a TIFF of twelve bits a pixel, which PIL reads and does not write."""
    values = (RAMP.astype(int) << 4).reshape(-1, 2)
    packed = np.stack([values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], 1)
    tags = {256: 8, 257: 8, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: packed.size}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II" + struct.pack("<HI", 42, 8 + packed.size)
    place.write_bytes(head + packed.astype(np.uint8).tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4))
    return place


def test_wider_numbers_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    wide = RAMP.astype(np.uint16) * 257
    Image.fromarray(RAMP.astype(np.float32) / 255).save(tmp_path / "fractions.tif")
    for name in ("wide.png", "wide.tif"):
        Image.fromarray(wide).save(tmp_path / name)
    for white in (4095, 65535):  # as a camera writes them
        scaled = np.round(RAMP / 255 * white).astype(">u2")
        (tmp_path / f"{white}.pgm").write_bytes(b"P5 8 8 %d\n" % white + scaled.tobytes())
    twelve_bits(tmp_path / "twelve.tif")
    for path in tmp_path.iterdir():
        difference = read(path).int() - read(RAMP).int()
        assert difference.abs().max() <= (1 if path.name == "4095.pgm" else 0), path.name


def test_a_wide_picture_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    for wide in (RAMP.astype(np.uint16) * 257, RAMP.astype(np.float32) / 255):
        Image.fromarray(wide).save(tmp_path / "turned.tif", tiffinfo={274: 3})
        assert torch.equal(read(tmp_path / "turned.tif"), read(RAMP).flip(1, 2))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.arange(100, 164, dtype=np.uint16), "no contrast: its values, 100 to 163"),
        (np.full(64, 163, np.uint16), "blank: one color only"),
        (np.arange(64, dtype=np.float32) / 1e5, "no contrast: its values, 0 to 0.00063"),
        (np.full(64, 0.3, np.float32), "blank: one color only"),
        (np.arange(64, dtype=np.float32), "fractions must be finite and from 0 to 1"),
        (np.arange(64, dtype=np.int32), "integers whose white is not known"),
    ],
    ids=["dark", "one gray", "faint", "one fraction", "no fractions", "integers"],
)
def test_what_is_lost_in_eight_bits_is_no_blank_picture(values: Any, why: str, tmp_path: Path) -> None:
    image = Image.fromarray(values.reshape(8, 8))
    image.save(tmp_path / "one.tif")
    sources = [tmp_path / "one.tif", image, *([values.reshape(8, 8)] if values.dtype.kind == "f" else [])]
    problems = read_pictures(sources, GRAY).problems
    assert len(problems) == len(sources)
    assert all(why in problem.why for problem in problems), problems


def test_color_is_kept_where_it_is_asked_for() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[2:5, :, 0] = 200
    assert read(red, COLOR).amax((1, 2)).tolist() == [200, 0, 0]


def test_what_is_transparent_is_white() -> None:
    layered = np.zeros((8, 8, 4), np.uint8)
    layered[4:, :, 3] = 255
    assert read(layered)[0, :4].unique().tolist() == [255]
    assert read(layered)[0, 4:].unique().tolist() == [0]


def test_a_picture_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    turned = Image.fromarray(RAMP)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(read(tmp_path / "turned.png"), read(RAMP).flip(1, 2))


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("nowhere.png", "no such file"),
        (Path(), "no file: the path is empty"),
        (np.zeros((3, 9), np.uint8), "tiny: 9 x 3 pixels"),
        (np.full((9, 9, 3), 7, np.uint8), "blank"),
        (np.zeros((2, 9, 9, 3), np.uint8), "no picture: shape"),
        (np.full((9, 9), np.nan), "from 0 to 1"),
        (np.full((9, 9), 255.0), "from 0 to 1"),
        (np.arange(81).reshape(9, 9), "int64"),
        (np.zeros((0, 9), np.uint8), "no picture"),
        (None, "no picture"),
    ],
    ids=str,
)
def test_what_is_no_picture_is_named(source: Any, why: str) -> None:
    pictures = read_pictures([RAMP, source], GRAY, first=10)
    (problem,) = pictures.problems
    assert problem.row == 11
    assert why in problem.why
    assert pictures.good.tolist() == [True, False]
    assert pictures.pixels[1].unique().tolist() == [128]


@pytest.mark.parametrize("size", [0, 1, 40, 70])
def test_a_file_that_was_cut_is_named(size: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 30), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:size])
    (problem,) = read_pictures([tmp_path / "cut.png"], GRAY).problems
    assert problem.name.endswith("cut.png")
    assert problem.why.startswith("cannot be read")
    assert "0x" not in problem.why


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (problem,) = read_pictures([tmp_path / "pipe.png"], GRAY).problems
    assert "regular" in problem.why


def test_batches_are_the_rows_in_order_with_their_numbers() -> None:
    sources = [RAMP, RAMP.T, "nowhere.png", RAMP]
    batches = list(read_in_batches(sources, GRAY, 3))
    assert [len(batch.pixels) for batch in batches] == [3, 1]
    assert [problem.row for batch in batches for problem in batch.problems] == [2]
    together = read_pictures(sources, GRAY).pixels
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), together)


def test_the_format_follows_the_pictures() -> None:
    small, large = np.zeros((20, 40), np.uint8), np.zeros((300, 200, 3), np.uint8)
    assert learn_format([small, small], None, 64) == Format(1, 20)
    assert learn_format([large, large, small], None, 64) == Format(3, 64)
    assert learn_format([large], 12, 64) == Format(3, 12)
    assert learn_format(["nowhere.png"], None, 64) == Format(1, 64)
    assert learn_format([small[:5, :5]], None, 64) == Format(1, 16)


def test_equal_pictures_have_equal_digests() -> None:
    pixels = torch.from_numpy(np.stack([RAMP, RAMP.T, RAMP]))[:, None]
    first, second, third = digest_rows(pixels)
    assert first == third != second
