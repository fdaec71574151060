"""The page's server: its files, who may drive it, its websockets, and what goes wrong in words."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
pytest.importorskip("sklearn")
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from caveat.cli._cli import main
from caveat.cli._playground._app import PAGE, TITLES, make_app
from caveat.cli._playground._regression import Regression, Settings

OWN = "http://127.0.0.1:8765"


@pytest.fixture
def client(tmp_path: Path) -> Generator[TestClient]:
    with TestClient(make_app(tmp_path), base_url=OWN, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("name", TITLES)
def test_each_page_has_its_own_address_and_tab(name: str, client: TestClient) -> None:
    page = client.get(f"/{name}")
    assert page.status_code == 200
    assert f"<title>{TITLES[name]} · caveat playground</title>" in page.text
    assert f'<a href="/{name}" aria-current=page>{TITLES[name]}</a>' in page.text
    assert "<!-- " not in page.text
    script = client.get(f"/page/{name}.js")
    assert script.headers["content-type"].startswith("text/javascript")


def test_the_root_leads_to_the_first_page(client: TestClient) -> None:
    assert client.get("/").url.path == "/regression"


def test_nothing_comes_from_another_site() -> None:
    for file in PAGE.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//cdn" not in text
        assert "http://" not in text
        assert "https://" not in text


def test_headers_keep_the_page_to_itself(client: TestClient) -> None:
    headers = client.get("/regression").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["../_app.py", "%2e%2e%2f_app.py", "..%2f..%2ferrors.py", "frame.html", "no.js"])
def test_only_the_pages_own_files_are_given(name: str, client: TestClient) -> None:
    assert client.get(f"/page/{name}").status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8765", "Origin": "http://evil.example:8765"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
    ],
    ids=str,
)
def test_other_sites_are_refused(headers: dict[str, str], client: TestClient) -> None:
    for path in ("/regression", "/api/places"):
        refused = client.get(path, headers=headers)
        assert refused.status_code == 403
        assert refused.text.startswith("Refused")
    assert client.post("/api/save", headers=headers, json={}).status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/live/regression", headers=headers):
        pass


def test_the_page_itself_may_ask(client: TestClient) -> None:
    assert client.get("/api/places", headers={"Origin": OWN}).status_code == 200
    with client.websocket_connect("/live/regression", headers={"Host": "127.0.0.1:8765", "Origin": OWN}) as socket:
        assert socket.receive_json()["step"] == 0


def test_a_new_picture_waits_until_the_last_was_seen(client: TestClient) -> None:
    with client.websocket_connect("/live/regression", headers={"Host": "127.0.0.1"}) as socket:
        socket.receive_json()
        socket.send_json({"points": [[0.0, 0.0], [1.0, 1.0]]})
        socket.send_json({"seen": True})
        first = socket.receive_json()["step"]
        socket.send_json({"seen": True})
        assert socket.receive_json()["step"] == 2 * first > 0


def test_training_that_ran_away_is_said_and_begins_anew(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_away(state: Regression) -> None:
        for member in state.members:
            member.network.head.weight.data.fill_(float("nan"))

    with client.websocket_connect("/live/regression", headers={"Host": "127.0.0.1"}) as socket:
        socket.receive_json()
        monkeypatch.setattr(Regression, "advance", run_away)
        socket.send_json({"points": [[0.0, 0.0]], "seen": True})
        assert "Training begins anew" in socket.receive_json()["error"]
        monkeypatch.undo()
        socket.send_json({"seen": True})
        assert socket.receive_json()["step"] > 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{", "A message must be JSON"),
        ("[1]", "A message must be an object"),
        ('{"points": [[0, NaN]]}', "A message must be JSON"),
        ('{"points": [[9, 9]]}', "A point must be"),
        ('{"settings": {"method": "magic"}}', "settings"),
    ],
)
def test_a_message_that_is_none_is_answered_in_words(said: str, words: str, client: TestClient) -> None:
    with client.websocket_connect("/live/regression", headers={"Host": "127.0.0.1"}) as socket:
        socket.receive_json()
        socket.send_text(said)
        assert words in socket.receive_json()["error"]
        socket.send_json({"settings": asdict(Settings()), "seen": True})  # and the page goes on
        assert "mean" in socket.receive_json()


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"{", "JSON"), (b"null", "request must be"), (b'{"model": "../../etc"}', "missing"), (b" " * 70_000, "bytes")],
)
def test_a_request_that_is_none_is_answered_in_words(body: bytes, words: str, client: TestClient) -> None:
    for path in ("/api/open", "/api/save"):
        refused = client.post(path, content=body)
        assert refused.status_code == 400
        assert words in refused.json()["error"]


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["playground", "--no-browser", "--port", str(port)]) == 2
    assert f"Got: 127.0.0.1:{port}" in capsys.readouterr().err


def test_every_file_is_used() -> None:
    names = {file.name for file in PAGE.iterdir()}
    text = "".join(file.read_text("utf-8") for file in PAGE.iterdir())
    reached: Any = {f"{name}.{kind}" for name in TITLES for kind in ("html", "js")} | {"frame.html"}
    assert names == reached | {name for name in names if f"/{name}" in text}
