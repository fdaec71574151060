"""`caveat serve` under load: many clients on loopback, with requests computed together and without, side by side.

``python -m benchmarks.service --clients 64 --seconds 60`` trains a model of the default shape on a made-up table (5
networks, 100 draws), serves it in a process of its own, once as it is served usually and once with ``--batch-rows 1``,
lets the clients ask for one row each, again and again, and writes ``benchmarks/RESULTS_SERVICE.md``.

Each request asks for a row that no other client asks for at that time, and its answer must be, to the last digit, the
one that the same service gave for that row alone: an answer that is lost, doubled, or another client's is counted.
The clients run in this process, on the same cores, and their own time is part of the latency. With
``--requests 100000`` only the service's memory over so many requests is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import processor
from caveat.cli._cli import main as command

RESULTS = Path(__file__).parent / "RESULTS_SERVICE.md"
CODE = "import sys; from caveat.cli._cli import main; sys.exit(main())"
KNOWN = 2  # rows of each client
HEAD = """# The service under load

Printed by `python -m benchmarks.service --clients {clients} --seconds {seconds:g} --write` on {processor} with
{cores} cores, whose load average was {busy:.1f} before it began: what other work took of them is in the latencies.
{clients} clients on loopback, on the same cores, ask for one row each, again and again; a model of {networks}
networks and {draws} draws. "Wrong" are answers that are lost, doubled, or differ in any digit from what the row gets
alone. Rates are requests a second of wall time, and of the service's processor time, which a busy machine disturbs
less. Latencies are in milliseconds; the resident size of the process, in the first fifth of the run and in the last, is
in MiB.

```
{table}
```

Together, {times:.1f} times as many requests a second, and {cpu_times:.1f} times as many a processor second (wanted: 5).
Ended by SIGTERM under load: {ended}.

torch {torch}, one thread.
"""
MEMORY = """
## Memory

Printed by `python -m benchmarks.service --clients {clients} --requests {requests} --write`: {count:,} requests,
{errors} errors, {wrong} wrong, {lost} lost at its end. The largest resident size in each tenth of the time, MiB:

```
{tenths}
```
"""
LONGEST = 36_000.0


@dataclass
class Load:
    """What clients saw of one service."""

    seconds: list[float] = field(default_factory=list[float])
    wrong: int = 0
    errors: list[str] = field(default_factory=list[str])
    lasted: float = 0.0
    cpu: float = 0.0
    memory: list[float] = field(default_factory=list[float])


def fit(folder: Path, rows: int = 2000) -> Path:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(rows, 8))
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{number}" for number in range(8)), "color", "y"])
        for row in numbers:
            color = ("red", "green", "blue")[random.integers(3)]
            writer.writerow([*(f"{value:.4f}" for value in row), color, f"{row[0] * row[1] + random.normal():.4f}"])
    out = folder / "model"
    command(["fit", str(folder / "train.csv"), "--target", "y", "--out", str(out), "--epochs", "3", "--json"])
    return out


def body_of(client: int, number: int) -> bytes:
    random = np.random.default_rng([client, number])
    row: dict[str, Any] = {f"x{column}": round(float(value), 4) for column, value in enumerate(random.normal(size=8))}
    return json.dumps({"rows": [{**row, "color": "red"}]}).encode()


class Session:
    """One connection, as plain as can be: the client's own time is on the same cores."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, body: bytes) -> dict[str, Any]:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = answer.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        content = await self.reader.readexactly(int(headers["content-length"]))
        if not status.startswith("HTTP/1.1 200"):
            raise RuntimeError(f"{status}: {content[:200]!r}")
        if headers.get("connection") == "close":
            self.writer.close()
            await self.open()
        return json.loads(content)["rows"][0]


async def load(process: subprocess.Popen[str], port: int, clients: int, seconds: float, most: int) -> Load:
    seen = Load()
    first = Session(port)
    await first.open()
    bodies = {(client, number): body_of(client, number) for client in range(clients) for number in range(KNOWN)}
    known = {key: await first.ask(body) for key, body in bodies.items()}

    async def ask(client: int) -> None:
        session = Session(port)
        await session.open()
        number = 0
        while time.monotonic() < end and len(seen.seconds) < most:
            key = (client, number % KNOWN)
            began = time.monotonic()
            try:
                found = await session.ask(bodies[key])
            except Exception as error:
                seen.errors.append(repr(error)[:200])
                return
            seen.seconds.append(time.monotonic() - began)
            seen.wrong += found != known[key]
            number += 1

    async def watch() -> None:
        while time.monotonic() < end and len(seen.seconds) < most:
            seen.memory.append(memory_of(process.pid))
            await asyncio.sleep(min(seconds / 20, 5))

    began, used = time.monotonic(), processor_seconds(process.pid)
    end = began + seconds
    await asyncio.gather(watch(), *(ask(client) for client in range(clients)))
    seen.lasted, seen.cpu = time.monotonic() - began, processor_seconds(process.pid) - used
    return seen


async def end_under_load(process: subprocess.Popen[str], port: int, clients: int) -> tuple[int, int]:
    """Returns how many requests were answered, and how many were sent and were not, from SIGTERM on."""
    answered = lost = 0

    async def ask(client: int) -> None:
        nonlocal answered, lost
        session = Session(port)
        await session.open()
        while True:
            try:
                await session.ask(body_of(client, 0))
            except ConnectionRefusedError:  # asked for a new connection, after its answer
                answered += 1
                return
            except Exception:
                lost += 1
                return
            answered += 1

    tasks = [asyncio.create_task(ask(client)) for client in range(clients)]
    await asyncio.sleep(1)
    answered = 0
    process.send_signal(signal.SIGTERM)
    await asyncio.gather(*tasks)
    return answered, lost


def memory_of(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    model: Path, clients: int, seconds: float, *options: str, most: int = sys.maxsize
) -> tuple[Load, tuple[int, int]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", CODE, "serve", str(model), "--port", "0", *options]
    with (
        (model.parent / "log.jsonl").open("w") as log,
        subprocess.Popen(line, stdout=log, text=True, env=environment) as process,
    ):
        try:
            port = port_of(model.parent / "log.jsonl", process)
            seen = asyncio.run(load(process, port, clients, seconds, most))
            ended = asyncio.run(end_under_load(process, port, clients))
            process.wait(120)
        finally:
            process.kill()
    return seen, ended


def port_of(log: Path, process: subprocess.Popen[str]) -> int:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if entry["event"] == "listening":
                return int(entry["url"].rsplit(":", 1)[1])
        time.sleep(0.1)
    raise RuntimeError("the service did not start")


def line_of(name: str, seen: Load) -> str:
    p50, p99 = (1000 * float(np.quantile(seen.seconds, at)) for at in (0.5, 0.99))
    rate, count = len(seen.seconds) / seen.lasted, len(seen.seconds)
    fifth = max(len(seen.memory) // 5, 1)
    early, late = max(seen.memory[:fifth]), max(seen.memory[-fifth:])
    speed = f"{rate:>9.1f}{count / seen.cpu:>11.1f}{p50:>8.0f}{p99:>8.0f}"
    return f"{name:<12}{count:>9}{len(seen.errors):>8}{seen.wrong:>7}{speed}{early:>7.0f}{late:>7.0f}"


def hold_memory(model: Path, given: argparse.Namespace) -> int:
    """Prints how large the service is at each tenth of so many requests."""
    seen, ended = measure(model, given.clients, LONGEST, most=given.requests)
    tenths = [max(part) for part in np.array_split(np.array(seen.memory), min(10, len(seen.memory)))]
    text = MEMORY.format(
        clients=given.clients,
        requests=given.requests,
        count=len(seen.seconds),
        errors=len(seen.errors),
        wrong=seen.wrong,
        lost=ended[1],
        tenths=" ".join(f"{size:.0f}" for size in tenths),
    )
    print(text)
    if given.write:
        RESULTS.write_text(RESULTS.read_text().partition("\n## Memory")[0] + text)
    return int(bool(seen.errors or seen.wrong or ended[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--write", action="store_true", help="write RESULTS_SERVICE.md")
    parser.add_argument("--requests", type=int, help="only this: the service's memory over so many requests")
    given = parser.parse_args()
    busy = os.getloadavg()[0]  # before its own
    with tempfile.TemporaryDirectory() as folder:
        model = fit(Path(folder))
        if given.requests:
            return hold_memory(model, given)
        settings = json.loads((model / "caveat.json").read_text())["settings"]
        together, ended = measure(model, given.clients, given.seconds)
        alone, ended_alone = measure(model, given.clients, given.seconds, "--batch-rows", "1")
    head = f"{'computed':<12}{'requests':>9}{'errors':>8}{'wrong':>7}{'a second':>9}{'per CPU s':>11}"
    head += f"{'p50':>8}{'p99':>8}{'early':>7}{'late':>7}"
    rate = [len(seen.seconds) / seen.lasted for seen in (together, alone)]
    per_cpu = [len(seen.seconds) / seen.cpu for seen in (together, alone)]
    answered, lost = (ended[at] + ended_alone[at] for at in (0, 1))
    text = HEAD.format(
        clients=given.clients,
        seconds=given.seconds,
        processor=processor(),
        cores=os.cpu_count(),
        networks=settings["members"],
        draws=settings["draws"],
        table="\n".join([head, line_of("together", together), line_of("one by one", alone)]),
        times=rate[0] / rate[1],
        cpu_times=per_cpu[0] / per_cpu[1],
        busy=busy,
        ended=f"{answered} requests answered after it, {lost} lost",
        torch=torch.__version__,
    )
    print(text)
    if given.write:
        memory = RESULTS.read_text().partition("\n## Memory")[1:] if RESULTS.exists() else ()
        RESULTS.write_text(text + "".join(memory))
    failed = [*together.errors, *alone.errors]
    for error in dict.fromkeys(failed):
        print(error, file=sys.stderr)
    return int(bool(failed or together.wrong or alone.wrong or lost or rate[0] < 5 * rate[1]))


if __name__ == "__main__":
    sys.exit(main())
