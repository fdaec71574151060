"""Exported files in a browser: onnxruntime-web gives Python's draws, and the example's page shows Python's numbers.

It takes onnxruntime-web from npm, and a headless Chromium; a browser asks a small server here for files, and posts what
it has computed.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat

from .test_onnx import CASES, FOUR, run

pytestmark = [pytest.mark.heavy, pytest.mark.slow]
ROOT = Path(__file__).parent.parent.parent
RUNTIME = "onnxruntime-web@1.30.0"
PATIENCE = 120
ROWS, N, SEED = 3, 6, 2**40 + 11

HARNESS = """<!doctype html><title>cases</title><script type="module">
import * as ort from "./ort/ort.wasm.min.mjs";
ort.env.wasm.numThreads = 1;
const made = {};
try {
  for (const [name, { inputs, seed, n }] of Object.entries(await (await fetch("cases.json")).json())) {
    const session = await ort.InferenceSession.create(`${name}.onnx`);
    const kinds = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };
    const tensor = ({ type, data, dims }) =>
      new ort.Tensor(type, kinds[type].from(type === "int64" ? data.map(BigInt) : data), dims);
    const given = Object.fromEntries(Object.entries(inputs).map(([key, value]) => [key, tensor(value)]));
    const whole = (number) => new ort.Tensor("int64", BigInt64Array.of(BigInt(number)), []);
    const { draws } = await session.run({ ...given, seed: whole(seed), n: whole(n) });
    made[name] = { data: [...draws.data], dims: [...draws.dims] };
  }
} catch (error) { made.error = String(error.stack ?? error); }
fetch("posted", { method: "POST", body: JSON.stringify(made) });
</script>"""

REPORTS_TABLE = """<script>
const watch = setInterval(() => {
  const rows = [...document.querySelectorAll("tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent));
  if (rows.length) { clearInterval(watch); fetch("posted", { method: "POST", body: JSON.stringify(rows) }); }
}, 50);
</script>"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of onnxruntime-web."""
    for program in ("node", "npm", "chromium"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), RUNTIME]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"npm could not install {RUNTIME}: {installed.stderr.strip().splitlines()[-1:]}")
    return folder / "node_modules" / "onnxruntime-web" / "dist"


@pytest.fixture
def browse(tmp_path: Path, runtime: Path) -> Iterator[Callable[[str], Any]]:
    """Open a page of ``tmp_path``, in which ``ort`` is the runtime, and wait for what it posts."""
    posted: queue.Queue[Any] = queue.Queue()

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

        def do_POST(self) -> None:
            posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "ort").symlink_to(runtime)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    started: list[subprocess.Popen[bytes]] = []

    def open_page(page: str) -> Any:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        address = f"http://127.0.0.1:{server.server_address[1]}/{page}"
        quiet = subprocess.DEVNULL
        started.append(subprocess.Popen(["chromium", *flags, address], stdout=quiet, stderr=quiet))
        return posted.get(timeout=PATIENCE)

    yield open_page
    for browser in started:
        browser.terminate()
        browser.wait()
    server.shutdown()
    server.server_close()


def test_the_draws_in_a_browser_are_those_of_python(tmp_path: Path, browse: Callable[[str], Any]) -> None:
    asked, expected = dict[str, Any](), dict[str, Tensor]()
    for name in FOUR:
        torch.manual_seed(0)
        make, batch = CASES[name]
        sampler = make()
        path = caveat.export_onnx(sampler, batch(4), tmp_path / f"{name}.onnx", what="draws")
        x = batch(ROWS)
        expected[name] = caveat.draws(sampler, x, n=N, seed=SEED)
        torch.testing.assert_close(torch.from_numpy(run(path, x, N, SEED)["draws"]), expected[name])
        names = ["words", "padding"] if name == "transformer" else ["x" if name == "LSTM" else "input"]
        tensors = [x] if isinstance(x, Tensor) else [*x]
        inputs = {key: described(tensor) for key, tensor in zip(names, tensors, strict=True)}
        asked[name] = {"inputs": inputs, "seed": str(SEED), "n": N}
    (tmp_path / "cases.json").write_text(json.dumps(asked))
    (tmp_path / "index.html").write_text(HARNESS)
    made = browse("index.html")
    assert "error" not in made, made["error"]
    assert made.keys() == expected.keys()
    for name, draws in expected.items():
        values = torch.tensor(made[name]["data"]).reshape(made[name]["dims"])
        torch.testing.assert_close(values, draws, rtol=1e-5, atol=1e-5)


def described(tensor: Tensor) -> dict[str, Any]:
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"type": kind, "data": tensor.flatten().tolist(), "dims": [*tensor.shape]}


def test_the_page_of_the_example_shows_pythons_numbers(tmp_path: Path, browse: Callable[[str], Any]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    sampler = caveat.mc_dropout(network, output=caveat.Mean())
    caveat.export_onnx(sampler, torch.zeros(2, 1), tmp_path / "curve.onnx")
    page = (ROOT / "examples" / "onnx_page" / "index.html").read_text()
    source = f"https://cdn.jsdelivr.net/npm/{RUNTIME}/dist/"
    assert source in page
    (tmp_path / "index.html").write_text(page.replace(source, "./ort/") + REPORTS_TABLE)
    shown = torch.tensor([[float(cell) for cell in row] for row in browse("index.html")])
    x = torch.linspace(-4, 4, 9)[:, None]
    pred = caveat.predict(sampler, x, n=100, seed=7)
    expected = torch.cat([x, pred.mean, pred.epistemic_variance.sqrt()], 1)
    torch.testing.assert_close(shown, expected, rtol=0, atol=6e-5)  # four digits are shown
