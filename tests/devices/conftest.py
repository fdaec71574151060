"""Where a test computes: on the CPU, on a stand-in for a GPU (in a process of its own), on a GPU where there is one.

``make test-cuda`` runs what is marked ``cuda``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import Recorder

from .stand_in import NAME, Elsewhere, stand_in_device

STAND_IN = "CAVEAT_STAND_IN_DEVICE"
"""Set in the process that test_stand_in.py starts."""


@pytest.fixture(params=["cpu", "stand-in", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device: torch.cuda.is_available() is false")
        yield torch.device("cuda", torch.cuda.current_device())
    elif request.param == "stand-in":
        if STAND_IN not in os.environ:
            pytest.skip("the stand-in device has a process of its own: test_stand_in.py starts it")
        with stand_in_device(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recorder, "__torch_dispatch__", _but_for_devices(Recorder.__torch_dispatch__))
            yield torch.device(NAME, 0)
    else:
        yield torch.device("cpu")


def _but_for_devices(record: Any) -> Any:
    """Asking a tensor of the stand-in where it is comes as an operation; of other devices it does not."""

    def dispatch(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = func is torch.ops.prim.device.default
        return func(*args) if asked else record(self, func, types, args, kwargs)

    return dispatch


def put(value: Any, device: torch.device) -> Any:
    """A copy of a network, or tensors in any structure, on the device."""
    if not isinstance(value, nn.Module):
        return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), value)
    model = copy.deepcopy(value)
    if device.type != NAME:
        return model.to(device)
    for module in model.modules():  # module.to() asks for tensors of one class
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().to(device), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()
    return model


def waits(call: Any) -> list[str]:
    """What a GPU would have to be waited for in a call, on the stand-in device."""
    Elsewhere.waits.clear()
    call()
    return [*Elsewhere.waits]
