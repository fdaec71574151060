"""The image page's computing: what is asked, the picture that is made of it, and what the draws say."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from starlette.testclient import TestClient

import caveat
from caveat.cli._demo._data import bundled_digits
from caveat.cli._demo._network import fit_digits_network
from caveat.cli._playground import _live
from caveat.cli._playground._app import make_app
from caveat.cli._playground._digit_draws import BINS, Question, Reader, answer, compose, make_reader, question_from
from caveat.errors import InvalidArgumentError

PLAIN = Question(first=0, second=3, blend=0.0, angle=0, draws=40, drawing=[])


@pytest.fixture(scope="module")
def reader() -> Reader:
    digits = bundled_digits().first(train=300, test=120)
    return make_reader(fit_digits_network(digits.train_images, digits.train_labels, epochs=2, seed=0), digits)


def test_there_are_digits_of_every_class_to_pick(reader: Reader) -> None:
    assert reader.labels.tolist() == sorted([*range(10)] * 3)


def test_the_answer_is_what_predict_gives(reader: Reader) -> None:
    asked = replace(PLAIN, angle=30, blend=0.3)
    found = answer(reader, asked)
    pred = caveat.predict(reader.sampler, compose(reader, asked), n=40, seed=0)
    torch.testing.assert_close(torch.tensor(found["mean"]), pred.mean[0], atol=1e-5, rtol=0)
    assert found["total"] == pytest.approx(float(caveat.predictive_entropy(pred)), abs=1e-4)
    assert found["epistemic"] == pytest.approx(float(caveat.mutual_information(pred)), abs=1e-4)
    assert found["total"] == pytest.approx(found["epistemic"] + found["aleatoric"], abs=1e-4)


def test_every_draw_is_in_one_bin_of_every_class(reader: Reader) -> None:
    found = answer(reader, replace(PLAIN, angle=90))
    counts = torch.tensor(found["counts"]).float()
    assert counts.shape == (10, BINS)
    assert counts.sum(1).tolist() == [40] * 10
    middles = (torch.arange(BINS) + 0.5) / BINS
    assert (counts @ middles / 40).tolist() == pytest.approx(found["mean"], abs=0.5 / BINS)


def test_a_full_turn_is_none_and_a_full_blend_is_the_other(reader: Reader) -> None:
    plain = compose(reader, PLAIN)
    torch.testing.assert_close(plain[0], reader.shown[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(compose(reader, replace(PLAIN, angle=360)), plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(compose(reader, replace(PLAIN, blend=1.0))[0], reader.shown[3], atol=1e-4, rtol=0)


def test_a_drawing_is_read_row_by_row(reader: Reader) -> None:
    drawing = [0] * 784
    drawing[28 * 5 + 9] = 255
    picture = compose(reader, replace(PLAIN, first=-1, drawing=drawing))
    assert picture.shape == (1, 1, 28, 28)
    assert picture[0, 0].round().nonzero().tolist() == [[5, 9]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"first": 30}, "first must be an integer from -1 to 29"),
        ({"second": -1}, "second must be an integer"),
        ({"blend": 1.5}, "blend must lie"),
        ({"angle": 1000}, "angle must be an integer"),
        ({"draws": 10**6}, "draws must be an integer"),
        ({"draws": "many"}, "what the page's controls say"),
        ({"first": -1, "drawing": [0]}, "A drawing must have 28 x 28"),
        ({"first": -1, "drawing": [999] * 784}, "numbers from 0 to 255"),
        ({"other": 1}, "'other' is not known"),
    ],
)
def test_what_is_out_of_range_is_refused(changed: dict[str, Any], words: str, reader: Reader) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        question_from({**asdict(PLAIN), **changed}, reader)


@pytest.fixture
def client(tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> Generator[TestClient]:
    def train(advance: Any) -> Reader:
        advance(0.5)
        return reader

    monkeypatch.setattr(_live, "train_reader", train)
    with TestClient(make_app(tmp_path), base_url="http://127.0.0.1") as client:
        yield client


def test_a_page_waits_for_the_network_and_is_then_answered(client: TestClient) -> None:
    with client.websocket_connect("/live/image", headers={"Host": "127.0.0.1"}) as socket:
        message = socket.receive_json()
        while message["trained"] < 1 or "shown" not in message:
            message = socket.receive_json()
        assert len(message["shown"]) == 30
        socket.send_json({**asdict(PLAIN), "angle": 9999})
        assert "angle" in socket.receive_json()["error"]
        socket.send_json(asdict(PLAIN))
        assert len(socket.receive_json()["pixels"]) == 784
