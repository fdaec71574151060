"""Recipes people write: clean ones, and each with a fault or two."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat

T = 24


def passes(model: nn.Module, x: Any, count: int = T) -> Tensor:
    with torch.no_grad():
        return torch.stack([first(model(x)) for _ in range(count)])


def first(returned: Any) -> Tensor:
    return returned[0] if isinstance(returned, tuple) else returned


def switch(model: nn.Module, kinds: tuple[type, ...] = (nn.Dropout, nn.Dropout2d, nn.AlphaDropout)) -> None:
    for module in model.modules():
        if isinstance(module, kinds):
            module.train()


def switch_modules(model: nn.Module, x: Any) -> Tensor:
    model.eval()
    switch(model)
    try:
        return passes(model, x)
    finally:
        model.eval()


def switch_and_forget_eval(model: nn.Module, x: Any) -> Tensor:
    switch(model)
    return passes(model, x)


def switch_dropout_class_only(model: nn.Module, x: Any) -> Tensor:
    """`isinstance(m, nn.Dropout)`, which Dropout2d and AlphaDropout are not."""
    switch(model, (nn.Dropout,))
    out = passes(model, x)
    model.eval()
    return out


def switch_whole(model: nn.Module, x: Any) -> Tensor:
    model.train()
    out = passes(model, x)
    model.eval()
    return out


def switch_whole_and_forget(model: nn.Module, x: Any) -> Tensor:
    model.train()
    return passes(model, x)


def switch_all_that_drops(model: nn.Module, x: Any) -> Tensor:
    """Everything whose flag does nothing but dropout, and the fused layers off."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    switch(model, (nn.Dropout, nn.Dropout2d, nn.AlphaDropout))
    for module in model.modules():
        if isinstance(module, nn.LSTM | nn.MultiheadAttention):
            module.training = True
    out = passes(model, x)
    model.eval()
    torch.backends.mha.set_fastpath_enabled(fast)
    return out


def train_but_norms(model: nn.Module, x: Any) -> Tensor:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    out = passes(model, x)
    model.eval()
    return out


def stay_in_eval(model: nn.Module, x: Any) -> Tensor:
    return passes(model, x)


def copy_with_train(model: nn.Module, x: Any) -> Tensor:
    """A wrapper's way: a deep copy, so that the model is left alone."""
    return passes(copy.deepcopy(model).train(), x)


class AlwaysDropout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, training=True)


def exchange(model: nn.Module, rate: float | None = None) -> nn.Module:
    for name, child in model.named_children():
        if isinstance(child, nn.Dropout):
            setattr(model, name, AlwaysDropout(child.p if rate is None else rate))
        else:
            exchange(child, rate)
    return model


def patched_copy(model: nn.Module, x: Any) -> Tensor:
    """As Bayesian active learning libraries patch: a copy whose dropout modules are others."""
    return passes(exchange(copy.deepcopy(model)), x)


def patched_in_place(model: nn.Module, x: Any) -> Tensor:
    return passes(exchange(model), x)


def patched_at_one_half(model: nn.Module, x: Any) -> Tensor:
    return passes(exchange(copy.deepcopy(model), 0.5), x)


class Wrapper(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model

    def forward(self, x: Tensor) -> Tensor:
        return first(self.network(x))


def wrapped(model: nn.Module, x: Any) -> Tensor:
    wrapper = Wrapper(copy.deepcopy(model))
    switch(wrapper)
    return passes(wrapper, x)


def repeat_the_batch(model: nn.Module, x: Any) -> Tensor:
    switch(model)
    with torch.no_grad():
        out = model(x.repeat(T, *[1] * (x.dim() - 1))).unflatten(0, (T, -1))
    model.eval()
    return out


def repeat_and_mix_up(model: nn.Module, x: Any) -> Tensor:
    switch(model)
    with torch.no_grad():
        out = model(x.repeat(T, *[1] * (x.dim() - 1))).unflatten(0, (-1, T)).transpose(0, 1)
    model.eval()
    return out


def one_pass_repeated(model: nn.Module, x: Any) -> Tensor:
    out = switch_modules(model, x)
    return out[:1].repeat(T, *[1] * (out.dim() - 1))


def in_pairs(model: nn.Module, x: Any) -> Tensor:
    return switch_modules(model, x)[: T // 2].repeat_interleave(2, 0)


def seed_each_pass(model: nn.Module, x: Any) -> Any:
    switch(model)
    outs = []
    for _ in range(T):
        torch.manual_seed(0)
        outs.append(model(x).detach())
    model.eval()
    return outs


def seed_once(model: nn.Module, x: Any) -> Tensor:
    torch.manual_seed(0)
    return switch_modules(model, x)


def seed_in_fork(model: nn.Module, x: Any) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return switch_modules(model, x)


def probabilities(model: nn.Module, x: Any) -> Tensor:
    return switch_modules(model, x).softmax(-1)


def log_probabilities(model: nn.Module, x: Any) -> Tensor:
    return switch_modules(model, x).log_softmax(-1)


def listed_arrays(model: nn.Module, x: Any) -> Any:
    return [out.numpy() for out in switch_modules(model, x)]


def few(model: nn.Module, x: Any) -> Tensor:
    return switch_modules(model, x)[:4]


def noisy_inputs(model: nn.Module, x: Any) -> Tensor:
    switch(model)
    with torch.no_grad():
        out = torch.stack([model(x + 0.3 * torch.randn_like(x)) for _ in range(T)])
    model.eval()
    return out


def caveat_itself(model: nn.Module, x: Any) -> Any:
    return caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, n=T)


def writes_on_the_batch(model: nn.Module, x: Any) -> Tensor:
    x.mul_(1.01)
    return switch_modules(model, x)


def steps(model: nn.Module, x: Any) -> Tensor:
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    return switch_modules(model, x)


def by_hand(keep: Callable[[Tensor, float], Tensor]) -> Callable[[Any, Any], Tensor]:
    """The perceptron written out, with masks of its own."""

    def run(model: Any, x: Tensor) -> Tensor:
        def one() -> Tensor:
            h = keep(model[1](model[0](x)), model[2].p)
            return model[6](keep(model[4](model[3](h)), model[5].p))

        with torch.no_grad():
            return torch.stack([one() for _ in range(T)])

    return run


masks_by_hand = by_hand(lambda h, p: h * torch.bernoulli(torch.full_like(h, 1 - p)) / (1 - p))
masks_without_scaling = by_hand(lambda h, p: h * (torch.rand_like(h) > p))
masks_for_all_rows = by_hand(lambda h, p: h * (torch.rand(1, h.shape[1]) > p) / (1 - p))
masks_of_numpy = by_hand(lambda h, p: h * torch.from_numpy(np.random.binomial(1, 1 - p, h.shape)) / (1 - p))  # noqa: NPY002


def last_layers_only(model: Any, x: Tensor) -> Tensor:
    """The body runs once, in eval mode; the head T times."""
    with torch.no_grad():
        features = model[:5](x)
        model[5].train()
        out = torch.stack([model[5:](features) for _ in range(T)])
    model.eval()
    return out


def body_once_with_dropout(model: Any, x: Tensor) -> Tensor:
    switch(model)
    with torch.no_grad():
        features = model[:5](x)
        out = torch.stack([model[5:](features) for _ in range(T)])
    model.eval()
    return out
