"""The digits: scikit-learn's as they are laid out, MNIST's from a folder, and folders that are neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caveat.cli._demo._data import bundled_digits, load_digits
from caveat.errors import InvalidArgumentError


def write(folder: Path, **changed: object) -> Path:
    """A tiny MNIST of 7 and 5 images in `folder`."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 7), ("test", 5)):
        arrays = {
            "images": rng.integers(0, 256, (count, 28, 28)).astype(np.uint8),
            "labels": np.arange(count).astype(np.uint8),
        }
        np.savez(folder / f"{name}.npz", **{**arrays, **changed})  # type: ignore[arg-type]
    return folder


def test_a_folder_is_read_as_it_is(tmp_path: Path) -> None:
    digits = load_digits(write(tmp_path))
    assert digits.name == "MNIST"
    assert digits.train_images.shape == (7, 1, 28, 28)
    assert digits.test_labels.tolist() == [0, 1, 2, 3, 4]
    with np.load(tmp_path / "test.npz") as file:
        assert torch.equal((digits.test_images[:, 0] * 255).round().byte(), torch.from_numpy(file["images"]))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"images": np.zeros((5, 28, 28), np.float32)}, "must be uint8"),
        ({"images": np.zeros((5, 8, 8), np.uint8)}, "must be uint8 of shape"),
        ({"images": np.zeros((0, 28, 28), np.uint8)}, "N ≥ 1"),
        ({"labels": np.zeros(3, np.uint8)}, "integers; got uint8 \\(3,\\)"),
        ({"labels": np.full(7, 10, np.uint8)}, "must lie in 0..9; got 10..10"),
    ],
)
def test_a_folder_with_something_else_is_refused(
    tmp_path: Path, changed: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        load_digits(write(tmp_path, **changed))


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train.npz").write_bytes(b"not a zip file")
    with pytest.raises(InvalidArgumentError, match="npz file with `images` and `labels`"):
        load_digits(tmp_path)


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    np.savez(tmp_path / "train.npz", images=np.zeros((5, 28, 28), np.uint8))
    with pytest.raises(InvalidArgumentError, match="labels"):
        load_digits(tmp_path)


def test_the_bundled_digits_lie_in_the_middle_with_paper_around_them() -> None:
    pytest.importorskip("sklearn")
    digits = bundled_digits()
    assert (len(digits.train_labels), len(digits.test_labels)) == (1437, 360)
    assert digits.train_images.shape[1:] == (1, 28, 28)
    assert 0 <= float(digits.train_images.min()) <= float(digits.train_images.max()) <= 1
    frame = torch.ones(28, 28, dtype=torch.bool)
    frame[4:24, 4:24] = False
    assert float(digits.test_images[..., frame].abs().max()) == 0
