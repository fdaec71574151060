"""One thread (its tensors are tiny), and the warnings that torch and transformers give of themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

NOT_OURS = (
    "LSTM with projections is not supported with oneDNN",
    "`torch.jit.script` is deprecated",
    "`torch.jit.script_method` is deprecated",
    "Using a non-tuple sequence for multidimensional indexing",
    "The PyTorch API of nested tensors is in prototype stage",
    "enable_nested_tensor is True",
    "caveat draws without some random numbers",  # the augmentation of wav2vec2 is NumPy's
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "zoo" in item.path.parts:
            for message in NOT_OURS:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}"))


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
