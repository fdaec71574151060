"""Moves and blends, resampled labels, the table, and studies under shift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caveat.errors import CannotMergeError, InvalidArgumentError, NotFiniteError
from caveat.shift import (
    ShiftTable,
    blend,
    label_shift,
    new_classes,
    rotate,
    translate,
    under_shift,
)

LABELS = torch.arange(1000) % 10
METRICS = {"error": lambda p, y: (p.argmax(-1) != y).float().mean()}


def test_rotation_by_right_angles_is_torchs_own() -> None:
    images = torch.rand(3, 2, 12, 12)
    made = rotate(images, [90.0, 180.0, -90.0])
    for index, turns in enumerate((1, 2, -1)):
        torch.testing.assert_close(made[index], torch.rot90(images[index], turns, (1, 2)), rtol=0, atol=1e-5)
    torch.testing.assert_close(rotate(images, 0), images)


def test_rotation_is_scipys_inside_also_of_wide_images() -> None:
    image = torch.rand(1, 1, 20, 32, dtype=torch.float64)
    expected = ndi.rotate(image[0, 0].numpy(), 30, reshape=False, order=1)
    np.testing.assert_allclose(rotate(image, 30)[0, 0, 6:-6, 10:-10], expected[6:-6, 10:-10], atol=1e-9)


def test_translation_and_blending() -> None:
    images = torch.rand(2, 1, 9, 11)
    moved = translate(images, torch.tensor([[2.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(moved[0, :, 1:, 2:], images[0, :, :-1, :-2], rtol=0, atol=1e-5)
    assert moved[0, :, 0].abs().max() < 1e-5
    torch.testing.assert_close(moved[1], images[1], rtol=0, atol=1e-5)
    made = blend(images, images.flip(0), [0.0, 0.5])
    torch.testing.assert_close(made[0], images[0])
    torch.testing.assert_close(made[1], (images[1] + 0.5 * images[0]).clamp(max=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("move", [lambda x: rotate(x, 10.0), lambda x: translate(x, (3, 0))])
def test_images_in_half_precision_move_as_in_full(dtype: torch.dtype, move: Any) -> None:
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(move(images), move(images.float()).to(dtype))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: rotate(x, [1.0, 2.0, 3.0]), "degrees must have shape"),
        (lambda x: translate(x, torch.zeros(3, 2)), "pixels must have shape"),
        (lambda x: blend(x, x[:1], 0.1), "the same shape"),
        (lambda x: blend(x, x, -0.1), "negative"),
        (lambda x: rotate(x + 2, 1.0), r"in \[0, 1\]"),
    ],
)
def test_bad_moves(call: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        call(torch.rand(2, 1, 8, 8))


def test_a_move_that_is_nan() -> None:
    with pytest.raises(NotFiniteError):
        rotate(torch.rand(2, 1, 8, 8), float("nan"))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.integers(1, 100), st.integers(0, 9))
def test_label_shift_is_exact(shares: list[float], size: int, seed: int) -> None:
    rows = label_shift(LABELS, dict(enumerate(shares)), size=size, seed=seed)
    assert len(rows.unique()) == len(rows) == size
    counts = LABELS[rows].bincount(minlength=10).double()[: len(shares)]
    exact = size * torch.tensor(shares, dtype=torch.float64) / sum(shares)
    assert (counts - exact).abs().max() < 1
    assert torch.equal(rows, label_shift(LABELS, dict(enumerate(shares)), size=size, seed=seed))


def test_the_largest_sample_uses_up_a_class() -> None:
    rows = label_shift(LABELS, {0: 0.8, 1: 0.2})
    assert LABELS[rows].bincount().tolist() == [100, 25]


def test_new_classes_by_the_share() -> None:
    mixed = new_classes(LABELS, [8, 9], fraction=0.25, size=200)
    assert int(mixed.is_new.sum()) == 50
    assert torch.equal(mixed.is_new, LABELS[mixed.rows] >= 8)
    training = new_classes(LABELS, [8, 9], fraction=0).rows
    assert torch.equal(training.sort().values, (LABELS < 8).nonzero().squeeze(1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: label_shift(LABELS, {0: 1.0}, size=101), "101 rows of size=101, and has 100"),
        (lambda: label_shift(LABELS, {}), "proportions"),
        (lambda: label_shift(LABELS, {0: 0.5, 12: 0.5}), r"no row has \[12\]"),
        (lambda: label_shift(LABELS, {0: -1.0, 1: 2.0}), "none negative"),
        (lambda: label_shift(LABELS, {0: 1.0}, size=0), "size must be"),
        (lambda: label_shift(LABELS.float(), {0: 1.0}), "whole numbers"),
        (lambda: label_shift(LABELS[:0], {0: 1.0}), "not empty"),
        (lambda: new_classes(LABELS, [10], fraction=0.5), "no row has"),
        (lambda: new_classes(LABELS, [1], fraction=50), r"fraction must lie in \[0, 1\]"),
        (lambda: new_classes(LABELS, [1], fraction=1.0, size=200), "the new classes"),
        (lambda: new_classes(LABELS, range(10), fraction=0), "Some class must remain"),
    ],
)
def test_bad_resampling(call: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        call()


def test_quartiles_rows_and_merge() -> None:
    # Five kinds with 1..5: quartiles 2, 3, 4.
    values = {(f"kind {k}", 1, "error"): float(k) for k in range(1, 6)}
    table = ShiftTable(values, {"seed": 0})
    (box,) = table.quartiles("error")
    assert (box.least, box.lower, box.median, box.upper, box.most, box.kinds) == (1, 2, 3, 4, 5, 5)
    assert table.to_rows()[0] == {"kind": "kind 1", "severity": 1, "metric": "error", "value": 1.0}
    parts = [ShiftTable(dict([item]), {"seed": 0}) for item in values.items()]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged == table
    with pytest.raises(CannotMergeError, match="seed: 0 and 1"):
        table.merge(ShiftTable({}, {"seed": 1}))
    with pytest.raises(CannotMergeError, match="two values"):
        table.merge(ShiftTable({("kind 1", 1, "error"): 9.0}, {"seed": 0}))
    with pytest.raises(InvalidArgumentError, match="metric='nll'"):
        table.quartiles("nll")
    with pytest.raises(InvalidArgumentError, match="kind, severity and metric must be in the table"):
        table.at("fog", 1, "error")


def study(predict: Any, **options: Any) -> ShiftTable:
    images = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return under_shift(predict, images, LABELS[:30], METRICS, kinds=["contrast", "fog"], severities=(1, 5), **options)


def by_pixels(images: torch.Tensor) -> torch.Tensor:
    return images[:, 0, :10, 0].softmax(-1)


def test_a_study_is_the_same_in_any_batches_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    whole = study(by_pixels, measures={"spread": lambda p: p.std(-1)})
    parts = study(by_pixels, measures={"spread": lambda p: p.std(-1)}, batch_size=7)
    assert whole.values == pytest.approx(parts.values, abs=1e-6)
    assert whole.kinds == ("clean", "contrast", "fog")
    assert whole.severities == (0, 1, 5)

    calls = 0

    def failing(images: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return by_pixels(images)

    with pytest.raises(KeyboardInterrupt):
        study(failing, checkpoint=tmp_path / "table.json")
    calls = 10
    again = study(failing, checkpoint=tmp_path / "table.json")
    assert calls == 14  # of five cells, two were there, and the clean one is looked at again
    assert again.values == {cell: value for cell, value in whole.values.items() if cell[2] == "error"}
    with pytest.raises(CannotMergeError, match="seed"):
        study(by_pixels, checkpoint=tmp_path / "table.json", seed=1)
    with pytest.raises(CannotMergeError, match="error of the untouched images"):
        study(lambda images: by_pixels(images).flip(-1), checkpoint=tmp_path / "table.json")
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(InvalidArgumentError, match=r"ShiftTable\.save"):
        study(by_pixels, checkpoint=tmp_path / "table.json")


def test_a_measure_of_several_numbers_a_row_is_their_mean() -> None:
    table = study(by_pixels, measures={"mean": lambda p: p})
    assert table.at("fog", 1, "mean") == pytest.approx(0.1)


def test_own_shifts_and_progress() -> None:
    seen: list[tuple[int, int]] = []
    table = under_shift(
        by_pixels, torch.rand(4, 1, 28, 28), LABELS[:4], METRICS, kinds={"rotation": rotate}, severities=(30, 60),
        progress=lambda done, total, title: seen.append((done, total)),
    )  # fmt: skip
    assert table.kinds == ("clean", "rotation")
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"predict": lambda x: x[:1].mean((1, 2, 3))}, "30 rows"),
        ({"predict": lambda x: {"head": x}}, "pick the head"),
        ({"targets": LABELS[:29]}, "each of the 30 images"),
        ({"metrics": {}}, "at least one metric or measure"),
        ({"metrics": {"each": lambda p, y: p}}, "one number"),
        ({"measures": {"all": lambda p: p.std(-1).mean()}}, "30 numbers, one for each image"),
        ({"kinds": ["mist"]}, "mist"),
        ({"kinds": "fog"}, "one name without a list"),
        ({"batch_size": 0}, "batch_size"),
        ({"images": torch.rand(30, 28, 28)}, "batch axis"),
        ({"severities": (9,)}, "severity=9"),
    ],
)
def test_bad_studies(change: dict[str, Any], words: str) -> None:
    options = {"predict": by_pixels, "images": torch.rand(30, 1, 28, 28), "targets": LABELS[:30], "metrics": METRICS}
    with pytest.raises(InvalidArgumentError, match=words):
        under_shift(**{**options, "kinds": ["fog"], "severities": (1,), **change})


def test_a_table_prints_the_median_of_each_severity() -> None:
    values = {("fog", 1, "error"): 0.1, ("snow", 1, "error"): 0.3, ("fog", 2, "error"): 0.5, ("fog", 2, "<i>"): 1.0}
    table = ShiftTable(values)
    _, *rows = (line.split() for line in repr(table).splitlines()[1:])
    assert rows == [["1", "2", "0.2", "(0.15", "to", "0.25)"], ["2", "1", "0.5", "1"]]
    assert "&lt;i&gt;" in table._repr_html_()
