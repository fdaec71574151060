"""Draws under torch's modes: the same without a graph, and differentiable with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import Sampler, draws
from caveat.testing._compare import leaves, require, require_same


def check_inference_mode(sampler: Sampler, x: Any, *, count: int, seed: int) -> None:
    """Draws are the same under ``inference_mode``, ``no_grad`` and neither, and carry no graph unasked."""
    with torch.inference_mode():
        inside = draws(sampler, x, count, seed=seed)
    with torch.no_grad():
        without = draws(sampler, x, count, seed=seed)
    with torch.enable_grad():
        outside = draws(sampler, x, count, seed=seed)
    require_same(outside, inside, "Draws under torch.inference_mode are those outside.")
    require_same(outside, without, "Draws under torch.no_grad are those outside.")
    graph = any(leaf.requires_grad for _, leaf in leaves(outside))
    require(not graph, "Draws carry no graph unless gradient=True. But they require a gradient.")


def check_gradients(sampler: Sampler, x: Any, *, count: int, seed: int, networks: Sequence[nn.Module]) -> None:
    """``draws(..., gradient=True)`` gives the same values, differentiable by the floating inputs.

    Where ``x`` holds no floating tensor, they are differentiated by the parameters of ``networks`` instead.
    """
    plain = draws(sampler, x, count, seed=seed)
    inputs: list[Tensor] = []

    def fresh(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        inputs.append(leaf.detach().clone().requires_grad_())
        return inputs[-1]

    with torch.enable_grad():
        values = draws(sampler, pytree.tree_map_only(Tensor, fresh, x), count, seed=seed, gradient=True)
        require_same(plain, values, "Draws with gradient=True are those without.")
        by = inputs
        if not by:
            parameters = [p for network in networks for p in network.parameters()]
            by = list[Tensor](parameter for parameter in parameters if parameter.requires_grad)
        if not by:
            return
        total = torch.stack([leaf.double().square().sum() for _, leaf in leaves(values)]).sum()
        message = "Draws with gradient=True can be differentiated. But they carry no graph."
        require(total.requires_grad, message)
        found: tuple[object, ...] = torch.autograd.grad(total, by, allow_unused=True)
        gradients = [gradient for gradient in found if isinstance(gradient, Tensor)]
    message = "Draws with gradient=True depend on the inputs. But no gradient reaches any of them."
    require(bool(gradients), message)
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    require(finite, "The gradient of finite draws is finite. But NaN or infinity came.")
    moving = any(bool(gradient.any()) for gradient in gradients)
    require(moving, "Draws with gradient=True depend on the inputs. But every gradient is zero.")
