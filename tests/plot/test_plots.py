"""Pictures: what is drawn are the values, no backend or figure of the caller is touched, and bad input is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

import caveat
from caveat import metrics, plot
from caveat.errors import (
    DrawsNotKeptError,
    InvalidArgumentError,
    MissingExtraError,
    NotFiniteError,
    NotProbabilitiesError,
)
from caveat.shift import ShiftTable

F = np.linspace(0.1, 1, 10)
BAND = {"mean": torch.zeros(5), "total": torch.ones(5), "epistemic": torch.full((5,), 0.25)}
TABLE = ShiftTable({(k, s, "ece"): 0.1 * s + 0.01 * i for i, k in enumerate(("fog", "snow")) for s in range(1, 6)})

PLOTS: dict[str, Callable[..., Any]] = {
    "regression": lambda **k: plot.plot_regression(range(5), BAND, **k),
    "reliability": lambda **k: plot.plot_reliability([0.2, 0.9, 0.8], [0, 1, 1], **k),
    "referral": lambda **k: plot.plot_referral({"entropy": (F, 1 - F / 5), "random": (F, 0 * F + 0.8)}, **k),
    "risk_coverage": lambda **k: plot.plot_risk_coverage((F, F / 5), **k),
    "measures": lambda **k: plot.plot_measure_histograms({"in": F, "out": F + 1}, **k),
    "classes": lambda **k: plot.plot_class_histograms(torch.rand(50, 10).softmax(-1), label=3, **k),
    "simplex": lambda **k: plot.plot_simplex(torch.rand(50, 3).softmax(-1), label=2, **k),
    "maps": lambda **k: plot.plot_uncertainty_maps(torch.rand(3, 6, 8), torch.rand(6, 8), torch.rand(6, 8), **k),
    "decision": lambda **k: plot.plot_decision_map(lambda p: p[:, 0], x=(0, 1), y=(0, 1), steps=5, **k),
    "under_shift": lambda **k: plot.plot_under_shift({"a": TABLE, "b": TABLE}, "ece", **k),
}
PAID = "paid_$_of_$_owed"  # between dollars Matplotlib would look for a formula
NAMED: dict[str, Callable[[], Any]] = {
    "curves": lambda: plot.plot_referral({PAID: (F, F), "$5": (F, F)}, metric=PAID),
    "measures": lambda: plot.plot_measure_histograms({PAID: F, "b": F + 1}),
    "classes": lambda: plot.plot_class_histograms(torch.rand(9, 2).softmax(-1), names=[PAID, "b"]),
    "simplex": lambda: plot.plot_simplex(torch.rand(9, 3).softmax(-1), names=[PAID, "b", "c"]),
    "maps": lambda: plot.plot_uncertainty_maps(torch.rand(6, 8), torch.rand(6, 8), torch.rand(6, 8), unit=PAID),
    "under_shift": lambda: plot.plot_under_shift({PAID: TABLE, "b": TABLE}, "ece"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_draws_on_the_axes_given_and_on_its_own(name: str) -> None:
    ax = Figure().subplots()
    assert PLOTS[name](ax=ax, title="A title") is ax
    assert ax.get_title() == "A title"
    assert PLOTS[name]().get_title()
    assert not PLOTS[name](title="").get_title()
    own = PLOTS[name](title="A title that is long enough to need a second line " * 2)
    own.figure.draw_without_rendering()
    if name not in {"maps", "classes", "simplex"}:
        assert own.get_xlabel()
        assert own.get_ylabel()


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_is_clipped_and_no_legend_covers_the_data(name: str) -> None:
    ax = PLOTS[name](title="A title")
    figure = ax.figure
    figure.draw_without_rendering()
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= -0.02
    assert box.y0 >= -0.02
    assert box.x1 <= width + 0.02
    assert box.y1 <= height + 0.02
    if ax.get_legend() is not None:
        assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())
        assert not ax.get_legend().get_window_extent().overlaps(ax.xaxis.label.get_window_extent())


def test_neither_pyplot_nor_a_backend_is_loaded() -> None:
    code = (
        "import sys, caveat.plot; assert 'matplotlib' not in sys.modules;"
        "caveat.plot.plot_reliability([0.5, 0.9], [1, 0]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_bands_are_the_deviations() -> None:
    ax = plot.plot_regression(torch.arange(5).flip(0), BAND, deviations=3)
    total, epistemic = (np.concatenate([path.vertices for path in band.get_paths()])[:, 1] for band in ax.collections)
    assert (total.min(), total.max()) == (-3, 3)
    assert (epistemic.min(), epistemic.max()) == (-1.5, 1.5)


def test_reliability_shows_shares_counts_and_the_error() -> None:
    # Claimed 0.85, right 1 in 2: off by 0.35. Claimed 0.15, right 0: off by 0.15. The mean, 2 to 1, is 0.283.
    ax = plot.plot_reliability([0.85, 0.85, 0.15], [1, 0, 0], bins=10)
    assert "ECE 0.283, 3 rows" in ax.get_xlabel()
    assert not ax.texts  # over a bar, which may be anywhere, nothing is written
    assert sorted(bar.get_height() for bar in ax.containers[0]) == [0, 0.5]
    assert max(bar.get_height() for bar in ax.child_axes[0].containers[0]) == pytest.approx(200 / 3)


def test_bins_and_curves_of_other_rooms_are_taken() -> None:
    metrics = pytest.importorskip("caveat.metrics")
    p = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    y = torch.arange(200) % 3
    bins = metrics.ReliabilityBins.of(3).update(p, y)
    ax = plot.plot_reliability(bins)
    assert f"ECE {float(bins.compute()):.3f}" in ax.get_xlabel()
    curve = metrics.risk_coverage(-p.amax(-1), (p.argmax(-1) != y).float())
    labels = [line.get_label() for line in plot.plot_risk_coverage({"margin": curve}).get_lines()]
    assert labels == ["margin", "oracle"]


def test_axes_name_the_measure_that_is_drawn() -> None:
    pred = caveat.Logits().summarize(torch.randn(20, 6, 3))
    ax = plot.plot_measure_histograms({"in": pred, "out": pred})
    assert ax.get_xlabel() == "predictive entropy (nats)"
    ax = plot.plot_measure_histograms({"in": pred}, measure=caveat.mutual_information)
    assert ax.get_xlabel() == "mutual information (nats)"
    assert plot.plot_measure_histograms({"in": F}).get_xlabel() == "uncertainty"
    assert plot.plot_measure_histograms({"in": F}, measure="height (m)").get_xlabel() == "height (m)"
    of_numbers = caveat.Mean().summarize(torch.randn(20, 16, 1))
    ax = plot.plot_decision_map(lambda _: of_numbers, x=(0, 1), y=(0, 1), steps=4)
    assert ax.figure.axes[-1].get_ylabel() == "total variance (target²)"
    with pytest.raises(InvalidArgumentError, match="must be one of"):
        plot.plot_measure_histograms({"in": pred}, measure="height (m)")


@pytest.mark.parametrize("loc", ["left", "center"])
def test_a_title_of_the_caller_is_kept(loc: Any) -> None:
    ax = Figure().subplots()
    ax.set_title("Fold 1", loc=loc)
    plot.plot_reliability([0.5, 0.9], [1, 0], ax=ax)
    plot.plot_reliability([0.5, 0.9], [1, 0], title="", ax=ax)
    assert [ax.get_title(place) for place in ("left", "center") if ax.get_title(place)] == ["Fold 1"]


def test_curves_name_their_metric() -> None:
    p, by = torch.rand(20, 2).softmax(-1), torch.rand(20)
    curve = caveat.metrics.referral_curve(caveat.metrics.brier_score, p, torch.arange(20) % 2, uncertainty=by)
    assert plot.plot_referral({"entropy": curve}).get_ylabel() == "brier score of the rows retained"
    assert plot.plot_referral({"entropy": curve}, metric="score").get_ylabel() == "score of the rows retained"
    assert plot.plot_referral((F, F)).get_ylabel() == "metric of the rows retained"


def test_an_image_of_any_unit_is_drawn_between_its_black_and_white() -> None:
    maps = torch.rand(2, 2), torch.rand(2, 2)
    ax = plot.plot_uncertainty_maps(torch.tensor([[-1000.0, 0.0], [40.0, 3000.0]]), *maps, vmin=-1000, vmax=1000)
    drawn = ax.child_axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(drawn, [[0, 0.5], [0.52, 1]])
    with pytest.raises(InvalidArgumentError, match="vmin must be below"):
        plot.plot_uncertainty_maps(torch.rand(2, 2), *maps, vmin=1, vmax=0)


def test_a_value_that_is_not_defined_leaves_a_gap() -> None:
    values = np.where(F < 0.3, np.nan, 1 - F)
    line = plot.plot_referral({"auc": (F, values)}).get_lines()[0]
    assert np.isnan(line.get_ydata()).sum() == 2


def test_a_million_points_are_thinned() -> None:
    share = np.arange(1, 1_000_001) / 1e6
    assert len(plot.plot_risk_coverage((share, share)).get_lines()[0].get_xdata()) <= 2000


def test_boxes_hold_the_quartiles() -> None:
    ax = plot.plot_under_shift({"one": TABLE}, "ece")
    np.testing.assert_allclose(ax.get_lines()[-1].get_ydata(), [box.median for box in TABLE.quartiles("ece")])


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_class_rows_for_few_and_many_classes(classes: int) -> None:
    draws = torch.rand(20, classes).softmax(-1)
    names = [f"a class with a very long name {k}" for k in range(classes)]
    ax = plot.plot_class_histograms(draws, names=names, label=0)
    texts = [tick.get_text() for tick in ax.get_yticklabels()]
    assert len(texts) == classes
    assert texts[-1].endswith("✓")
    assert max(map(len, texts)) <= 24


def test_a_draw_lies_where_its_probabilities_say() -> None:
    # Corners of an equilateral triangle: sure of a class is its corner, two alike the middle of a side.
    draws = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]
    points, mean = (dots.get_offsets() for dots in plot.plot_simplex(draws).collections)
    np.testing.assert_allclose(points, [[0, 0], [1, 0], [0.5, 3**0.5 / 2], [0.5, 0]], atol=1e-12)
    np.testing.assert_allclose(mean, [[0.5, 3**0.5 / 8]], atol=1e-12)
    third = plot.plot_simplex([[1 / 3, 1 / 3, 1 / 3]]).collections[0].get_offsets()
    sides = np.linalg.norm(np.asarray(third) - np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]]), axis=1)
    np.testing.assert_allclose(sides, 3**-0.5)


def test_a_gif_has_a_frame_a_step(tmp_path: Path) -> None:
    draws = torch.rand(3, 40, 4).softmax(-1)
    path = plot.animate_class_histograms(
        tmp_path / "a.gif", draws, images=torch.rand(3, 1, 8, 8), captions=["0°", "10°", "20°"], label=1
    )
    with Image.open(path) as gif:
        assert gif.n_frames == 3
        assert gif.info["duration"] == 250


def _folder_with_ffmpeg(tmp_path: Path) -> str:
    """A folder for the PATH: the program's own, or one that links to imageio-ffmpeg's."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return str(Path(found).parent)
    imageio = pytest.importorskip("imageio_ffmpeg", reason="neither ffmpeg nor imageio-ffmpeg is installed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").symlink_to(imageio.get_ffmpeg_exe())
    return str(tmp_path / "bin")


def test_an_mp4_has_a_frame_a_step_and_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", _folder_with_ffmpeg(tmp_path))
    draws, captions = torch.rand(3, 40, 4).softmax(-1), ["0°", "10°", "20°"]
    for name in ("a.gif", "a.mp4"):
        plot.animate_class_histograms(tmp_path / name, draws, captions=captions, label=1)
    with Image.open(tmp_path / "a.gif") as gif:
        width, height = gif.width - gif.width % 2, gif.height - gif.height % 2
        last = ImageSequence.Iterator(gif)[2].convert("RGB").crop((0, 0, width, height))
    back = ["ffmpeg", "-loglevel", "error", "-i", str(tmp_path / "a.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(back, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)  # of another size it would not fit
    assert len(frames) == 3
    # The codec halves the colors' resolution and the GIF has 256 of them: a few levels on average, not the picture.
    assert np.abs(frames[2].astype(float) - np.asarray(last)).mean() < 6


def test_an_mp4_that_cannot_be_written_says_what_ffmpeg_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", _folder_with_ffmpeg(tmp_path))
    with pytest.raises(InvalidArgumentError, match="ffmpeg must be able"):
        plot.animate_class_histograms(tmp_path / "nowhere" / "a.mp4", torch.rand(2, 5, 2).softmax(-1))


def test_an_mp4_without_ffmpeg_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="ffmpeg"):
        plot.animate_class_histograms(tmp_path / "a.mp4", torch.rand(2, 5, 2).softmax(-1))


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: plot.plot_regression([1, 2], BAND), "same length"),
    (lambda: plot.plot_regression(range(5), {"mean": [0] * 5, "total": [-1] * 5}), "negative"),
    (lambda: plot.plot_regression(range(5), torch.zeros(5)), "predictive of regression"),
    (lambda: plot.plot_regression(range(5), {**BAND, "mean": torch.zeros(5, 2)}, column=2), "column"),
    (lambda: plot.plot_regression(range(5), BAND, parts=("noise",)), "parts"),
    (lambda: plot.plot_reliability([1.5], [1]), r"\[0, 1\]"),
    (lambda: plot.plot_reliability([0.5, 0.5], [1]), "same length"),
    (lambda: plot.plot_reliability([], []), "not empty"),
    (lambda: plot.plot_reliability([0.5], [1], bins=0), "bins"),
    (lambda: plot.plot_referral({}), "a curve to draw"),
    (lambda: plot.plot_referral((F, F[:3])), "same length"),
    (lambda: plot.plot_referral((F * 100, F)), r"\[0, 1\]"),
    (lambda: plot.plot_risk_coverage(object()), "coverage and risk"),
    (lambda: plot.plot_risk_coverage(([0.3, 0.1, 0.2], [0.2, 0.6, 1.0])), r"\(risk, coverage\), the two in the other"),
    (lambda: plot.plot_reliability([1, 0, 1], [0.9, 0.6, 0.7]), "order of arguments is confidences, correct"),
    (lambda: plot.plot_measure_histograms({}), "a set to draw"),
    (lambda: plot.plot_class_histograms([[0.5, 0.5]], label=2), "label"),
    (lambda: plot.plot_class_histograms([[0.5, 0.5]], names=["a"]), "names"),
    (lambda: plot.plot_class_histograms([[3.0, -3.0]]), r"\[0, 1\]"),
    (lambda: plot.plot_simplex([[0.5, 0.5]]), "three classes"),
    (lambda: plot.plot_simplex([[0.5, 0.5, 0.0]], label=3), "label"),
    (lambda: plot.plot_simplex([[0.5, 0.5, 0.0]], names=["a"]), "names"),
    (lambda: plot.plot_uncertainty_maps(torch.zeros(4, 4), torch.zeros(4, 5), torch.zeros(4, 4)), "size of the image"),
    (lambda: plot.plot_uncertainty_maps(torch.zeros(4, 4, 3), torch.zeros(4, 4), torch.zeros(4, 4)), "channels"),
    (lambda: plot.plot_decision_map(lambda p: p, x=(0, 1), y=(0, 1), steps=3), "one value for each point"),
    (lambda: plot.plot_decision_map(lambda p: p[:, 0], x=(1, 0), y=(0, 1)), "ranges"),
    (lambda: plot.plot_under_shift(TABLE, "nll"), "metric"),
    (lambda: plot.plot_under_shift({}, "ece"), "a table to draw"),
    (lambda: plot.animate_class_histograms("a.png", torch.rand(2, 5, 2).softmax(-1)), "gif or .mp4"),
    (lambda: plot.animate_class_histograms("a.gif", torch.rand(2, 5, 2).softmax(-1), captions=["0"]), "captions"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        call()


def test_draws_on_the_simplex_are_probabilities() -> None:
    for draws in ([[0.5, 0.5, 0.5]], [[3.0, -3.0, 1.0]]):
        with pytest.raises(NotProbabilitiesError, match="at least 0 and sum to 1"):
            plot.plot_simplex(draws)


def test_nan_is_named() -> None:
    with pytest.raises(NotFiniteError, match="confidences"):
        plot.plot_reliability([0.5, np.nan], [1, 1])


def test_reliability_of_probabilities_and_labels_is_that_of_the_class_answered() -> None:
    p, labels = torch.rand(60, 4).softmax(-1), torch.arange(60) % 4
    whole = plot.plot_reliability(p, labels)
    answered = plot.plot_reliability(p.amax(-1), p.argmax(-1) == labels)
    assert [bar.get_height() for bar in whole.patches] == [bar.get_height() for bar in answered.patches]
    with pytest.raises(InvalidArgumentError, match="0 to C - 1"):
        plot.plot_reliability(p, labels + 1)


@pytest.mark.parametrize("name", NAMED)
def test_dollars_in_a_name_are_dollars(name: str, tmp_path: Path) -> None:
    figure = NAMED[name]().get_figure(root=True)
    figure.savefig(tmp_path / "a.svg")
    figure.savefig(tmp_path / "a.png")
    words = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_parse_math"))]
    shown = [word for word in words if "paid" in word]
    assert shown
    assert all(word.count("$") == word.count(r"\$") for word in shown)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("bins", [5, 10, 15])
def test_a_reliability_diagram_has_the_bins_of_the_metric(dtype: torch.dtype, bins: int) -> None:
    votes = torch.arange(6).repeat(20) / torch.tensor(5, dtype=dtype)
    p, y = torch.stack((votes, 1 - votes), -1).to(dtype), torch.arange(120) % 2
    error = metrics.expected_calibration_error(p, y, bins=bins).item()
    assert f"ECE {error:.3f}," in plot.plot_reliability(p, y, bins=bins).get_xlabel()
    assert f"ECE {error:.3f}," in plot.plot_reliability(p.numpy(), y.numpy(), bins=bins).get_xlabel()


def test_losses_below_0_are_seen_against_coverage() -> None:
    ax = plot.plot_risk_coverage({"log score": (F, F - 3)})
    low, high = ax.get_ylim()
    assert low < -2.9
    assert high > -2
    assert plot.plot_risk_coverage((F, F / 5)).get_ylim()[0] == 0


def test_one_row_of_a_regression_is_seen() -> None:
    one = {name: values[:1] for name, values in BAND.items()}
    ax = plot.plot_regression([3.0], one)
    assert ax.get_lines()[-1].get_marker() == "o"
    low, high = ax.dataLim.intervalx
    assert low < 3 < high


def test_rounding_errors_are_not_magnified() -> None:
    ax = plot.plot_referral(([0.5, 0.8, 1.0], [1.0, 1 - 5e-13, 1.0]), metric="accuracy")
    low, high = ax.get_ylim()
    assert low < 0.99 < 1.01 < high


@pytest.mark.parametrize("picture", [plot.plot_class_histograms, plot.plot_simplex])
def test_the_draws_of_a_predictive_are_its_own(picture: Callable[..., Any]) -> None:
    draws = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    kept = caveat.Probabilities().summarize(draws, keep=True)
    ours, given = picture(kept.rows(1)), picture(draws[:, 1])
    assert [line.get_xdata().tolist() for line in ours.lines] == [line.get_xdata().tolist() for line in given.lines]
    with pytest.raises(InvalidArgumentError, match=r"pred\.rows\(0\)"):
        picture(kept)
    with pytest.raises(DrawsNotKeptError):
        picture(caveat.Probabilities().summarize(draws).rows(0))
