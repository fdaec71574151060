"""Clients of others: Triton's for the Open Inference Protocol, and Schemathesis, which tries what OpenAPI permits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from .conftest import make_rows
from .test_server import serving

pytestmark = [pytest.mark.heavy, pytest.mark.slow]


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "json"])
@pytest.mark.filterwarnings("ignore")  # gevent's, on import
def test_tritonclient_gets_the_numbers_of_predict(place: Path, binary: bool) -> None:
    library: Any = pytest.importorskip("tritonclient.http")
    rows = [{"size": row["size"] or 1.5, "color": row["color"]} for row in make_rows(30, seed=8)]
    with serving(str(place / "by_price"), str(place / "by_sold")) as service:
        with library.InferenceServerClient(service.url.removeprefix("http://")) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready("by_sold")
            assert not client.is_model_ready("other")
            assert client.get_server_metadata()["name"] == "caveat"
            told = client.get_model_metadata("by_sold")
            assert [one["name"] for one in told["inputs"]] == ["size", "color"]
            size = library.InferInput("size", [30, 1], "FP64")
            size.set_data_from_numpy(np.array([[row["size"]] for row in rows]), binary_data=binary)
            color = library.InferInput("color", [30], "BYTES")
            color.set_data_from_numpy(np.array([row["color"] for row in rows], dtype=object), binary_data=binary)
            versions = {name: client.get_model_metadata(name)["versions"][0] for name in ("by_sold", "by_price")}
            found = {
                name: client.infer(name, [size, color], model_version=version, request_id="7")
                for name, version in versions.items()
            }
            one = library.InferRequestedOutput("epistemic", binary_data=binary)
            some = client.infer("by_price", [size, color], outputs=[one], parameters={"draws": 7, "level": 0.8})
        for name in found:
            wanted = httpx.post(f"{service.url}/models/{name}/predict", json={"rows": rows}, timeout=60).json()["rows"]
            assert found[name].get_response()["id"] == "7"
            for column in [column for column in wanted[0] if column != "row"]:
                values = found[name].as_numpy(column)
                texts = [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
                assert texts == [row[column] for row in wanted], column
        options = {"rows": rows, "draws": 7, "level": 0.8}
        wanted = httpx.post(f"{service.url}/models/by_price/predict", json=options, timeout=60).json()["rows"]
        assert some.as_numpy("epistemic").tolist() == [row["epistemic"] for row in wanted]
        assert [output["name"] for output in some.get_response()["outputs"]] == ["epistemic"]


def test_nothing_that_the_openapi_permits_breaks_it(place: Path) -> None:
    """No status of 500 and above, and nothing that the documentation does not say."""
    pytest.importorskip("schemathesis")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    with serving(str(place / "by_price")) as service:
        url = f"{service.url}/openapi.json"
        options = ["--checks", checks, "--max-examples", "20", "--seed", "1", "--generation-database", "none"]
        code = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
        command = [sys.executable, "-c", code, "run", url, *options]
        # Where it runs it leaves a folder of its own.
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
        service.process.terminate()
        assert service.wait() == 0
    assert done.returncode == 0, done.stdout[-3000:]
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested is not None
    assert int(tested.group(1)) > 100
    statuses = {line["status"] for line in service.lines if line["event"] == "request"}
    assert {200, 422} <= statuses
    assert max(statuses) < 500
