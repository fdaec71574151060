"""Variational recurrent layers against torch's own, a loop written out step by step, and finite differences."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import caveat
from caveat._recurrence._direction import Steps, Weights, run_direction
from caveat.errors import InvalidArgumentError
from caveat.layers import VariationalGRU, VariationalLSTM

PAIRS = [(nn.LSTM, VariationalLSTM), (nn.GRU, VariationalGRU)]
SETTINGS = list(product((1, 2), (False, True), (False, True), (True, False)))
# So small a rate never fires in these tests, but sends the layers through the loop by hand.
ALMOST_NEVER = 1e-13


def inputs(batch_first: bool) -> list[Any]:
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    lengths = [2, 4, 1, 3] if batch_first else [2, 4, 1, 3, 3, 2]
    return [x, pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False), x[0]]


def results(layer: nn.Module, x: Any, state: Any = None) -> list[Tensor]:
    """Output, last states and all gradients of a scalar of them."""
    layer.zero_grad()
    output, last = layer(x, state)
    output = output.data if isinstance(output, PackedSequence) else output
    states = last if isinstance(last, tuple) else (last,)
    (output.sin().sum() + sum((part * part).sum() for part in states)).backward()
    return [output.detach(), *(s.detach() for s in states), *(p.grad.clone() for p in layer.parameters())]


@pytest.mark.parametrize(("torchs", "ours"), PAIRS)
@pytest.mark.parametrize(("layers", "both", "batch_first", "bias"), SETTINGS)
@pytest.mark.parametrize("rate", [0.0, ALMOST_NEVER])
def test_without_dropout_it_is_torchs_layer(
    torchs: Any, ours: Any, layers: int, both: bool, batch_first: bool, bias: bool, rate: float
) -> None:
    reference = torchs(3, 5, layers, bias, batch_first, bidirectional=both).double()
    layer = ours(3, 5, layers, bias, batch_first, bidirectional=both, state_dropout=rate).double()
    layer.load_state_dict(reference.state_dict())
    for x in inputs(batch_first):
        torch.testing.assert_close(results(layer, x), results(reference, x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("torchs", "ours"), PAIRS)
def test_initial_states(torchs: Any, ours: Any) -> None:
    reference = torchs(3, 5, 2, bidirectional=True).double()
    layer = ours(3, 5, 2, bidirectional=True, state_dropout=ALMOST_NEVER).double()
    layer.load_state_dict(reference.state_dict())
    for x, rows in zip(inputs(False), (6, 6, None), strict=True):
        shape = (4, rows, 5) if rows else (4, 5)
        hidden, cell = torch.randn(2, *shape, dtype=torch.float64)
        state = (hidden, cell) if torchs is nn.LSTM else hidden
        torch.testing.assert_close(results(layer, x, state), results(reference, x, state), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("torchs", "ours"), PAIRS)
def test_eval_mode_is_torchs_kernel_bit_for_bit(torchs: Any, ours: Any) -> None:
    reference = torchs(3, 5, 2, bidirectional=True).eval()
    layer = ours(3, 5, 2, dropout=0.3, bidirectional=True, input_dropout=0.3, state_dropout=0.3, output_dropout=0.3)
    layer.load_state_dict(reference.state_dict())
    x = torch.randn(6, 4, 3)
    assert torch.equal(layer.eval()(x)[0], reference(x)[0])


def by_hand(cell: str, x: Tensor, mask: Tensor, weights: list[Tensor], state: tuple[Tensor, ...]) -> Tensor:
    """The recurrence as the paper writes it, step by step: x (T, B, I); the mask is on the state that meets weights."""
    of_input, of_state, input_bias, state_bias = weights
    hidden, outputs = state[0], []
    memory = state[-1]
    for now in x:
        a, b = now @ of_input.T + input_bias, (hidden * mask) @ of_state.T + state_bias
        if cell == "lstm":
            i, f, g, o = (a + b).chunk(4, 1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * memory.tanh()
        else:
            (ra, za, na), (rb, zb, nb) = a.chunk(3, 1), b.chunk(3, 1)
            r, z = (ra + rb).sigmoid(), (za + zb).sigmoid()
            hidden = (1 - z) * (na + r * nb).tanh() + z * hidden
        outputs.append(hidden)
    return torch.stack(outputs)


def masks_seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The masks that are drawn in training from here on."""
    seen: list[Tensor] = []
    real = torch.nn.functional.dropout

    def spy(x: Tensor, p: float) -> Tensor:
        seen.append(real(x, p))
        return seen[-1]

    monkeypatch.setattr("caveat._recurrence._recurrence.F.dropout", spy)
    return seen


@pytest.mark.parametrize(("cell", "ours"), [("lstm", VariationalLSTM), ("gru", VariationalGRU)])
def test_training_masks_are_one_a_row_for_all_steps(cell: str, ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ours(3, 5, input_dropout=0.4, state_dropout=0.4, output_dropout=0.4).double()
    seen = masks_seen(monkeypatch)
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    output = layer(x)[0]
    of_input, of_state, of_output = seen
    assert [mask.shape for mask in seen] == [(4, 3), (4, 5), (4, 5)]
    zero = torch.zeros(4, 5, dtype=torch.float64)
    expected = by_hand(cell, x * of_input, of_state, list(layer.parameters()), (zero, zero)) * of_output
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_by_finite_differences(cell: str, reverse: bool) -> None:
    gates, steps = {"lstm": 4, "gru": 3}[cell], Steps(cell, (3, 3, 2, 1), reverse)
    mask = torch.tensor([[0.0, 2.0], [2.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    shapes = [(9, 2), (3, 2), (3, 2), (2 * gates, 2), (2 * gates, 2), (2 * gates,), (2 * gates,)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def run(data: Tensor, hidden: Tensor, cells: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return run_direction(steps, data, (hidden, cells) if cell == "lstm" else (hidden,), mask, Weights(*weights))

    assert torch.autograd.gradcheck(run, tensors)
    assert torch.autograd.gradgradcheck(run, tensors)


@pytest.mark.parametrize("ours", [VariationalLSTM, VariationalGRU])
def test_members_train_under_vmap_as_alone(ours: Any) -> None:
    """With a rate that never fires, the gradients of stacked members are those of the members one by one."""
    networks = [ours(3, 4, 2, bidirectional=True, state_dropout=ALMOST_NEVER).double() for _ in range(3)]
    parameters, _ = stack_module_state(networks)
    x = torch.randn(5, 2, 3, dtype=torch.float64)

    def loss(own: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(networks[0], own, (x,))[0].square().mean()

    found = vmap(grad(loss), in_dims=(0, None), randomness="different")(parameters, x)
    for number, network in enumerate(networks):
        network(x)[0].square().mean().backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(found[name][number], parameter.grad)


def test_members_under_vmap_have_masks_of_their_own() -> None:
    network = VariationalLSTM(3, 8, state_dropout=0.5)
    parameters, _ = stack_module_state([network, network])
    x = torch.randn(5, 2, 3)
    out = vmap(lambda own: functional_call(network, own, (x,))[0], randomness="different")(parameters)
    assert not torch.equal(out[0], out[1])
    network.eval()
    assert torch.equal(*vmap(lambda own: functional_call(network, own, (x,))[0])(parameters))


def test_autocast_and_half() -> None:
    layer, x = VariationalLSTM(3, 4, state_dropout=0.3), torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x.bfloat16())[0].sum().backward()
    assert torch.isfinite(layer.weight_hh_l0.grad).all()
    assert layer.bfloat16()(x.bfloat16())[0].dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["dropout", "input_dropout", "state_dropout", "output_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "0.5"])
def test_rates_out_of_range(name: str, rate: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must lie in"):
        VariationalLSTM(3, 4, **{name: rate})


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (3, 4, 0)])
def test_sizes_below_one(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="at least 1"):
        VariationalGRU(*sizes)


@pytest.mark.parametrize(
    ("shape", "rule"), [((5,), "takes"), ((5, 2, 2, 3), "takes"), ((0, 2, 3), "takes"), ((5, 0, 3), "takes"),
                        ((5, 2, 4), "input_size features")],
)  # fmt: skip
def test_inputs_of_the_wrong_shape(shape: tuple[int, ...], rule: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rule):
        VariationalLSTM(3, 4)(torch.zeros(shape))


def test_states_of_the_wrong_kind_or_shape() -> None:
    x, state = torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)
    with pytest.raises(InvalidArgumentError, match="pair"):
        VariationalLSTM(3, 4)(x, state)
    with pytest.raises(InvalidArgumentError, match="pair"):
        VariationalGRU(3, 4)(x, (state, state))
    with pytest.raises(InvalidArgumentError, match="batch first"):
        VariationalGRU(3, 4)(x, torch.zeros(2, 1, 4))


def test_printed() -> None:
    shown = str(VariationalGRU(3, 4, 2, False, True, 0.1, True, state_dropout=0.2))
    assert shown == (
        "VariationalGRU(3, 4, num_layers=2, batch_first=True, bidirectional=True, bias=False, dropout=0.1, "
        "state_dropout=0.2)"
    )


def test_nothing_random_without_rates() -> None:
    with pytest.raises(caveat.NothingRandomError):
        caveat.draws(caveat.mc_dropout(VariationalLSTM(3, 4), output=caveat.Mean(select=0)), torch.zeros(5, 2, 3))
