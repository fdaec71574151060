"""Dropout for a network that has none: its keys, indices and checkpoints stay, and every new site fires."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import caveat
import caveat._intercept._dropout_sites  # registers the handlers
from caveat.errors import InvalidArgumentError
from caveat.layers import SpatialDropout2d, insert_dropout, remove_dropout
from caveat.testing import check_sampler


class Block(nn.Module):
    """A residual block whose one activation is used twice, as in a ResNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        return self.relu(x + self.bn2(self.conv2(h)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


def images() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_residual_network_of_modules_used_twice() -> None:
    torch.manual_seed(0)
    plain, x = Residual().eval(), images()
    checkpoint, expected, names = plain.state_dict(), plain(x), [name for name, _ in plain.named_parameters()]
    model = copy.deepcopy(plain)
    sites = insert_dropout(model, 0.3, after=nn.ReLU)
    assert sites == ["blocks.0.relu.inserted_dropout", "blocks.1.relu.inserted_dropout"]
    assert list(model.state_dict()) == list(checkpoint)
    assert [name for name, _ in model.named_parameters()] == names
    model.load_state_dict(checkpoint)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(x), expected)
    live = caveat.audit(model, x).live
    assert [site.path for site in live] == [path for path in sites for _ in range(2)]  # each is called twice
    assert {site.rate for site in live} == {0.3}


@pytest.mark.parametrize("by", [nn.Dropout, nn.Dropout2d, SpatialDropout2d])
def test_the_draws_of_a_residual_network_keep_every_promise(by: type[nn.Module]) -> None:
    def build(**settings: object) -> caveat.samplers.MCDropout:
        torch.manual_seed(0)
        model = Residual()
        insert_dropout(model, 0.3, after=caveat.paths("*.relu"), by=by)
        return caveat.mc_dropout(model, output=caveat.Logits(), **settings)  # type: ignore[arg-type]

    ways = {backend: build(backend=backend) for backend in ("vectorized", "loop")}
    check_sampler(build(), images(), n=6, variants=ways)


def test_each_use_of_a_module_has_a_mask_of_its_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.same(x), self.same(x)], -1)

    model = Twice()
    insert_dropout(model, 0.5, after=caveat.paths("same"))
    drawn = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), torch.ones(1, 100), 1)[0, 0]
    kept = drawn.ne(0).double()
    assert 0.3 < float((kept[:, 0] == kept[:, 1]).double().mean()) < 0.7


def test_a_sequential_keeps_its_keys_and_indices() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 2))
    head, keys = model[1], list(model.state_dict())
    assert insert_dropout(model, 0.5, after=caveat.paths("0", "0.1")) == [
        "0.inserted_dropout", "0.1.inserted_dropout",
    ]  # fmt: skip
    assert model[1] is head
    assert isinstance(model[0][0], nn.Linear)
    assert list(model.state_dict()) == keys
    assert len(caveat.audit(model, torch.ones(2, 4)).live) == 2  # once each, not twice
    assert remove_dropout(model) == ["0.inserted_dropout", "0.1.inserted_dropout"]
    assert len(model[0]) == 2
    assert "Dropout" not in str(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_model_itself_and_lists() -> None:
    assert insert_dropout(nn.Linear(2, 2), 0.1, after=lambda path, module: True) == ["inserted_dropout"]
    model = Residual()
    sites = insert_dropout(model, 0.1, after=lambda path, module: path.startswith("blocks"))
    assert "blocks.inserted_dropout" not in sites  # a ModuleList runs nothing
    assert "blocks.0.inserted_dropout" in sites
    model(images())


def test_the_output_of_a_recurrent_layer() -> None:
    model = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    torch.manual_seed(0)
    insert_dropout(model, 0.5, after=nn.LSTM)
    out, (hidden, _) = model(torch.ones(2, 5, 3))
    assert 0.2 < float(out.eq(0).double().mean()) < 0.8
    assert hidden.ne(0).all()
    packed, _ = model[0](pack_padded_sequence(torch.ones(2, 5, 3), torch.tensor([5, 2]), batch_first=True))
    assert isinstance(packed, nn.utils.rnn.PackedSequence)
    assert packed.data.eq(0).any()


def test_mode_training_copies_and_pickles() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    insert_dropout(model, 0.5, after=caveat.paths("1"))
    x = torch.ones(3, 4)
    assert torch.equal(model(x), model(x))  # inserted into a network in eval mode, it is in eval mode
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(x), model(x))
        again.train()
        assert not torch.equal(again(x), again(x))
        again(x).sum().backward()
    assert torch.equal(model(x), model(x))


def test_functional_calls_over_stacked_members() -> None:
    members = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)) for _ in range(3)]
    for member in members:
        insert_dropout(member, 0.5, after=caveat.paths("1"))
    parameters, buffers = torch.func.stack_module_state(members)

    def one(own: dict[str, Tensor], state: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(members[0], (own, state), (x,))

    out = torch.vmap(one, in_dims=(0, 0, None), randomness="different")(parameters, buffers, torch.ones(2, 4))
    assert out.shape == (3, 2, 1)


@pytest.mark.parametrize("p", [1.0, -0.5, float("nan")])
def test_a_rate_is_a_share_below_one(p: float) -> None:
    with pytest.raises(InvalidArgumentError):
        insert_dropout(nn.Sequential(nn.ReLU()), p, after=nn.ReLU)


def test_a_predicate_that_chooses_nothing_says_what_there_is() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'stem' \(Conv2d\)"):
        insert_dropout(Residual(), 0.1, after=nn.GELU)


def test_what_cannot_be_followed_is_refused_before_anything_is_inserted() -> None:
    class Dense(nn.ModuleDict):
        def forward(self, x: Tensor) -> Tensor:
            for layer in self.values():
                x = layer(x)
            return x

    model = nn.Sequential(nn.ReLU(), Dense({"a": nn.Linear(2, 2)}))
    before = str(model)
    with pytest.raises(InvalidArgumentError, match="a way of its own"):
        insert_dropout(model, 0.1, after=lambda path, module: path in ("0", "1"))
    with pytest.raises(InvalidArgumentError, match="makes no module"):
        insert_dropout(model, 0.1, after=nn.ReLU, by=lambda p: p)  # type: ignore[arg-type,return-value]
    assert str(model) == before
    insert_dropout(model, 0.1, after=nn.ReLU)
    with pytest.raises(InvalidArgumentError, match="which has one"):
        insert_dropout(model, 0.1, after=nn.ReLU)


@pytest.mark.parametrize("mark", ["_orig_mod", "_compiled_call_impl"])
def test_a_compiled_network_is_refused(mark: str) -> None:
    """By what torch.compile(model) and model.compile() leave on a module; the compiler itself takes seconds to load."""
    model = nn.Sequential(nn.ReLU())
    setattr(model, mark, str)
    with pytest.raises(InvalidArgumentError, match="not compiled"):
        insert_dropout(model, 0.1, after=nn.ReLU)


def test_what_returns_no_numbers_is_an_error_that_names_it() -> None:
    class Indices(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(-1)

    model = nn.Sequential(Indices())
    insert_dropout(model, 0.1, after=Indices)
    with pytest.raises(InvalidArgumentError, match=r"Indices returned a tensor of torch\.int64"):
        model(torch.ones(2, 3))
