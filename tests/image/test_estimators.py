"""Estimators of pictures, in scikit-learn's manner: what they promise, and what they say of what they cannot use."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")
pytest.importorskip("PIL")
from sklearn.base import clone

import caveat
from caveat.errors import InvalidArgumentError, MissingExtraError
from caveat.image import Classifier, DoubtfulDataWarning, InvalidDataError, InvalidModelError, Regressor

from .pictures import QUICK, draw_shapes, gray_levels

BLANK = np.full((9, 9), 7, np.uint8)


def test_shapes_are_told_apart(classifier: Classifier) -> None:
    X, y = draw_shapes(60, seed=1)
    assert classifier.score(X, y) > 0.9
    proba = classifier.predict_proba(X)
    assert proba.shape == (60, 2)
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
    assert classifier.predict_set(X, 0.9)[np.arange(60), proba.argmax(1)].all()
    parts = classifier.decompose(X)
    np.testing.assert_allclose(parts["total"], parts["aleatoric"] + parts["epistemic"], atol=1e-5)
    assert (parts["epistemic"] > 0).any()


def test_numbers_are_learned(regressor: Regressor) -> None:
    X, light = gray_levels(80, seed=1)
    mean, std = regressor.predict(X, return_std=True)
    assert np.corrcoef(mean, light)[0, 1] > 0.9
    assert (std > 0).all()
    low, high = regressor.predict_interval(X, 0.9)
    assert 0.7 < ((low <= light) & (light <= high)).mean() <= 1


def test_several_numbers_are_learned_at_once(regressor: Regressor) -> None:
    X, light = gray_levels(60)
    model = Regressor(**QUICK).fit(X, np.stack([light, -light], 1))
    assert model.predict(X[:3]).shape == (3, 2)


def test_the_same_seed_and_pictures_in_any_order_give_the_same_model() -> None:
    X, y = draw_shapes(60)
    order = np.random.default_rng(0).permutation(60)
    first, second = Classifier(**QUICK).fit(X, y), Classifier(**QUICK).fit(X[order], y[order])
    other = Classifier(**QUICK, random_state=1).fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert (first.predict_proba(X) != other.predict_proba(X)).any()


def test_equal_pictures_are_held_out_together() -> None:
    X, y = draw_shapes(150)
    model = Classifier(**QUICK).fit(np.concatenate([X, X]), np.concatenate([y, y]))
    assert model.model_.summary["rows_held_out"] % 2 == 0
    assert model.model_.calibration.rows == model.model_.summary["rows_held_out"] > 0


def test_global_random_states_are_left_alone() -> None:
    X, y = draw_shapes(40)
    before = torch.random.get_rng_state()
    Classifier(**QUICK).fit(X, y).predict(X)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_scikit_learn_can_clone_it() -> None:
    model = Classifier(width=7, size=20, random_state=3)
    again = clone(model)
    assert again.get_params() == model.get_params()


def test_class_folders_are_enough(folder: Path) -> None:
    with pytest.warns(DoubtfulDataWarning, match="2 of 62 pictures are left out"):
        model = Classifier(**QUICK).fit(folder)
    assert model.classes_.tolist() == ["disk", "square"]
    assert model.model_.summary["rows_left_out"] == 2
    assert {Path(problem.name).name: problem.why.split(":")[0] for problem in model.problems_} == {
        "broken.png": "cannot be read",
        "green.png": "blank",
    }
    assert model.model_.summary["rows"] == 60


def test_reading_and_training_show_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", screen)
    X = np.random.default_rng(0).integers(0, 255, (30, 8, 8), dtype=np.uint8)
    Classifier(epochs=1, width=4, draws=2, verbose=True).fit(X, ["a", "b"] * 15)
    said = screen.getvalue()
    assert "30/30 pictures  read\n" in said
    assert "epochs" in said
    assert Classifier(epochs=1, width=4, draws=2).fit(X, ["a", "b"] * 15)
    assert screen.getvalue() == said


def test_a_class_folder_without_a_picture_is_named(folder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "photos"))
    (place / "ring").mkdir()
    with pytest.warns(DoubtfulDataWarning) as caught:
        Classifier(epochs=1, width=4, draws=2).fit(place)
    assert str(caught[0].message) == "Class folders without a picture: ring."


def test_weights_of_pictures_left_out_do_not_matter() -> None:
    X, y = draw_shapes(40)
    weights = np.linspace(0.5, 1.5, 40)
    whole = Classifier(**QUICK).fit(X, y, weights)
    with pytest.warns(DoubtfulDataWarning):
        with_blank = Classifier(**QUICK).fit([*X, BLANK], [*y, "disk"], [*weights, 5.0])
    np.testing.assert_array_equal(whole.predict_proba(X), with_blank.predict_proba(X))


def test_of_what_cannot_be_seen_the_frequencies_are_known(classifier: Classifier) -> None:
    X, _ = draw_shapes(4, seed=2)
    with pytest.warns(DoubtfulDataWarning, match=r"nowhere\.png .* row 3 \(blank"):
        proba = classifier.predict_proba([X[0], "nowhere.png", X[1], BLANK])
    np.testing.assert_allclose(proba[[1, 3]], 0.5)
    np.testing.assert_allclose(proba[[0, 2]], classifier.predict_proba(X[:2]), atol=1e-6)


def test_of_what_cannot_be_seen_the_mean_is_known(regressor: Regressor) -> None:
    _, light = gray_levels(200)
    with pytest.warns(DoubtfulDataWarning):
        mean, std = regressor.predict([BLANK], return_std=True)
    assert mean[0] == pytest.approx(light.mean())
    assert std[0] == pytest.approx(light.std())


def test_of_what_cannot_be_seen_the_mean_is_known_to_all_digits() -> None:
    X, light = gray_levels(60)
    with pytest.warns(DoubtfulDataWarning):
        mean = Regressor(width=4, epochs=1, draws=3).fit(X, light + 1e12).predict([BLANK])
    assert mean[0] - 1e12 == pytest.approx(light.mean(), abs=1e-3)


def test_what_cannot_be_seen_is_deferred(classifier: Classifier) -> None:
    X, y = draw_shapes(100, seed=3)
    model = Classifier()
    model.model_, model.classes_ = classifier.model_, classifier.classes_
    with pytest.raises(InvalidArgumentError, match="threshold must be chosen"):
        model.decide(X)
    model.threshold_for_cost(X, y, 0.99)
    with pytest.warns(DoubtfulDataWarning):
        made = model.decide([*X, BLANK])
    assert not made.answered[-1]
    assert made.answered[:-1].any()
    with pytest.warns(DoubtfulDataWarning):
        assert model.predict_or_abstain([BLANK], abstained="?").tolist() == ["?"]


def test_nothing_that_can_be_seen_is_an_error() -> None:
    with pytest.raises(InvalidDataError, match="at least some"):
        Classifier(**QUICK).fit([BLANK, BLANK], ["a", "b"])


@pytest.mark.parametrize(
    "y", [None, ["disk"], ["disk"] * 20, [np.nan] * 20], ids=["none", "too few", "one class", "missing"]
)
def test_answers_that_do_not_fit_are_refused(y: Any) -> None:
    with pytest.raises(InvalidDataError):
        Classifier(**QUICK).fit(draw_shapes(20)[0], y)


@pytest.mark.parametrize(
    "parameters",
    [{"size": 3}, {"size": "large"}, {"method": "swag"}, {"dropout": 1.5}, {"backbone": 3}, {"random_state": -1}],
    ids=str,
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Classifier(**{**QUICK, **parameters}).fit(*draw_shapes(20))


def test_batches_are_the_same_as_all_at_once(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = draw_shapes(30, seed=4)
    together = classifier.predict_proba([*X[:20], *X[20:]])
    monkeypatch.setattr("caveat.image._estimator.AT_ONCE", 7)
    sizes = [pred.row_count for pred, _ in classifier.predict_in_batches(X)]
    assert sizes == [7, 7, 7, 7, 2]
    np.testing.assert_allclose(classifier.predict_proba(X), together, atol=1e-6)


def test_without_pillow_the_line_to_install_it_is_said(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"caveat\[image\]"):
        classifier.predict(draw_shapes(2)[0])


def test_what_was_saved_comes_back_bit_for_bit(classifier: Classifier, tmp_path: Path) -> None:
    X, _ = draw_shapes(30, seed=5)
    classifier.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(again.predict_set(X), classifier.predict_set(X))
    assert again.classes_.tolist() == ["disk", "square"]
    assert "16 x 16 pixels in color" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(InvalidArgumentError, match=r"caveat\.image\.Classifier\.load"):
        Regressor.load(tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(2000)
        file.write(b"\x01\x02\x03")
    with pytest.raises(InvalidModelError):
        Classifier.load(tmp_path / "model")


def test_a_regressor_comes_back_bit_for_bit(regressor: Regressor, tmp_path: Path) -> None:
    X, _ = gray_levels(20, seed=5)
    regressor.save(tmp_path / "model")
    again = Regressor.load(tmp_path / "model")
    for ours, theirs in zip(again.predict(X, return_std=True), regressor.predict(X, return_std=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Spots(nn.Module):
    """A backbone that counts the pictures that go through it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Conv2d(3, 8, 5, 2), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.layer(x).relu()


@pytest.mark.parametrize("method", ["mc_dropout", "ensemble"])
def test_each_picture_goes_through_the_backbone_once(method: str, tmp_path: Path) -> None:
    backbone = Spots()
    before = [parameter.clone() for parameter in backbone.parameters()]
    X, y = draw_shapes(150)
    model = Classifier(backbone=backbone, method=method, members=2, size=16, draws=30, epochs=20).fit(X, y)
    assert all(torch.equal(old, new) for old, new in zip(before, backbone.parameters(), strict=True))
    backbone.seen = 0
    assert model.score(X, y) > 0.8
    assert backbone.seen == 150
    assert (model.decompose(X)["epistemic"] > 0).all()
    model.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model", backbone=backbone)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    with pytest.raises(InvalidModelError, match="other weights"):
        Classifier.load(tmp_path / "model", backbone=Spots())


def test_a_backbone_by_name_is_opened_by_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Spots()
    backbone.pretrained_cfg = {"input_size": (3, 20, 20), "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}  # type: ignore[assignment]

    class timm:  # noqa: N801
        @staticmethod
        def create_model(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
            if name != "spots" or not pretrained or num_classes:
                raise RuntimeError(f"Unknown model ({name})")
            return backbone

    monkeypatch.setitem(sys.modules, "timm", timm)
    X, y = draw_shapes(40)
    model = Classifier(backbone="spots", members=1, draws=5, epochs=2).fit(X, y)
    assert model.model_.reader.format.size == 20
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(Classifier.load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
    with pytest.raises(InvalidDataError, match="Unknown model"):
        Classifier(backbone="stripes").fit(X, y)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"caveat\[backbones\]"):
        Classifier(backbone="spots").fit(X, y)


def test_a_module_that_gives_no_features_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="backbone must be"):
        Classifier(backbone=nn.Linear(3, 2)).fit(*draw_shapes(20))


def test_the_network_begins_to_differ_between_draws_in_its_last_stage(classifier: Classifier) -> None:
    network = classifier.model_.networks[0]
    audit = caveat.audit(network, torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert [site.path for site in audit.sites if site.live] == ["body.5.dropout", "head.0"]
