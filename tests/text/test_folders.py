"""A model on disk: the same again, or an error that says what is wrong with the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
from caveat._estimators import _model_folder as model_folder
from caveat.errors import InvalidArgumentError
from caveat.text import Classifier, InvalidModelError, Regressor

Corpus = Callable[..., tuple[list[str], np.ndarray]]


@pytest.fixture
def saved(classifier: Classifier, tmp_path: Path) -> Path:
    classifier.save(tmp_path / "model")
    return tmp_path / "model"


def test_what_was_saved_comes_back(classifier: Classifier, corpus: Corpus, tmp_path: Path, unheard: list[str]) -> None:
    X = [*corpus(40, seed=4)[0], *unheard]
    model = Classifier()
    model.model_, model.classes_ = classifier.model_, classifier.classes_
    model.choose_threshold(false_alarms=0.1)
    model.save(tmp_path / "deep" / "model")
    again = Classifier.load(tmp_path / "deep" / "model")
    assert sorted(path.name for path in (tmp_path / "deep" / "model").iterdir()) == [
        "README.md", "caveat.json", "model.safetensors",
    ]  # fmt: skip
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(again.predict_set(X), classifier.predict_set(X))
    assert (again.predict_or_abstain(X) == model.predict_or_abstain(X)).all()
    assert again.classes_.tolist() == classifier.classes_.tolist()
    assert again.get_params()["width"] == classifier.model_.settings.width
    assert again.choose_threshold(false_alarms=0.2) == model.choose_threshold(false_alarms=0.2)
    card = (tmp_path / "deep" / "model" / "README.md").read_text()
    assert "one of 3 classes" in card
    assert "predictive_entropy, nats, above" in card
    again.save(tmp_path / "deep" / "model")  # over itself


def test_a_regressor_comes_back(regressor: Regressor, rated: Corpus, tmp_path: Path) -> None:
    X, _ = rated(20, seed=4)
    regressor.save(tmp_path / "model")
    again = Regressor.load(tmp_path / "model")
    for ours, theirs in zip(again.predict(X, return_std=True), regressor.predict(X, return_std=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(again.predict_interval(X), regressor.predict_interval(X))
    with pytest.raises(InvalidArgumentError, match=r"caveat\.text\.Regressor\.load"):
        Classifier.load(tmp_path / "model")


@pytest.mark.parametrize("labels", [[1, 2], [True, False], [1.0, 2.0], ["ä|`b\n", "b"]], ids=str)
def test_labels_come_back_as_they_were(labels: list[Any], tmp_path: Path) -> None:
    X = ["play jazz", "stop it"] * 10
    model = Classifier(epochs=1, width=4, draws=2).fit(X, labels * 10)
    model.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    assert again.classes_.tolist() == model.classes_.tolist()
    assert again.predict(X).dtype == model.predict(X).dtype


def test_nothing_is_pickled(saved: Path) -> None:
    assert (saved / "model.safetensors").read_bytes()[8:9] == b"{"
    assert json.loads((saved / "caveat.json").read_text())["format"] == "caveat-text"


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "caveat.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_folder_is_refused(saved: Path, name: str, damage: str) -> None:
    path = saved / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content.replace(b"music", b"muzak") if b"music" in content else content[:-1] + b"x")
    with pytest.raises(InvalidModelError) as caught:
        Classifier.load(saved)
    assert str(saved) in str(caught.value)


def test_another_version_or_another_kind_is_refused(saved: Path) -> None:
    about = json.loads((saved / "caveat.json").read_text())
    changes = {"a newer caveat": {"version": 99}, "an older caveat": {"version": 1}}
    for said, change in (changes | {"caveat-table": {"format": "caveat-table"}}).items():
        (saved / "caveat.json").write_text(json.dumps(about | change))
        with pytest.raises(InvalidModelError, match=said):
            Classifier.load(saved)


def test_a_forged_folder_whose_parts_do_not_fit_is_refused(saved: Path) -> None:
    about = json.loads((saved / "caveat.json").read_text())
    about["network"]["width"] = 7
    about["checksums"]["caveat.json"] = model_folder._checksum_of(about)  # pyright: ignore[reportPrivateUsage]
    (saved / "caveat.json").write_text(json.dumps(about))
    with pytest.raises(InvalidModelError, match="whole and as it was saved"):
        Classifier.load(saved)


def test_files_that_were_put_into_a_folder_are_refused(saved: Path) -> None:
    (saved / "notes.txt").write_text("beside the model nothing reads it")
    Classifier.load(saved)
    (saved / "encoder").mkdir()
    (saved / "encoder" / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(InvalidModelError, match=r"modeling\.py was not saved"):
        Classifier.load(saved)


def test_no_model_is_there(tmp_path: Path, classifier: Classifier) -> None:
    with pytest.raises(InvalidModelError, match="not there"):
        Classifier.load(tmp_path / "nowhere")
    with pytest.raises(InvalidModelError, match="without one"):
        Classifier.load(tmp_path)
    (tmp_path / "data.csv").write_text("a,b")
    for place in (tmp_path, tmp_path / "data.csv"):
        with pytest.raises(InvalidModelError, match="something else"):
            classifier.save(place)
    assert (tmp_path / "data.csv").read_text() == "a,b"


def test_a_full_disk_leaves_nothing_behind(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    classifier.save(tmp_path / "model")
    before = (tmp_path / "model" / "caveat.json").read_bytes()
    monkeypatch.setattr(model_folder, "write_whole", full)
    for name in ("model", "new"):
        with pytest.raises(InvalidModelError, match="No space left"):
            classifier.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "caveat.json").read_bytes() == before
    shutil.rmtree(tmp_path / "model")
