"""Networks whose forward is reached by another way than their class's source."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..situation import Situation, normal, situation
from . import elsewhere


class Layers(nn.Module):
    """Two linear maps; what becomes of them is decided elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)


def of_a_lambda() -> nn.Module:
    net = Layers()
    net.forward = lambda x: net.b(F.dropout(torch.relu(net.a(x)), 0.4, net.training))
    return net


def of_a_lambda_by_hand() -> nn.Module:
    net = Layers()
    mask = lambda h: h * (torch.rand_like(h) < 0.6) / 0.6  # noqa: E731  a lambda is the point
    net.forward = lambda x: net.b(mask(torch.relu(net.a(x))) if net.training else torch.relu(net.a(x)))
    return net


class Chooses(Layers):
    """Picks its forward when it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.dropped

    def dropped(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(torch.relu(self.a(x)), 0.4, self.training))


class LambdaOfTheClass(Layers):
    forward = lambda self, x: self.b(F.dropout(torch.relu(self.a(x)), 0.4, self.training))  # noqa: E731


class OfAnotherModule(Layers):
    forward = elsewhere.forward_of_another_module


class MaskedOfAnotherModule(Layers):
    forward = elsewhere.masked_forward_of_another_module


class CallsAnotherModule(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(elsewhere.regularize(torch.relu(self.a(x)), self))


def bound_afterwards() -> nn.Module:
    net = Layers()
    net.forward = types.MethodType(elsewhere.masked_forward_of_another_module, net)
    return net


def partial_forward() -> nn.Module:
    net = Layers()
    net.forward = functools.partial(elsewhere.forward_of_another_module, net)
    return net


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as logging, profiling and type-checking libraries have them."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Wrapped(Layers):
    @timed
    @timed
    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.b(h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6 if self.training else h)


def wrapped_instance() -> nn.Module:
    net = Chooses()
    net.forward = timed(net.forward)
    return net


class WrappedWithRate(Layers):
    """The decorator itself drops what the function returns."""

    @staticmethod
    def dropping(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(function)
        def wrapper(self: nn.Module, x: Tensor) -> Tensor:
            return F.dropout(function(self, x), 0.4, self.training)

        return wrapper


def _hidden(self: Any, x: Tensor) -> Tensor:
    return torch.relu(self.a(x))


class DroppedByADecorator(Layers):
    hidden = WrappedWithRate.dropping(_hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.hidden(x))


class CallOverridden(Layers):
    """``__call__`` itself does the work."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(F.dropout(torch.relu(self.a(x)), 0.4, self.training))

    def forward(self, h: Tensor) -> Tensor:
        return self.b(h)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))


def with_a_dropping_hook() -> nn.Module:
    net = plain()
    net[1].register_forward_hook(lambda module, args, out: F.dropout(out, 0.4, module.training))
    return net


def with_a_masking_hook() -> nn.Module:
    net = plain()

    def hook(module: nn.Module, args: Any, out: Tensor) -> Tensor | None:
        return out * torch.bernoulli(torch.full_like(out, 0.6)) / 0.6 if module.training else None

    net[1].register_forward_hook(hook)
    return net


def with_a_dropping_pre_hook() -> nn.Module:
    net = plain()
    net[2].register_forward_pre_hook(lambda module, args: F.dropout(args[0], 0.4, module.training))
    return net


class Patched(nn.Module):
    """A forward made by exec: no source is found of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)


_space: dict[str, Any] = {"torch": torch, "act": F.dropout}
exec("def forward(self, x):\n    return self.b(act(torch.relu(self.a(x)), 0.4, self.training))", _space)
Patched.forward = _space["forward"]


class Aliased(Layers):
    """The function is kept under another name, in a table."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.extra = {"one": F.dropout, "two": torch.dropout, "three": F.alpha_dropout}[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.extra(torch.relu(self.a(x)), 0.4, self.training))


class DroppedWeight(nn.Module):
    """A parametrization that drops a weight."""

    def forward(self, weight: Tensor) -> Tensor:
        return F.dropout(weight, 0.4, self.training)


def parametrized() -> nn.Module:
    net = plain()
    parametrize.register_parametrization(net[2], "weight", DroppedWeight())
    return net


class PlainList(nn.Module):
    """Layers in a plain list: no module of the network's, so no mode reaches them; they fire in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)
        self.others = [nn.ReLU(), nn.Dropout(0.4)]

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        for layer in self.others:
            h = layer(h)
        return self.b(h)


class FunctionalCall(nn.Module):
    """The inner network runs by torch.func.functional_call with weights of the outer one's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3)), 0.9

    def forward(self, x: Tensor) -> Tensor:
        weights = {name: self.scale * value for name, value in self.inner.named_parameters()}
        return torch.func.functional_call(self.inner, weights, (x,))


class Checkpointed(nn.Module):
    """A block under torch.utils.checkpoint, as large networks train."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.b = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4)), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.b(torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False))
        return self.b(self.block(x))


class Properties(Layers):
    """The rate and the flag come by properties, and the layers are made by ``__getattr__`` of a wrapper."""

    @property
    def rate(self) -> float:
        return 0.4 if self.training else 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(torch.relu(self.a(x)), self.rate))


class Wrapper(nn.Module):
    """Hands all it lacks to the network within, its flag included."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *args: Any) -> Any:
        return self.inner(*args)


X = functools.partial(normal, 3, 4)

SITUATIONS: list[Situation] = [
    situation("forward_is_a_lambda", of_a_lambda, X, fold=10),
    situation("forward_is_a_lambda_by_hand", of_a_lambda_by_hand, X, fold=10),
    situation("forward_is_a_lambda_of_the_class", LambdaOfTheClass, X, fold=10),
    situation("forward_is_an_attribute", Chooses, X, fold=10),
    situation("forward_is_of_another_module", OfAnotherModule, X, fold=10),
    situation("forward_is_of_another_module_by_hand", MaskedOfAnotherModule, X, fold=10),
    situation("forward_calls_another_module", CallsAnotherModule, X, fold=10),
    situation("forward_is_bound_afterwards", bound_afterwards, X, fold=10),
    situation("forward_is_partial", partial_forward, X, fold=10),
    situation("forward_is_wrapped", Wrapped, X, fold=10),
    situation("forward_is_wrapped_on_the_instance", wrapped_instance, X, fold=10),
    situation("forward_is_made_by_exec", Patched, X, fold=10),
    situation("method_is_dropped_by_its_decorator", DroppedByADecorator, X, fold=10),
    situation("call_is_overridden", CallOverridden, X, fold=10),
    situation("hook_drops", with_a_dropping_hook, X, fold=10),
    situation("hook_masks_by_hand", with_a_masking_hook, X, fold=10),
    situation("hook_before_drops", with_a_dropping_pre_hook, X, fold=10),
    *(
        situation(f"function_called_{name}", lambda name=name: Aliased(name), X, fold=10)
        for name in ("one", "two", "three")
    ),
    situation("parametrization_drops", parametrized, X),
    situation("layers_in_a_plain_list", PlainList, X, fold=10, always=True),
    situation("functional_call", FunctionalCall, X, fold=10),
    situation("checkpointed", Checkpointed, X, fold=10),
    situation("rate_by_a_property", Properties, X, fold=10),
    situation("wrapper_hands_on", lambda: Wrapper(Wrapped()), X, fold=10),
]
