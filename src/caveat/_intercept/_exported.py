"""Operators of exported and traced networks: each is a function of torch's under another name.

A program of ``torch.export`` and a graph of ``torch.fx`` below functions call ``torch.ops.aten`` directly.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F

from caveat._intercept import _attention as attention
from caveat._intercept import _dropout_sites as dropout_sites
from caveat._intercept import _eval_functions as eval_functions
from caveat._intercept import _noise as noise
from caveat._intercept import _recurrent as recurrent
from caveat._intercept._interception import HANDLERS, Handler, Pass

del attention, dropout_sites, eval_functions, noise, recurrent  # imported for their handlers

_aten: Any = cast(Any, torch.ops).aten
# Operator, overload, and the function that takes the same arguments in the same order.
_SAME: list[tuple[str, str, Any]] = [
    *((name, "default", getattr(torch, name)) for name in ("dropout", "dropout_", "native_dropout", "bernoulli")),
    *((name, "default", getattr(torch, name)) for name in ("feature_dropout", "feature_dropout_", "alpha_dropout")),
    *((name, "default", getattr(torch, name)) for name in ("alpha_dropout_", "feature_alpha_dropout", "batch_norm")),
    *((name, "default", getattr(torch, name)) for name in ("rand", "randn", "rand_like", "randn_like", "randperm")),
    *((name, "input", getattr(torch, name)) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")),
    *((name, "default", getattr(torch.Tensor, name)) for name in ("uniform_", "normal_", "exponential_")),
    ("bernoulli", "p", torch.bernoulli),
    ("bernoulli_", "float", torch.Tensor.bernoulli_),
    ("scaled_dot_product_attention", "default", F.scaled_dot_product_attention),
]


def _called_as(function: Any) -> Handler:
    handler = HANDLERS[function]

    def handle(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return handler(ctx, function, args, kwargs)

    return handle


for _name, _overload, _function in _SAME:
    _packet = getattr(_aten, _name)  # called as it is, torch chooses the overload by the arguments
    HANDLERS[getattr(_packet, _overload)] = HANDLERS[_packet] = _called_as(_function)
