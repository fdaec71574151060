"""Recipes people write: clean ones, and each with a fault or two."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


def one_by_one(model: nn.Module, x: Any) -> Any:
    """A generator, whose passes run as they are asked for."""
    switch(model)
    for _ in range(T):
        yield model(x)
    model.eval()


def list_of_returns(model: nn.Module, x: Any) -> Any:
    """What the network returns, of which the first part matters."""
    switch(model)
    outs = [(model(x), "and more") for _ in range(T)]
    model.eval()
    return outs


def own_generator(model: Any, x: Tensor) -> Tensor:
    """Masks of a seeded generator: the same draws in each call, and nothing else moves."""
    generator = torch.Generator().manual_seed(0)
    return by_hand(lambda h, p: h * (torch.rand(h.shape, generator=generator) > p) / (1 - p))(model, x)


def call_with_training(model: nn.Module, x: Any) -> Tensor:
    """As Keras's users do."""
    with torch.no_grad():
        return torch.stack([model(x, training=True) for _ in range(T)])


def in_inference_mode(model: nn.Module, x: Any) -> Tensor:
    model.train()
    with torch.inference_mode():
        out = torch.stack([first(model(x)) for _ in range(T)])
    model.eval()
    return out


def hooked(model: nn.Module, *, again: bool = False) -> list[Any]:
    def drop(module: Any, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output if again else inputs[0], module.p, training=True)

    return [module.register_forward_hook(drop) for module in model.modules() if isinstance(module, nn.Dropout)]


def hooks(model: nn.Module, x: Any) -> Tensor:
    handles = hooked(model)
    out = passes(model, x)
    for handle in handles:
        handle.remove()
    return out


def hooks_that_stay(model: nn.Module, x: Any) -> Tensor:
    hooked(model)
    return passes(model, x)


def drop_twice(model: nn.Module, x: Any) -> Tensor:
    handles = hooked(model, again=True)
    out = switch_modules(model, x)
    for handle in handles:
        handle.remove()
    return out


def in_small_batches(model: nn.Module, x: Any) -> Tensor:
    switch(model)
    with torch.no_grad():
        out = torch.stack([torch.cat([model(part) for part in x.split(4)]) for _ in range(T)])
    model.eval()
    return out


def under_vmap(randomness: str) -> Callable[[Any, Any], Tensor]:
    def run(model: nn.Module, x: Any) -> Tensor:
        switch(model)
        out = torch.func.vmap(lambda _: model(x), randomness=randomness)(torch.arange(T)).detach()
        model.eval()
        return out

    return run


vmap_different, vmap_same = under_vmap("different"), under_vmap("same")


def traced(model: nn.Module, x: Any) -> Tensor:
    switch(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = torch.jit.trace(model, x, check_trace=False)
    out = passes(trace, x)
    model.eval()
    return out


def in_threads(model: nn.Module, x: Any) -> Any:
    switch(model)

    def one(_: int) -> Tensor:
        with torch.no_grad():
            return model(x)

    with ThreadPoolExecutor(2) as pool:
        out = list(pool.map(one, range(T)))
    model.eval()
    return out


def patched_function(model: nn.Module, x: Any) -> Tensor:
    """The function itself is exchanged for the time of the passes."""
    plain = F.dropout
    F.dropout = lambda input, p=0.5, training=True, inplace=False: plain(input, p, True, inplace)
    try:
        return passes(model, x)
    finally:
        F.dropout = plain


def another_network_with_the_weights(model: Any, x: Any) -> Tensor:
    made = [nn.Linear(m.in_features, m.out_features) if isinstance(m, nn.Linear) else copy.copy(m) for m in model]
    network = nn.Sequential(*made)
    network.load_state_dict(model.state_dict())
    return passes(network.train(), x)


def every_other_pass(model: nn.Module, x: Any) -> Any:
    outs = []
    for at in range(T):
        model.train(at % 2 == 0)
        outs.append(model(x).detach())
    model.eval()
    return outs


def another_rate(model: nn.Module, x: Any) -> Tensor:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    return switch_modules(model, x)


def last_module_only(model: Any, x: Any) -> Tensor:
    model[5].train()
    out = passes(model, x)
    model.eval()
    return out


def halved(model: nn.Module, x: Any) -> Tensor:
    return switch_modules(model, x) / 2


def noisy_weights(model: nn.Module, x: Any) -> Any:
    switch(model)
    outs = []
    for _ in range(T):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            outs.append(other(x))
    model.eval()
    return outs


def averaged_within(model: nn.Module, x: Any) -> Tensor:
    return torch.stack([switch_modules(model, x).mean(0) for _ in range(T)])


def seed_by_the_pass(model: nn.Module, x: Any) -> Any:
    switch(model)
    outs = []
    for at in range(T):
        torch.manual_seed(at)
        outs.append(model(x).detach())
    model.eval()
    return outs


def gradients_left_off(model: nn.Module, x: Any) -> Tensor:
    torch.set_grad_enabled(False)
    return switch_modules(model, x)


def in_double(model: nn.Module, x: Any) -> Tensor:
    model.double()
    return switch_modules(model, x.double())


def cached_masks(model: Any, x: Tensor) -> Tensor:
    cache: dict[float, Tensor] = {}

    def keep(h: Tensor, p: float) -> Tensor:
        if p not in cache:
            cache[p] = (torch.rand_like(h) > p).float() / (1 - p)
        return h * cache[p]

    return by_hand(keep)(model, x)


def one_mask_for_all_rows_of_one_layer(model: Any, x: Tensor) -> Tensor:
    def keep(h: Tensor, p: float) -> Tensor:
        return h * (torch.rand(1 if p > 0.2 else len(h), h.shape[1]) > p) / (1 - p)

    return by_hand(keep)(model, x)
