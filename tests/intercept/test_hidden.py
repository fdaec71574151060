"""Dropout behind ``self.training``: found in whatever form, and nothing else that hides there comes along."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat.errors import NothingRandomError, NotInterceptedWarning

RATE = 0.5


class Network(nn.Module):
    """One linear layer, then what ``body`` does with it."""

    def __init__(self, body: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.norm, self.body = nn.Linear(3, 64), nn.BatchNorm2d(64), body
        self.drop, self.head, self.steps, self.p = nn.Dropout(RATE), nn.Linear(64, 2), 0, RATE
        self.register_buffer("seen", torch.zeros(()))
        with torch.no_grad():
            self.norm.running_mean.add_(3.0)

    def forward(self, x: Tensor) -> Any:
        return self.body(self, self.first(x))


def given_the_flag(m: Any, h: Tensor) -> Tensor:
    return F.dropout(h, m.p, m.training)


def rate_or_zero(m: Any, h: Tensor) -> Tensor:
    return F.dropout(h, m.p if m.training else 0.0)


def inside_an_if(m: Any, h: Tensor) -> Tensor:
    if m.training:
        h = F.dropout(h, m.p)
    return h


def early_return(m: Any, h: Tensor) -> Tensor:
    if not m.training:
        return h
    return F.dropout(h, m.p)


def flag_in_a_local(m: Any, h: Tensor) -> Tensor:
    on = m.training
    rate = m.p if on else 0.0
    return F.dropout(h, rate, training=on)


def with_another_condition(m: Any, h: Tensor) -> Tensor:
    if m.p > 0.0 and m.training and h.dim() == 2:
        return F.dropout(h, m.p)
    return h


def in_a_helper(m: Any, h: Tensor) -> Tensor:
    return maybe_drop(h, m)


def maybe_drop(h: Tensor, m: Any) -> Tensor:
    return F.dropout(h, m.p) if m.training else h


def by_getattr(m: Any, h: Tensor) -> Tensor:
    return F.dropout(h, m.p) if getattr(m, "training", False) else h


def module_inside_an_if(m: Any, h: Tensor) -> Tensor:
    return m.drop(h) if m.training else h


def nested_guards(m: Any, h: Tensor) -> Tensor:
    if m.training:
        rate = m.p if m.training else 0.0
        h = F.dropout(h, rate, training=m.training)
    return h


def torch_level(m: Any, h: Tensor) -> Tensor:
    return torch.dropout(h, m.p, m.training)


def written_by_hand(m: Any, h: Tensor) -> Tensor:
    if m.training:
        return m.drop(h)
    return h * 1.0


FORMS: list[Any] = [
    given_the_flag,
    rate_or_zero,
    inside_an_if,
    early_return,
    flag_in_a_local,
    with_another_condition,
    in_a_helper,
    by_getattr,
    module_inside_an_if,
    nested_guards,
    torch_level,
    written_by_hand,
]


def network(body: Callable[[Any, Tensor], Any]) -> Network:
    torch.manual_seed(0)
    return Network(body).eval()


def drawn(body: Callable[[Any, Tensor], Any], n: int = 32, **settings: Any) -> tuple[Network, Tensor, Tensor]:
    """The network, the tensor before dropout, and draws of what comes out."""
    model, x = network(body), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    output = settings.pop("output", caveat.Mean())
    values = caveat.draws(caveat.mc_dropout(model, output=output, **settings), x, n)
    with torch.no_grad():
        return model, model.first(x), values


@pytest.mark.parametrize("body", FORMS, ids=lambda body: body.__name__)
def test_it_fires_at_its_rate_and_scales(body: Callable[[Any, Tensor], Any]) -> None:
    model, before, values = drawn(body)
    dropped = values == 0
    assert abs(float(dropped.double().mean()) - RATE) < 0.06  # 32 x 64 masks: four standard deviations
    torch.testing.assert_close(values[~dropped], (before / (1 - RATE)).expand_as(values)[~dropped])
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))  # one function for all rows
    assert not model.training


@pytest.mark.parametrize("body", [form for form in FORMS if callable(form)], ids=lambda body: body.__name__)
def test_a_model_in_train_mode_draws_the_same(body: Callable[[Any, Tensor], Any]) -> None:
    _, _, values = drawn(body)
    model, x = network(body).train(), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 32), values)
    assert model.training


def counts_steps(m: Any, h: Tensor) -> Tensor:
    if m.training:
        m.steps += 1
        m.seen += 1
    return F.dropout(h, m.p if m.training else 0.0)


def counts_steps_behind_the_same_guard(m: Any, h: Tensor) -> Tensor:
    if m.training:
        m.steps += 1
        m.seen += 1
        h = F.dropout(h, m.p)
    return h


@pytest.mark.parametrize("body", [counts_steps, counts_steps_behind_the_same_guard])
@pytest.mark.parametrize("backend", [None, "loop"])
def test_counters_do_not_move(body: Callable[[Any, Tensor], Any], backend: str | None) -> None:
    model, _, values = drawn(body, backend=backend)
    assert (model.steps, float(model.seen)) == (0, 0.0)
    assert bool((values == 0).any())


def auxiliary_output(m: Any, h: Tensor) -> Any:
    h = F.dropout(h, m.p if m.training else 0.0)
    if m.training:
        return h, m.head(h)
    return h


def test_an_auxiliary_output_stays_away() -> None:
    _, _, values = drawn(auxiliary_output)
    assert values.shape == (32, 4, 64)
    assert bool((values == 0).any())


def only_with_another_return(m: Any, h: Tensor) -> Any:
    if m.training:
        h = F.dropout(h, m.p)
        return h, m.head(h)
    return h


def test_a_guard_that_changes_the_return_is_refused_aloud() -> None:
    with pytest.raises(NothingRandomError, match="no dropout was called"):
        drawn(only_with_another_return)
    text = str(caveat.audit(network(only_with_another_return), torch.zeros(2, 3)))
    assert "left off: test_hidden.py:" in text
    assert "changes what the network returns" in text


def noise_of_training(m: Any, h: Tensor) -> Tensor:
    if m.training:
        h = h + torch.randn_like(h)
    return F.dropout(h, m.p if m.training else 0.0)


def test_noise_of_training_stays_away() -> None:
    _, before, values = drawn(noise_of_training)
    kept = values != 0
    torch.testing.assert_close(values[kept], (2 * before).expand_as(values)[kept])


def noise_behind_the_same_guard(m: Any, h: Tensor) -> Tensor:
    if m.training:
        h = F.dropout(h + torch.randn_like(h), m.p)
    return h


def jitter(m: Any, h: Tensor) -> Tensor:
    return h * torch.empty_like(h).uniform_(0.5, 1.5) if m.training else h


def sample(m: Any, h: Tensor) -> Tensor:
    return h + torch.randn_like(h) * h.exp() if m.training else h


def shuffle(m: Any, h: Tensor) -> Tensor:
    return h[:, torch.randperm(h.shape[1])] if m.training else h


@pytest.mark.parametrize("body", [noise_behind_the_same_guard, jitter, sample, shuffle], ids=lambda body: body.__name__)
def test_a_guard_that_lets_other_noise_in_is_refused_aloud(body: Callable[[Any, Tensor], Any]) -> None:
    with pytest.raises(NothingRandomError):
        drawn(body)
    text = str(caveat.audit(network(body), torch.randn(2, 3)))
    assert "left off: test_hidden.py:" in text
    assert "no mask" in text


def writes_behind_the_same_guard(m: Any, h: Tensor) -> Tensor:
    if m.training:
        m.seen += 1
        h = h * torch.bernoulli(torch.full_like(h, 1 - m.p)) / (1 - m.p)
    return h


def statistics_behind_the_same_guard(m: Any, h: Tensor) -> Tensor:
    if m.training:
        mean = h.mean(0)
        m.norm.running_mean.mul_(0.9).add_(0.1 * mean)
        return F.dropout(h - mean, m.p)
    return h - m.norm.running_mean


@pytest.mark.parametrize("body", [writes_behind_the_same_guard, statistics_behind_the_same_guard])
def test_a_guard_of_buffers_is_refused_aloud(body: Callable[[Any, Tensor], Any]) -> None:
    with pytest.raises(NothingRandomError):
        drawn(body)
    model = network(body)
    text = str(caveat.audit(model, torch.randn(4, 3)))
    assert "left off: test_hidden.py:" in text
    assert "writes on a buffer" in text
    assert float(model.seen) == 0
    assert torch.equal(model.norm.running_mean, torch.full((64,), 3.0))


def by_bernoulli(m: Any, h: Tensor) -> Tensor:
    return h * torch.bernoulli(torch.full_like(h, 1 - m.p)) / (1 - m.p) if m.training else h


def by_comparing(m: Any, h: Tensor) -> Tensor:
    if m.training:
        h = h * (torch.rand_like(h) > m.p) / (1 - m.p)
    return h


def by_rand(m: Any, h: Tensor) -> Tensor:
    return h * (torch.rand(h.shape) < 1 - m.p).to(h.dtype) / (1 - m.p) if m.training else h


def by_filling(m: Any, h: Tensor) -> Tensor:
    return h * torch.empty_like(h).bernoulli_(1 - m.p).div_(1 - m.p) if m.training else h


def by_integers(m: Any, h: Tensor) -> Tensor:
    return h * torch.randint(0, 2, h.shape) * 2 if m.training else h


def by_choosing(m: Any, h: Tensor) -> Tensor:
    return torch.where(torch.rand_like(h) < m.p, torch.zeros_like(h), h / (1 - m.p)) if m.training else h


def by_setting(m: Any, h: Tensor) -> Tensor:
    if m.training:
        h = h / (1 - m.p)
        h[torch.rand_like(h) < m.p] = 0
    return h


def by_rounding_down(m: Any, h: Tensor) -> Tensor:
    return h / (1 - m.p) * (1 - m.p + torch.rand_like(h)).floor_() if m.training else h


def by_distribution(m: Any, h: Tensor) -> Tensor:
    return h * torch.distributions.Bernoulli(1 - m.p).sample(h.shape) / (1 - m.p) if m.training else h


BY_HAND: list[Any] = [
    *(by_bernoulli, by_comparing, by_rand, by_filling, by_integers),
    *(by_choosing, by_setting, by_rounding_down, by_distribution),
]


def gaussian_dropout(m: Any, h: Tensor) -> Tensor:
    return h * (1 + 0.3 * torch.randn_like(h)) if m.training else h


def test_gaussian_dropout_by_hand_fires() -> None:
    _, before, values = drawn(gaussian_dropout, n=2000)
    factor = (values / before)[:, 0]
    assert abs(float(factor.mean()) - 1) < 0.005  # 128,000 numbers of deviation 0.3: the error is 0.0008
    assert abs(float(factor.std()) - 0.3) < 0.005


@pytest.mark.parametrize("body", BY_HAND, ids=lambda body: body.__name__)
def test_masks_written_by_hand_fire(body: Callable[[Any, Tensor], Any]) -> None:
    _, before, values = drawn(body)
    dropped = values == 0
    assert abs(float(dropped.double().mean()) - RATE) < 0.06
    torch.testing.assert_close(values[~dropped], (2 * before).expand_as(values)[~dropped])
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))  # one function for all rows


def normalized(m: Any, h: Tensor, training: bool) -> Tensor:
    h = h[:, :, None, None].expand(-1, -1, 2, 2)
    return F.batch_norm(h, m.norm.running_mean, m.norm.running_var, None, None, training).mean((2, 3))


def flag_read_once_for_each(m: Any, h: Tensor) -> Tensor:
    h = normalized(m, h, m.training)
    return F.dropout(h, m.p if m.training else 0.0)


def one_flag_for_both(m: Any, h: Tensor) -> Tensor:
    on = m.training
    return F.dropout(normalized(m, h, on), m.p if on else 0.0)


@pytest.mark.parametrize(
    "body",
    [
        flag_read_once_for_each,
        one_flag_for_both,
    ],
)
def test_batch_normalization_keeps_its_running_statistics(body: Callable[[Any, Tensor], Any]) -> None:
    model, before, values = drawn(body)
    with torch.no_grad():
        expected = normalized(model, before, False) / (1 - RATE)
    kept = values != 0
    torch.testing.assert_close(values[kept], expected.expand_as(values)[kept])
    assert torch.equal(model.norm.running_mean, torch.full((64,), 3.0))


def test_a_module_left_out_is_not_turned_on() -> None:
    with pytest.raises(NothingRandomError):
        drawn(rate_or_zero, live=caveat.paths("head"))


class HandWritten(nn.Module):
    """DropPath as it is written everywhere: stochastic depth only where asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.path, self.drop = nn.Linear(3, 64), DropPath(), nn.Dropout(RATE)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.drop(h) + 100 * self.path(torch.ones_like(h))


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(0.75)
        return x * keep / 0.75


def test_stochastic_depth_is_live_only_where_it_is_asked_for() -> None:
    model, x = HandWritten().eval(), torch.randn(4, 3)
    off = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 64)
    assert float(off.min()) > 80
    on = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), live=caveat.with_stochastic_depth), x, 64)
    share = float((on < 80).double().mean())
    assert 0.05 < share < 0.5


class SkipsALayer(nn.Module):
    """A layer that Python skips by a number of torch's (LayerDrop)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(3, 3), nn.Dropout(RATE)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.rand(()).item() < 0.5:
            return self.drop(x)
        return self.drop(x + self.layer(x))


class SkipsByANumberDrawnInAnyCase(SkipsALayer):
    def forward(self, x: Tensor) -> Tensor:
        number = torch.rand([])
        skip = self.training and number < 0.1
        return self.drop(x if skip else x + self.layer(x))


@pytest.mark.parametrize("build", [SkipsALayer, SkipsByANumberDrawnInAnyCase])
def test_a_layer_that_python_skips_is_warned_of_where_it_is_asked_for(build: Callable[[], nn.Module]) -> None:
    sampler = caveat.mc_dropout(build(), output=caveat.Mean(), live=caveat.with_stochastic_depth)
    with pytest.warns(NotInterceptedWarning, match="which layers run"):
        caveat.draws(sampler, torch.ones(2, 3), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caveat.draws(caveat.mc_dropout(build(), output=caveat.Mean()), torch.ones(2, 3), 4)


class ByDroppingOnes(DropPath):
    def forward(self, x: Tensor) -> Tensor:
        return x * F.dropout(x.new_ones(len(x), 1), 0.25, self.training)


def test_stochastic_depth_is_told_by_its_mask_and_not_by_its_name() -> None:
    class DropPathNetwork(HandWritten):
        """Its own dropout is dropout, whatever it is called."""

    model, x = DropPathNetwork().eval(), torch.randn(4, 3)
    model.path = ByDroppingOnes()
    off = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 64)
    assert float(off.min()) > 80
    assert float(off.std(0).min()) > 0
    assert "stochastic depth" in str(caveat.audit(model, x))
    on = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), live=caveat.with_stochastic_depth), x, 64)
    assert 0.05 < float((on < 80).double().mean()) < 0.5


def test_dropout_of_one_feature_is_no_stochastic_depth() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5))
    values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), torch.randn(4, 3), 200)
    assert 0.3 < float((values == 0).double().mean()) < 0.7


class OneNumber(nn.Module):
    """Dropout of one number a row that is 1 as it happens, where ``weigh`` makes it, and a little dropout after it."""

    def __init__(self, weigh: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.weigh, self.gate, self.last = weigh, nn.Linear(3, 1), nn.Dropout(0.01)
        self.attention = nn.MultiheadAttention(3, 1, dropout=RATE, batch_first=True)
        self.register_buffer("one", torch.ones(1, 1))
        nn.init.constant_(self.gate.bias, 40.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.weigh(self, x) * x.new_ones(1, 256))


def attend_to_one_token(m: Any, x: Tensor) -> Tensor:
    row = x[:, None].abs() + 1
    weights = F.dropout((row @ row.mT).softmax(-1), RATE, m.training)
    return (weights @ row)[:, 0, :1]


def attend_by_a_module(m: Any, x: Tensor) -> Tensor:
    return m.attention(x[:, None], x[:, None], x[:, None] + 1, need_weights=False)[0].sum((1, 2))[:, None]


def attend_by_a_module_that_gives_weights(m: Any, x: Tensor) -> Tensor:
    return m.attention(x[:, None], x[:, None], x[:, None] + 1)[0].sum((1, 2))[:, None]


def attend_by_a_function(m: Any, x: Tensor) -> Tensor:
    row = x[:, None, None].abs() + 1
    return F.scaled_dot_product_attention(row, row, row, dropout_p=RATE if m.training else 0.0)[:, 0, 0, :1]


def open_a_gate(m: Any, x: Tensor) -> Tensor:
    return F.dropout(torch.sigmoid(m.gate(x)), RATE, m.training)


DATA = [
    attend_to_one_token,
    attend_by_a_module,
    attend_by_a_module_that_gives_weights,
    attend_by_a_function,
    open_a_gate,
]


@pytest.mark.parametrize("weigh", DATA)
def test_a_number_of_the_data_that_is_one_is_no_branch(weigh: Callable[[Any, Tensor], Tensor]) -> None:
    model, x = OneNumber(weigh).eval(), torch.rand(4, 3)
    values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 200)
    dropped = (values - values.median(0).values).abs().mean(-1) > 1e-3 * values.abs().max()
    assert float(dropped.double().mean()) > 0.2
    assert "stochastic depth" not in str(caveat.audit(model, x))


def drop_ones(m: Any, x: Tensor) -> Tensor:
    return F.dropout(x.new_ones(len(x), 1), RATE, m.training)


def drop_ones_of_the_type_of_the_data(m: Any, x: Tensor) -> Tensor:
    return F.dropout(torch.ones(len(x), 1).to(x), RATE, m.training)


def drop_ones_like_the_data(m: Any, x: Tensor) -> Tensor:
    return F.dropout(torch.ones_like(x)[:, :1], RATE, m.training)


def drop_ones_of_a_buffer(m: Any, x: Tensor) -> Tensor:
    return F.dropout(m.one.expand(len(x), 1), RATE, m.training)


@pytest.mark.parametrize(
    "weigh", [drop_ones, drop_ones_of_the_type_of_the_data, drop_ones_like_the_data, drop_ones_of_a_buffer]
)
def test_ones_that_are_made_to_be_dropped_are_a_branch(weigh: Callable[[Any, Tensor], Tensor]) -> None:
    model, x = OneNumber(weigh).eval(), torch.rand(4, 3)
    values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 50)
    assert float(values.mean(-1).min()) > 0.5
    assert "stochastic depth" in str(caveat.audit(model, x))


class Beside(nn.Module):
    """A dropout that fires, and random numbers behind ``self.training`` from elsewhere."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make, self.drop = make, nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x)
        return x * self.make(x) if self.training else x


def numpys(x: Tensor) -> Tensor:
    return torch.as_tensor(np.random.rand(*x.shape) < 0.6)  # noqa: NPY002  # what networks by hand do


@torch.library.custom_op("caveat_tests::mask", mutates_args=())
def operators(x: Tensor) -> Tensor:
    return (torch.rand_like(x) > 0.4).to(x.dtype)


def votes(x: Tensor) -> Tensor:
    return torch.binomial(torch.ones_like(x), torch.full_like(x, 0.6))


@pytest.mark.parametrize("make", [numpys, operators, votes])
def test_random_numbers_that_are_not_seen_are_in_the_audit(make: Callable[[Tensor], Tensor]) -> None:
    text = str(caveat.audit(Beside(make).eval(), torch.randn(3, 8)))
    assert "left off" in text
    assert "cannot be intercepted" in text


@pytest.mark.parametrize("make", [numpys, operators, votes])
def test_random_numbers_that_are_not_seen_are_warned_of_once(make: Callable[[Tensor], Tensor]) -> None:
    sampler = caveat.mc_dropout(Beside(make).eval(), output=caveat.Mean())
    with pytest.warns(caveat.errors.NotInterceptedWarning, match=r"test_hidden\.py:\d+ \(forward\) reads training"):
        caveat.predict(sampler, torch.randn(3, 8), n=3)
    caveat.predict(sampler, torch.randn(3, 8), n=3)


class NoiseWithDropout(nn.Module):
    """One read lets in noise, which stays off, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x)
        return F.dropout(x + 0.1 * torch.randn_like(x), 0.3) if self.training else x


def test_a_dropout_that_stays_off_beside_noise_is_warned_of() -> None:
    sampler = caveat.mc_dropout(NoiseWithDropout().eval(), output=caveat.Mean())
    with pytest.warns(caveat.errors.NotInterceptedWarning, match="a dropout comes with them and stays off, too"):
        caveat.predict(sampler, torch.randn(3, 8), n=3)


class OnlyVotes(nn.Module):
    """Nothing but random numbers that cannot be intercepted."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        return x * votes(x) if self.training or self.always else x


@pytest.mark.parametrize("always", [True, False])
def test_the_error_says_that_random_numbers_are_not_seen(always: bool) -> None:
    sampler = caveat.mc_dropout(OnlyVotes(always).eval(), output=caveat.Mean())
    with pytest.raises(caveat.errors.NothingRandomError, match="cannot be intercepted"):
        caveat.predict(sampler, torch.randn(3, 8), n=3)


def test_an_operator_called_by_its_bare_name_fires() -> None:
    model = Beside(lambda x: torch.ops.aten.dropout(torch.ones_like(x), 0.4, True)).eval()
    assert [site.rate for site in caveat.audit(model, torch.randn(3, 8))] == [0.1, 0.4]
