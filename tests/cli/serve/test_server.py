"""The command in a process of its own: how it starts, what it says where it cannot, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from caveat.cli._cli import main
from caveat.cli._listen import address_of, listen
from caveat.cli._serve._command import KEY, read_key

from .conftest import run

ROW = {"size": 2.0, "color": "red"}
CODE = "import sys; from caveat.cli._cli import main; sys.exit(main())"


@dataclass
class Process:
    """A service, its address, and the lines of its log."""

    process: subprocess.Popen[str]
    url: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    reader: threading.Thread | None = None

    def wait(self) -> int:
        code = self.process.wait(60)
        assert self.reader is not None
        self.reader.join(60)
        return code


@contextmanager
def serving(*arguments: str) -> Generator[Process]:
    command = [sys.executable, "-c", CODE, "serve", *arguments, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            while (line := json.loads(process.stdout.readline()))["event"] != "listening":
                pass
            found = Process(process, line["url"])
            output = process.stdout

            def read() -> None:
                found.lines.extend(map(json.loads, output))

            found.reader = threading.Thread(target=read)
            found.reader.start()
            yield found
        finally:
            process.kill()
            if found.reader is not None:
                found.reader.join(60)


@pytest.mark.slow
@pytest.mark.parametrize("keep_alive", [True, False], ids=["connections kept", "a connection each"])
def test_sigterm_under_load_loses_no_request(place: Path, keep_alive: bool) -> None:
    """Each client asks again and again until connecting is refused; whatever it has sent by then is answered."""
    answered: list[int] = []

    async def client(url: str) -> None:
        limits = httpx.Limits(max_keepalive_connections=10 if keep_alive else 0)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as session:
            while True:
                try:
                    reply = await session.post("/predict", json={"rows": [ROW]})
                except httpx.ConnectError:
                    return
                answered.append(reply.status_code)

    with serving(str(place / "by_sold"), "--drain-seconds", "0.5") as service:

        async def steps() -> None:
            clients = [asyncio.create_task(client(service.url)) for _ in range(16)]
            while len(answered) < 40:
                await asyncio.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*clients)

        run(steps())
        assert service.wait() == 0
    assert set(answered) == {200}
    assert sum(line["event"] == "request" for line in service.lines) == len(answered)
    assert [line["event"] for line in service.lines if line["event"] != "request"] == ["draining", "stopped"]


@pytest.mark.slow
def test_faults_of_clients_disturb_nobody(place: Path) -> None:
    """A body that never ends, one of a gigabyte, one cut off, no HTTP at all, a client that hangs up: all at once."""

    def send(service: Process, content: bytes) -> socket.socket:
        host, port = service.url.removeprefix("http://").split(":")
        found = socket.create_connection((host, int(port)), 30)
        found.sendall(content)
        return found

    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    body = json.dumps({"rows": [ROW]}).encode()
    with serving(str(place / "by_sold"), "--body-seconds", "1") as service:
        never = send(service, head + b"Content-Length: 100\r\n\r\n{")
        huge = send(service, head + b"Content-Length: 1000000000\r\n\r\n" + b" " * 100_000)
        chunked = send(service, head + b"Transfer-Encoding: chunked\r\n\r\n" + b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n")
        for _ in range(20):
            send(service, head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body).close()
            send(service, head + b"Content-Length: 100\r\n\r\n{").close()
        nonsense = send(service, b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n")
        with httpx.Client(base_url=service.url, timeout=60) as client:
            for _ in range(5):
                assert client.post("/predict", json={"rows": [ROW]}).status_code == 200
            assert never.recv(4096).startswith(b"HTTP/1.1 408")
            assert huge.recv(4096).startswith(b"HTTP/1.1 413")
            assert b"400" in nonsense.recv(4096)
            chunked.close()
            assert client.get("/v2/health/ready").status_code == 200
        for one in (never, huge, nonsense):
            one.close()
        service.process.send_signal(signal.SIGTERM)
        assert service.wait() == 0
    assert not [line for line in service.lines if line["event"] == "error"]


def fail(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["serve", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_port_that_is_taken_is_said_in_a_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = fail(capsys, str(place / "by_sold"), "--port", str(taken.getsockname()[1]))
    assert "free" in line
    assert "--port" in line


def test_a_host_that_is_none_is_said_in_a_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--host" in fail(capsys, str(place / "by_sold"), "--host", "no.such.host.invalid", "--port", "0")


def test_an_address_of_version_six_is_a_url() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listen("::1", 0) as listening:
        port = listening.getsockname()[1]
        assert address_of(listening) == f"http://[::1]:{port}"


def test_a_folder_that_is_no_model_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "A model is a folder" in fail(capsys, str(tmp_path), "--port", "0")
    assert "A model is a folder" in fail(capsys, str(tmp_path / "missing"), "--port", "0")


def test_two_folders_of_one_name_are_said_in_a_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "twice" in fail(capsys, str(place / "by_sold"), str(place / "by_sold"), "--port", "0")


def test_an_empty_key_is_said_in_a_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("\n")
    assert "key" in fail(capsys, str(place / "by_sold"), "--port", "0", "--api-key-file", str(tmp_path / "key"))
    (tmp_path / "key").write_bytes(b"key\xff")
    assert "UTF-8" in fail(capsys, str(place / "by_sold"), "--port", "0", "--api-key-file", str(tmp_path / "key"))
    assert "No such file" in fail(capsys, str(place / "by_sold"), "--port", "0", "--api-key-file", str(tmp_path / "no"))


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_missing_library_names_its_pip_line(
    module: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert 'pip install "caveat[serve]"' in fail(capsys, str(place / "by_sold"), "--port", "0")


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    assert "Example: caveat serve" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-body-mb", "inf"),
        ("--batch-wait-ms", "inf"),
        ("--body-seconds", "inf"),
        ("--rate", "inf"),
        ("--reload-seconds", "inf"),
        ("--drain-seconds", "inf"),
        ("--host", "a" * 64 + ".example"),
    ],
)
def test_what_no_service_could_wait_for_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    said = fail(capsys, str(place / "by_sold"), "--port", "0", option, value)
    assert option in said


def test_the_end_of_a_line_is_no_part_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """As files of secrets end, which are put into the environment as they are."""
    monkeypatch.setenv(KEY, "secret\n")
    assert read_key(None) == "secret"
