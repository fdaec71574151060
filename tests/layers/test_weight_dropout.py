"""Weight dropout drops weights and keeps them: the layer's own keys, values and eval mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from caveat.errors import InvalidArgumentError
from caveat.layers import WeightDropout

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 5), (4, 6)),
    "conv": (lambda: nn.Conv2d(3, 4, 3, groups=1, padding="same", padding_mode="circular"), (4, 3, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose1d(3, 4, 3), (4, 3, 6)),
    "lstm": (lambda: nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True), (4, 3, 6)),
    "gru": (lambda: nn.GRU(6, 5), (4, 3, 6)),
    "rnn": (lambda: nn.RNN(6, 5), (4, 3, 6)),
}


def case(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    return build(), torch.randn(shape)


def first(returned: Tensor | tuple[Tensor, ...]) -> Tensor:
    return returned if isinstance(returned, Tensor) else returned[0]


@pytest.mark.parametrize("name", LAYERS)
def test_state_and_eval_mode_are_the_plain_layers(name: str) -> None:
    layer, x = case(name)
    expected, state = first(layer(x)), {key: value.clone() for key, value in layer.state_dict().items()}
    dropping = WeightDropout(layer, 0.5)
    for _ in range(3):
        first(dropping(x)).sum().backward()
    assert dropping.state_dict().keys() == state.keys()
    assert all(torch.equal(dropping.state_dict()[key], value) for key, value in state.items())
    assert [name for name, _ in dropping.named_parameters()] == list(state)
    assert torch.equal(first(dropping.eval()(x)), expected)
    fresh = LAYERS[name][0]()
    fresh.load_state_dict(dropping.state_dict())  # the plain network takes its checkpoint, and the other way round
    assert torch.equal(first(fresh(x)), expected)
    dropping.load_state_dict(fresh.state_dict())
    assert torch.equal(first(dropping.layer(x)), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_a_pass_is_the_plain_layer_with_some_weights_zero(name: str) -> None:
    """A weight's gradient is 0 just where it was dropped: with those at 0 and the others doubled, the layer agrees."""
    layer, x = case(name)
    dropping, plain = WeightDropout(layer, 0.5), LAYERS[name][0]()
    out = first(dropping(x))
    out.square().sum().backward()
    plain.load_state_dict(layer.state_dict())
    shares = list[Tensor]()
    for own in dropping.names:
        mask = dropping.get_parameter(own).grad.ne(0)  # type: ignore[union-attr]
        plain.get_parameter(own).data.mul_(mask).mul_(2.0)
        shares.append(mask.flatten())
    torch.testing.assert_close(out, first(plain(x)))
    assert 0.25 < float(torch.cat(shares).double().mean()) < 0.75


def test_by_default_the_hidden_weights_of_a_recurrent_layer() -> None:
    names = WeightDropout(nn.LSTM(3, 4, 2, bidirectional=True)).names
    assert names == ("weight_hh_l0", "weight_hh_l0_reverse", "weight_hh_l1", "weight_hh_l1_reverse")


def test_one_mask_for_all_time_steps_and_rows() -> None:
    torch.manual_seed(0)
    layer = WeightDropout(nn.RNN(1, 3, batch_first=True), 0.5)
    out, _ = layer(torch.ones(5, 7, 1))
    assert torch.equal(out, out[:1].expand_as(out))


def test_packed_sequences_and_a_given_state() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4, batch_first=True)
    layer = WeightDropout(lstm, 0.5).eval()
    packed = pack_padded_sequence(torch.randn(2, 5, 3), torch.tensor([5, 2]), batch_first=True)
    state = (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    assert torch.equal(layer(packed, state)[0].data, lstm(packed, state)[0].data)


def test_it_stands_in_for_the_layer() -> None:
    """Sizes are read from it as from the layer, moving it moves the weights, and optimizers see each weight once."""
    layer = WeightDropout(nn.LSTM(3, 4, batch_first=True), 0.5)
    assert (layer.hidden_size, layer.batch_first) == (4, True)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = layer.no_such_thing
    assert layer.double()(torch.ones(1, 2, 3, dtype=torch.float64))[0].dtype == torch.float64
    assert len(list(layer.parameters())) == 4
    assert "LSTM(3, 4, batch_first=True)" in str(layer)


@pytest.mark.parametrize("layer", [None, nn.Linear, 3])
def test_a_layer_is_a_module(layer: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"must be an nn.Module"):
        WeightDropout(layer, 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("layer", "names"), [
    (nn.Linear(2, 2), ["weights"]),
    (nn.Linear(2, 2), []),
    (nn.Sequential(nn.Linear(2, 2)), None),
    (nn.ReLU(), None),
])  # fmt: skip
def test_names_are_the_layers_own_parameters(layer: nn.Module, names: list[str] | None) -> None:
    with pytest.raises(InvalidArgumentError, match="names must be parameters"):
        WeightDropout(layer, 0.5, names)
