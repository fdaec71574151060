"""Dropout of weights in place of activations.

See "Regularization of Neural Networks using DropConnect", Wan et al., 2013, and, for the hidden-to-hidden weights of
recurrent layers, "Regularizing and Optimizing LSTM Language Models", Merity, Keskar and Socher, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import nn

from caveat._checks import require_rate
from caveat._dropping import elementwise
from caveat._random_numbers import dropped
from caveat.errors import InvalidArgumentError
from caveat.layers._twin import attribute_of, check_layer, take_place, twin_of


@final
class WeightDropout(nn.Module):
    """A layer some of whose weights are dropped anew in each forward pass; the trained weights stay as they are.

    It takes the layer's place: it holds the layer's own parameters under their own names, so the keys of the state
    dict are the layer's, a checkpoint of either loads into the other, and in eval mode it is the layer. One mask is
    drawn for the whole batch and all time steps, in training as in a draw; what is kept is scaled by 1 / (1 - p).

    Args:
        layer: any module whose forward reads its weights: linear, convolutional, recurrent, embedding.
        p: Fraction of weights that is dropped, in [0, 1).
        names: which parameters of the layer; if not given, the hidden-to-hidden weights of a recurrent layer
            (``weight_hh_l0``, ...) and ``weight`` of any other.

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); no module, or a name that is none of its own parameters.

    See "Regularization of Neural Networks using DropConnect", Wan et
    al., 2013, and "Regularizing and Optimizing LSTM Language Models", Merity et al., 2017.

    Example:
        >>> import torch
        >>> layer = nn.Linear(4, 3)
        >>> dropping = WeightDropout(layer, 0.5)
        >>> list(dropping.state_dict()) == list(layer.state_dict())
        True
        >>> x = torch.ones(2, 4)
        >>> torch.equal(dropping.eval()(x), layer(x))
        True
        >>> WeightDropout(nn.LSTM(4, 8, num_layers=2), 0.5).names
        ('weight_hh_l0', 'weight_hh_l1')
    """

    def __init__(self, layer: nn.Module, p: float = 0.5, names: Sequence[str] | None = None) -> None:
        super().__init__()
        check_layer(layer, nn.Module, said="an nn.Module")
        self.p = require_rate(p)
        self.names = _checked(layer, names)
        self._settings = take_place(self, layer)

    @property
    def layer(self) -> nn.Module:
        """The plain layer, with the trained weights: it shares them."""
        return twin_of(self, self._settings, {})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns, with weights dropped in training and in draws."""
        own = vars(self)["_parameters"]
        weights = {
            name: dropped(own[name], elementwise, "weight_dropout", self.p, self.training, of_weights=True)
            for name in self.names
        }
        return twin_of(self, self._settings, weights)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return attribute_of(self, name)

    def extra_repr(self) -> str:
        """What ``print`` shows of the layer."""
        return f"{self.layer}, p={self.p}, names={self.names}"


def _checked(layer: nn.Module, names: Sequence[str] | None) -> tuple[str, ...]:
    own = [name for name, _ in layer.named_parameters(recurse=False)]
    if names is None:
        recurrent = isinstance(layer, nn.RNNBase)
        chosen = tuple(name for name in own if name.startswith("weight_hh") or (name == "weight" and not recurrent))
    else:
        chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen or not set(chosen) <= set(own):
        raise InvalidArgumentError(
            "names must be parameters that the layer itself holds.",
            got=f"names={names!r} for {type(layer).__name__}, whose own are {own}",
            cause="the weights are in a module inside, were renamed by a parametrization, or are spelled otherwise",
            fix="wrap the inner layer itself, or name its parameters: names=['weight']",
        )
    return chosen
