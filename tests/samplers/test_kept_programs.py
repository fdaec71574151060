"""A program that is kept from call to call gives what a fresh sampler gives, whatever was changed between calls."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import caveat
from caveat.samplers import MCDropout


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.3), nn.Linear(20, 20), nn.Tanh(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(20, 3)).eval()


def normed() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Dropout(0.1), nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ELU(), nn.Dropout(0.4), nn.Linear(20, 3)
    )
    net(torch.randn(50, 6) + 2)
    return net.eval()


def digits() -> nn.Sequential:
    torch.manual_seed(2)
    front = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout2d(0.25), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU()]
    return nn.Sequential(*front, nn.Dropout2d(0.25), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 3)).eval()


def encoder() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.TransformerEncoderLayer(6, 2, 12, 0.2, batch_first=True), nn.Linear(6, 3)).eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = {
    "mlp": (mlp, (6,)),
    "normed": (normed, (6,)),
    "digits": (digits, (1, 10, 10)),
    "encoder": (encoder, (4, 6)),
}


def sampler_of(model: nn.Module, **options: Any) -> MCDropout[Any]:
    return caveat.mc_dropout(model, output=options.pop("output", caveat.Logits()), **options)


def is_kept(sampler: MCDropout[Any]) -> bool:
    return any(kept is not None and kept.tapes for kept in sampler._programs._kept.values())


def used(model: nn.Module, shape: tuple[int, ...] = (6,), **options: Any) -> MCDropout[Any]:
    """A sampler that keeps a program for five rows."""
    sampler = sampler_of(model, **options)
    for seed in range(3):
        caveat.draws(sampler, torch.randn(5, *shape), n=7, seed=seed)
    return sampler


def assert_as_fresh(sampler: MCDropout[Any], x: Tensor, n: int = 7) -> None:
    expected = caveat.draws(sampler_of(sampler.model, live=sampler.live, output=sampler.output), x, n=n, seed=9)
    torch.testing.assert_close(caveat.draws(sampler, x, n=n, seed=9), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("strata", [None, 4])
def test_other_inputs_seeds_and_numbers_of_draws(name: str, strata: int | None) -> None:
    build, shape = NETWORKS[name]
    sampler = used(build(), shape, strata=strata)
    assert is_kept(sampler)
    for rows, n in ((5, 7), (5, 8), (1, 7), (5, 300), (5, 7), (3, 2), (2, 2), (4, 2), (5, 301), (5, 7)):
        x = torch.randn(rows, *shape)
        expected = caveat.draws(sampler_of(sampler.model, strata=strata), x, n=n, seed=n)
        torch.testing.assert_close(caveat.draws(sampler, x, n=n, seed=n), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_seed_gives_the_same_digits_in_every_call(name: str) -> None:
    build, shape = NETWORKS[name]
    sampler, x = sampler_of(build()), torch.randn(5, *shape)
    found = [caveat.draws(sampler, x, n=45, seed=1) for _ in range(5)]
    assert is_kept(sampler)
    assert all(torch.equal(one, found[0]) for one in found)


def set_rate(model: nn.Sequential) -> None:
    model[3].p = 0.6


def write_weights(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[1].weight.mul_(2)


def new_parameter(model: nn.Sequential) -> None:
    model[1].weight = nn.Parameter(torch.randn(20, 6))


def new_data(model: nn.Sequential) -> None:
    model[4].weight.data = torch.randn(20, 20)


def new_module(model: nn.Sequential) -> None:
    model[2] = nn.GELU()


def one_more(model: nn.Sequential) -> None:
    model.append(nn.Linear(3, 2))


def another_hook(model: nn.Sequential) -> None:
    model[1].register_forward_hook(lambda module, args, out: out + 1)


def other_forward(model: nn.Sequential) -> None:
    model[5].forward = torch.sigmoid  # type: ignore[method-assign]


def train(model: nn.Sequential) -> None:
    model.train()


def trained(model: nn.Sequential) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(5, 6)).square().sum().backward()
    optimizer.step()


def loaded(model: nn.Sequential) -> None:
    torch.manual_seed(5)
    model.load_state_dict({name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()})


def parametrized(model: nn.Sequential) -> None:
    torch.manual_seed(6)
    nn.utils.parametrizations.spectral_norm(model[4])


def changed_meanwhile(model: nn.Sequential) -> None:
    model[3] = nn.Dropout(0.5)


def other_order(model: nn.Sequential) -> None:
    modules = dict(model._modules)
    model._modules.clear()
    model._modules.update({name: modules[name] for name in ("0", "1", "5", "3", "4", "2", "6", "7")})


def other_modules(model: nn.Sequential) -> None:
    model._modules = {**model._modules, "2": nn.Sigmoid()}


def other_class(model: nn.Sequential) -> None:
    model[2].__class__ = nn.Softsign


CHANGES = [
    other_order, other_modules, other_class, parametrized, changed_meanwhile,
    set_rate, write_weights, new_parameter, new_data, new_module, one_more, another_hook, other_forward, train, trained,
    loaded,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_between_calls_is_noticed(change: Callable[[nn.Sequential], None]) -> None:
    model = mlp()
    sampler, x = used(model), torch.randn(5, 6)
    assert is_kept(sampler)
    before = caveat.draws(sampler, x, n=7, seed=9)
    change(model)
    assert_as_fresh(sampler, x)
    assert_as_fresh(sampler, x)
    if change is not train:
        after = caveat.draws(sampler, x, n=7, seed=9)
        assert after.shape != before.shape or not torch.allclose(after, before)


def test_a_program_that_is_put_back_after_a_change_was_seen_is_let_go() -> None:
    model = mlp()
    sampler, x = used(model), torch.randn(5, 6)
    with sampler.bind(x, 0) as stream:  # as another thread may
        list(stream(range(7)))
        model[3].p = 0.6
        caveat.draws(sampler, torch.randn(4, 6), n=7)
    assert_as_fresh(sampler, x)
    assert_as_fresh(sampler, x)


def test_another_dtype_is_noticed() -> None:
    sampler = used(mlp())
    sampler.model.double()
    assert_as_fresh(sampler, torch.randn(5, 6, dtype=torch.float64))


def test_statistics_that_training_moved_are_read() -> None:
    model = normed()
    sampler = used(model)
    assert is_kept(sampler)
    model.train()(torch.randn(50, 6) - 3)
    model.eval()
    assert_as_fresh(sampler, torch.randn(5, 6))


def test_a_hook_for_all_modules_is_run() -> None:
    sampler = used(mlp())
    called: list[object] = []
    handle = torch_module.register_module_forward_hook(lambda module, args, out: called.append(module))
    try:
        caveat.draws(sampler, torch.randn(5, 6), n=3)
    finally:
        handle.remove()
    assert called
    assert_as_fresh(sampler, torch.randn(5, 6))


class Own(nn.Module):
    """A network of the user's, whose code reads what nobody can watch."""

    scale: ClassVar[list[float]] = [1.0]

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(6, 20), nn.Dropout(0.3), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.first(x).relu())) * self.scale[0]


def test_code_of_the_users_is_run_in_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, x = used(Own()), torch.randn(5, 6)
    assert not is_kept(sampler)
    before = caveat.draws(sampler, x, n=7, seed=0)
    monkeypatch.setattr(Own, "scale", [2.0])
    torch.testing.assert_close(caveat.draws(sampler, x, n=7, seed=0), 2 * before)


def test_a_predicate_of_the_users_is_asked_in_every_call() -> None:
    chosen = ["3"]
    sampler, x = used(mlp(), live=lambda path, module: path in chosen), torch.randn(5, 6)
    assert not is_kept(sampler)
    chosen.append("6")
    assert_as_fresh(sampler, x)
    assert is_kept(used(mlp(), live=caveat.paths("3")))


def test_a_function_of_the_users_within_a_layer_of_torchs_is_run_in_every_call() -> None:
    factor = [1.0]
    layer = nn.TransformerEncoderLayer(6, 2, 12, 0.2, activation=lambda x: F.relu(x) * factor[0], batch_first=True)
    sampler, x = used(nn.Sequential(layer).eval(), (4, 6)), torch.randn(5, 4, 6)
    assert not is_kept(sampler)
    factor[0] = 3.0
    assert_as_fresh(sampler, x)


def test_what_was_given_out_stays() -> None:
    model, x = mlp(), torch.randn(5, 6)
    sampler = used(model)
    values, pred = caveat.draws(sampler, x, n=7, seed=0), caveat.predict(sampler, x, n=7, seed=0)
    mean = sampler_of(model, output=caveat.Mean())
    means = [caveat.predict(mean, x, n=7, seed=0) for _ in range(4)]
    before = values.clone(), caveat.predict(sampler_of(model), x, n=7, seed=0).mean.clone()
    for seed in range(3):
        caveat.draws(sampler, torch.randn(5, 6), n=7, seed=seed)
        caveat.predict(mean, torch.randn(5, 6), n=7, seed=seed)
    assert torch.equal(values, before[0])
    assert torch.equal(pred.mean, before[1])
    assert all(torch.equal(one.mean, means[0].mean) for one in means)


def test_code_that_is_made_while_running_is_not_kept() -> None:
    traced = torch.fx.symbolic_trace(Own())
    assert not is_kept(used(traced))


def test_a_class_that_is_patched_between_calls_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, x = used(mlp()), torch.randn(5, 6)
    assert is_kept(sampler)
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: F.linear(x, 2 * self.weight, self.bias))
    assert_as_fresh(sampler, x)


def test_a_wide_output_whose_chunks_have_one_length_gives_the_same_digits() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 5000)).eval()
    sampler, x = sampler_of(model), torch.randn(8, 6)
    found = [caveat.predict(sampler, x, n=25, seed=1).mean for _ in range(5)]
    assert all(torch.equal(one, found[0]) for one in found)
    assert not is_kept(sampler)


def test_gradients_flow_past_a_kept_program() -> None:
    sampler = used(mlp())
    x = torch.randn(5, 6, requires_grad=True)
    caveat.draws(sampler, x, n=7, gradient=True).sum().backward()
    assert x.grad is not None
    assert not caveat.draws(sampler, x, n=7).requires_grad


def test_precision_of_autocast_is_followed() -> None:
    sampler, x = used(mlp()), torch.randn(5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        low = caveat.draws(sampler, x, n=7, seed=9)
        torch.testing.assert_close(low, caveat.draws(sampler_of(sampler.model), x, n=7, seed=9))
    assert low.dtype == torch.bfloat16
    with torch.inference_mode():
        assert_as_fresh(sampler, x)
    assert_as_fresh(sampler, x)


def test_one_tensor_given_twice_is_told_from_two() -> None:
    torch.manual_seed(4)
    sampler = sampler_of(nn.TransformerDecoderLayer(6, 2, 12, 0.2, batch_first=True).eval(), output=caveat.Mean())
    x, other = torch.randn(5, 4, 6), torch.randn(5, 4, 6)
    for pair in ((x, x), (x, x), (x, other), (other, other), (other, x), (x, x)):
        expected = caveat.draws(sampler_of(sampler.model, output=caveat.Mean()), pair, n=7, seed=9)
        torch.testing.assert_close(caveat.draws(sampler, pair, n=7, seed=9), expected, rtol=1e-6, atol=1e-6)
    assert is_kept(sampler)


@pytest.mark.parametrize("strata", [None, 4])
def test_few_masks_are_kept_for_the_last_seed(strata: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = mlp(), torch.randn(5, 6)
    sampler, found = used(model, strata=strata), dict[tuple[int, int], Tensor]()
    for seed, n in ((3, 7), (3, 7), (3, 20), (4, 20), (4, 20), (3, 20), (3, 7), (4, 7)):
        values = caveat.draws(sampler, x, n=n, seed=seed)
        assert torch.equal(values, found.setdefault((seed, n), values))
        expected = caveat.draws(sampler_of(model, strata=strata), x, n=n, seed=seed)
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
    assert kept_masks(sampler) == 2
    monkeypatch.setattr("caveat.samplers._kept_programs._MASK_BYTES", 100)
    assert torch.equal(caveat.draws(sampler, x, n=7, seed=4), found[4, 7])
    assert kept_masks(sampler) == 0


def kept_masks(sampler: MCDropout[Any]) -> int:
    """Returns the number of sites whose masks are held."""
    (kept,) = (kept for kept in sampler._programs._kept.values() if kept is not None)
    return len(kept.source._blocks)


def test_a_copy_of_a_network_is_its_own() -> None:
    sampler, x = used(mlp()), torch.randn(5, 6)
    for again in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        write_weights(again.model)
        assert_as_fresh(again, x)
        assert_as_fresh(sampler, x)


def test_threads_do_not_write_on_each_others_values() -> None:
    sampler = used(mlp())
    batches = [torch.randn(5, 6) for _ in range(4)]
    expected = [caveat.draws(sampler_of(sampler.model), x, n=30, seed=0) for x in batches]
    wrong: list[int] = []

    def ask(at: int) -> None:
        for _ in range(40):
            if not torch.allclose(caveat.draws(sampler, batches[at], n=30, seed=0), expected[at], atol=1e-5):
                wrong.append(at)

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_interrupted_call_leaves_no_half_filled_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from caveat._engine import Tape

    sampler, x = used(mlp()), torch.randn(5, 6)

    def struck(self: Tape, *args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tape, "play", struck)
        with pytest.raises(KeyboardInterrupt):
            caveat.draws(sampler, x, n=7)
    assert_as_fresh(sampler, x)


def test_nothing_is_left_to_the_collector_that_refers_to_a_parameter() -> None:
    """Else torch could not swap it for another, as ``network.to(...)`` does where that is asked for."""
    gc.collect()
    gc.disable()
    try:
        model = mlp()
        sampler = used(model)
        assert is_kept(sampler)
        assert [weakref.getweakrefcount(parameter) for parameter in model.parameters()] == [0] * 6
    finally:
        gc.enable()
