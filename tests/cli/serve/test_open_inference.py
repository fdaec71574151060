"""The Open Inference Protocol: JSON and bytes, metadata and health; bodies that are none; a real client."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caveat.cli._serve._tensors import InvalidTensorError, decode_column, read_request

from .conftest import Client, connect, make_rows, run

LENGTH = "Inference-Header-Content-Length"


def tensors_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    size = [row["size"] if row["size"] is not None else 1.5 for row in rows]
    color = [row["color"] for row in rows]
    return [
        {"name": "size", "shape": [len(rows), 1], "datatype": "FP64", "data": [[one] for one in size]},
        {"name": "color", "shape": [len(rows)], "datatype": "BYTES", "data": color},
    ]


async def predict(client: Client, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = [{"size": row["size"] if row["size"] is not None else 1.5, "color": row["color"]} for row in rows]
    return (await client.post("/predict", json={"rows": known})).json()["rows"]


def length_prefixed(values: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


@pytest.mark.parametrize("model", ["by_price", "by_sold"])
def test_tensors_in_json_have_the_numbers_of_predict(place: Path, model: str) -> None:
    rows = make_rows(20, seed=6)

    async def steps() -> None:
        async with connect(place / model) as client:
            body = {"id": "7", "inputs": tensors_of(rows)}
            reply = (await client.post(f"/v2/models/{model}/infer", json=body)).json()
            assert reply["id"] == "7"
            assert reply["parameters"] == {"draws": 12}
            wanted = await predict(client, rows)
            outputs = {one["name"]: one for one in reply["outputs"]}
            assert list(outputs) == [name for name in wanted[0] if name != "row"]
            for name, one in outputs.items():
                assert one["data"] == [row[name] for row in wanted]
                assert one["shape"] == [20]
            told = (await client.get(f"/v2/models/{model}")).json()
            listed = [(one["name"], one["datatype"]) for one in told["outputs"]]
            assert listed == [(name, one["datatype"]) for name, one in outputs.items()]

    run(steps())


def test_tensors_as_bytes_have_the_numbers_of_predict(place: Path) -> None:
    rows = make_rows(9, seed=7)

    async def steps() -> None:
        async with connect(place / "by_sold") as client:
            size = np.array([1.5 if row["size"] is None else row["size"] for row in rows]).tobytes()
            color = length_prefixed([row["color"] for row in rows])
            inputs = [
                {"name": "size", "shape": [9], "datatype": "FP64", "parameters": {"binary_data_size": len(size)}},
                {"name": "color", "shape": [9, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(color)}},
            ]
            wanted = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probability"}]
            header = json.dumps({"inputs": inputs, "outputs": wanted}).encode()
            headers = {LENGTH: str(len(header))}
            reply = await client.post("/v2/models/by_sold/infer", content=header + size + color, headers=headers)
            length = int(reply.headers[LENGTH])
            outputs = json.loads(reply.content[:length])["outputs"]
            rows_of_predict = await predict(client, rows)
            assert outputs[1]["data"] == [row["probability"] for row in rows_of_predict]
            labels = [row["label"] for row in rows_of_predict]
            assert reply.content[length:] == length_prefixed(labels)
            assert outputs[0]["parameters"]["binary_data_size"] == len(length_prefixed(labels))

    run(steps())


def test_not_a_number_is_a_missing_value(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            size, color = np.array([np.nan], np.float32).tobytes(), length_prefixed(["red"])
            inputs = [
                {"name": "size", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
                {"name": "color", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(color)}},
            ]
            header = json.dumps({"inputs": inputs}).encode()
            headers = {LENGTH: str(len(header))}
            reply = await client.post("/v2/models/by_price/infer", content=header + size + color, headers=headers)
            found = {one["name"]: one["data"] for one in reply.json()["outputs"]}
            wanted = (await client.post("/predict", json={"rows": [{"size": None, "color": "red"}]})).json()["rows"][0]
            assert found["mean"] == [wanted["mean"]]

    run(steps())


def test_a_column_that_is_left_out_is_named(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            size, color = tensors_of([{"size": 1.0, "color": "red"}])
            for inputs in ([size], [size, {**color, "name": "colour"}]):
                reply = await client.post("/v2/models/by_price/infer", json={"inputs": inputs})
                assert reply.status_code == 422
                assert "no column 'color'" in reply.json()["error"]

    run(steps())


def test_a_version_of_a_model_is_the_one_that_is_loaded(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            body = {"inputs": tensors_of(make_rows(3, seed=6))}
            plain = (await client.post("/v2/models/by_price/infer", json=body)).json()
            (version,) = (await client.get("/v2/models/by_price")).json()["versions"]
            path = f"/v2/models/by_price/versions/{version}"
            assert (await client.post(f"{path}/infer", json=body)).json() == plain
            assert (await client.get(path)).json()["versions"] == [version] == [plain["model_version"]]
            assert (await client.get(f"{path}/ready")).status_code == 200
            for other in ("", "/ready"):
                reply = await client.get(f"/v2/models/by_price/versions/1{other}")
                assert (reply.status_code, version in reply.text) == (404, True)

    run(steps())


def test_health_and_metadata(place: Path) -> None:
    async def steps() -> None:
        async with connect(place / "by_price", api_key="secret") as client:
            for path in ("/v2/health/live", "/v2/health/ready"):  # of which probes have no key
                assert (await client.get(path)).status_code == 200
            headers = {"X-API-Key": "secret"}
            assert (await client.get("/v2", headers=headers)).json()["extensions"] == ["binary_tensor_data"]
            assert (await client.get("/v2/models/by_price/ready", headers=headers)).status_code == 200
            assert (await client.get("/v2/models/other/ready", headers=headers)).status_code == 404
            told = (await client.get("/v2/models/by_price", headers=headers)).json()
            assert [(one["name"], one["datatype"]) for one in told["inputs"]] == [("size", "FP64"), ("color", "BYTES")]

    run(steps())


def request_with(**changes: Any) -> dict[str, Any]:
    size, color = tensors_of([{"size": 1.0, "color": "red"}])
    return {"inputs": [{**size, **changes}, color]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": {}},
        {"inputs": []},
        {"inputs": [1]},
        request_with(shape=[2]),
        request_with(shape=[-1]),
        request_with(shape=[]),
        request_with(shape=[1.0]),
        request_with(shape=[1 << 40]),
        request_with(shape=[1 << 30, 1 << 30]),
        request_with(datatype="FP128"),
        request_with(datatype=7),
        request_with(datatype="INT8", data=[300]),
        request_with(datatype="BOOL", data=[1.0]),
        request_with(data=[["x"]]),
        request_with(data=[True]),
        request_with(data=[[1.0], 2.0]),
        request_with(data=None),
        request_with(name=None),
        request_with(name="color"),
        request_with(parameters={"binary_data_size": 8}),
        request_with(parameters={"binary_data_size": -1}),
        request_with(shape=[1, 2], data=[[1.0, 2.0]]),
        {**request_with(), "outputs": [{"name": "nonsense"}]},
        {**request_with(), "id": 7},
    ],
)
def test_bodies_that_are_no_request_are_refused(place: Path, body: dict[str, Any]) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            reply = await client.post("/v2/models/by_price/infer", json=body)
            assert reply.status_code == 400, reply.text
            assert len(reply.json()["error"]) > 10

    run(steps())


@pytest.mark.parametrize("length", ["-1", "abc", "999999", "3", "²", ""])
def test_a_wrong_header_length_is_refused(place: Path, length: str) -> None:
    async def steps() -> None:
        async with connect(place / "by_price") as client:
            headers = [(LENGTH.encode(), length.encode())]
            reply = await client.post("/v2/models/by_price/infer", json=request_with(), headers=headers)
            assert reply.status_code == 400

    run(steps())


@given(st.binary(max_size=200), st.none() | st.integers(0, 300).map(str))
def test_any_bytes_are_read_or_refused(body: bytes, length: str | None) -> None:
    with suppress(InvalidTensorError):
        read_request(body, length)


sizes = st.integers(-3, 40)
values = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3) | st.booleans()
entries = st.fixed_dictionaries(
    {
        "name": st.sampled_from("ab"),
        "shape": st.lists(sizes, max_size=3),
        "datatype": st.sampled_from(["BYTES", "FP32", "BOOL", "UINT8"]),
    },
    optional={"parameters": st.fixed_dictionaries({"binary_data_size": sizes}), "data": st.lists(values)},
)


@given(st.lists(entries, min_size=1, max_size=2), st.binary(max_size=60))
def test_any_tensors_are_read_or_refused(inputs: list[dict[str, Any]], rest: bytes) -> None:
    header = json.dumps({"inputs": inputs}).encode()
    with suppress(InvalidTensorError):
        for tensor in read_request(header + rest, str(len(header))).tensors.values():
            decode_column(tensor, picture=False)
