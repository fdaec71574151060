"""How fast the playground's pictures follow a slider: `caveat playground` in a process of its own, asked as by a page.

``python -m benchmarks.playground`` starts the command on a free port, waits until the network of digits is trained,
turns a digit by a degree at a time, and times each answer from the question to the last byte over the websocket: the
drawing of the picture in the browser is not in it. Then it drags a point of the regression page and times each picture.
The aim is 100 ms for 100 draws of the digit network on 2 cores; each line says whether its 95th percentile keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

AIM = 0.1
COMMAND = [sys.executable, "-c", "import sys; from caveat.cli._cli import main; sys.exit(main())"]


@contextmanager
def playground() -> Generator[str]:
    """The address of a running playground, without its scheme."""
    arguments = [*COMMAND, "playground", "--no-browser", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://([\d.:]+)/", process.stdout.readline())
            assert found is not None
            yield found.group(1)
        finally:
            process.terminate()


def turn_a_digit(address: str, times: int, draws: int) -> list[float]:
    """Seconds of each answer while a digit is turned."""
    with connect(f"ws://{address}/live/image", max_size=None) as socket:
        while "shown" not in receive(socket):
            pass
        asked = {"first": 6, "second": 3, "blend": 0.0, "draws": draws, "drawing": []}
        return measure(socket, times, lambda k: asked | {"angle": k % 360 - 180})


def drag_a_point(address: str, times: int, draws: int) -> list[float]:
    """Seconds of each picture while a point is dragged; a slice of training is in each."""
    points = [[k / 10 - 2, (k % 5) / 5] for k in range(40)]
    settings: dict[str, Any] = {"method": "mc_dropout", "dropout": 0.1, "nonlinearity": "relu", "width": 50}
    settings |= {"length_scale": 1.0, "draws": draws}
    with connect(f"ws://{address}/live/regression", max_size=None) as socket:
        receive(socket)

        def drag(k: int) -> dict[str, Any]:
            points[0] = [-3.0, k / times]
            return {"seen": True, "settings": settings, "points": points}

        return measure(socket, times, drag)


def measure(socket: ClientConnection, times: int, question: Callable[[int], dict[str, Any]]) -> list[float]:
    seconds: list[float] = []
    for k in range(times + 10):
        begun = time.perf_counter()
        socket.send(json.dumps(question(k)))
        receive(socket)
        seconds.append(time.perf_counter() - begun)
    return seconds[10:]  # the first are of a network that is met for the first time


def receive(socket: ClientConnection) -> dict[str, Any]:
    message = json.loads(socket.recv())
    assert "error" not in message, message["error"]
    return message


def report(title: str, seconds: list[float]) -> None:
    late = statistics.quantiles(seconds, n=20)[-1]
    kept = "within the aim" if late <= AIM else "FALLS SHORT"
    print(
        f"{title}: median {1000 * statistics.median(seconds):.0f} ms, 95th percentile {1000 * late:.0f} ms, "
        f"longest {1000 * max(seconds):.0f} ms of {len(seconds)}; aim {1000 * AIM:.0f} ms: {kept}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the playground's pictures.")
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--draws", type=int, default=100)
    chosen = parser.parse_args()
    print(f"{chosen.draws} draws; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with playground() as address:
        report("digit turned", turn_a_digit(address, chosen.times, chosen.draws))
        report("point dragged", drag_a_point(address, chosen.times, chosen.draws))


if __name__ == "__main__":
    main()
