"""MC batch normalization, test-time augmentation, snapshots and SWAG against truths that can be worked out."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat import samplers

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def normalized() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 2))


def walk(network: nn.Module, steps: int) -> list[dict[str, Tensor]]:
    generator, moving, found = torch.Generator().manual_seed(2), copy.deepcopy(network), []
    for _ in range(steps):
        with torch.no_grad():
            for parameter in moving.parameters():
                parameter += torch.randn(parameter.shape, generator=generator)
        found.append(copy.deepcopy(moving.state_dict()))
    return found


def test_batch_normalization_of_a_mini_batch_is_that_of_train_mode() -> None:
    """A training mini-batch under its own statistics gives what the network in train mode gives on it."""
    network = normalized()
    data = torch.randn(7, 4, generator=torch.Generator().manual_seed(2))
    sampler = samplers.mc_batch_norm(network, data, output=caveat.Mean(), batch_size=6)
    from caveat._seeds import generator_of

    values = caveat.draws(sampler, data, 3, seed=4)
    for draw in range(3):
        chosen = torch.randperm(7, generator=generator_of(4, draw, "mini-batch"))[:6]
        with torch.no_grad():
            truth = copy.deepcopy(network).train()(data[chosen])
        torch.testing.assert_close(values[draw][chosen], truth, rtol=1e-4, atol=1e-5)


def test_smaller_batches_are_less_certain() -> None:
    network, data = normalized(), torch.randn(400, 4, generator=torch.Generator().manual_seed(2))
    spread = [
        caveat.predict(samplers.mc_batch_norm(network, data, output=caveat.Mean(), batch_size=size), X, 50).variance
        for size in (8, 128)
    ]
    assert float(spread[0].mean()) > 3 * float(spread[1].mean())


def test_data_of_mc_batch_norm_may_be_a_loader() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    network, data = normalized(), torch.randn(40, 4)
    loader = DataLoader(TensorDataset(data, torch.zeros(40)), batch_size=8)
    ways = [samplers.mc_batch_norm(network, d, output=caveat.Mean(), batch_size=8) for d in (data, loader, (data,))]
    values = [caveat.draws(way, X, 5) for way in ways]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_bad_arguments_of_mc_batch_norm_are_named() -> None:
    with pytest.raises(caveat.NothingRandomError, match=r"never calls F\.batch_norm"):
        samplers.mc_batch_norm(nn.Linear(4, 2), X, output=caveat.Mean(), batch_size=3)
    for size in (1, 6, 0):
        with pytest.raises(caveat.CaveatError, match="batch_size"):
            samplers.mc_batch_norm(normalized(), X, output=caveat.Mean(), batch_size=size)
    with pytest.raises(caveat.CaveatError, match="rows can be chosen"):
        samplers.mc_batch_norm(normalized(), iter([X]), output=caveat.Mean())
    with pytest.raises(caveat.CaveatError, match="Module"):
        samplers.mc_batch_norm(X, normalized(), output=caveat.Mean())  # type: ignore[arg-type]


def test_augmentation_of_a_linear_network_has_the_variance_of_its_weights() -> None:
    """Var[w (x + s z)] = s^2 |w|^2 for standard normal z."""
    network = nn.Linear(4, 1)

    def noise(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + 0.5 * torch.randn(x.shape[1:], generator=generator)

    pred = caveat.predict(samplers.test_time_augmentation(network, noise, output=caveat.Mean()), X, 4000)
    truth = 0.25 * float(network.weight.detach().square().sum())
    torch.testing.assert_close(pred.variance, torch.full((6, 1), truth), rtol=0.1, atol=0)
    torch.testing.assert_close(pred.mean, network(X).detach(), rtol=0, atol=4 * (truth / 4000) ** 0.5)


@pytest.mark.parametrize("own", [True, False], ids=["its generator", "the global state"])
def test_augmentations_of_each_row_are_seen_on_rows_that_stay(own: bool) -> None:
    """Zeros that are scaled are zeros, whatever random numbers the other rows get."""

    def scale(x: Tensor, generator: torch.Generator) -> Tensor:
        return x * (1 + torch.randn(len(x), 1, generator=generator if own else None))

    x = X.clone()
    x[-2:] = 0
    for zeros in (x, torch.zeros_like(x)):
        sampler = samplers.test_time_augmentation(nn.Linear(4, 1), scale, output=caveat.Mean())
        caveat.draws(sampler, zeros, 1)  # what is found on zeros is kept
        torch.testing.assert_close(caveat.draws(sampler, x, 8)[:, 2:3], caveat.draws(sampler, x[2:3], 8))


def test_bad_augmentations_are_named() -> None:
    network = nn.Linear(4, 1)
    for augment in (lambda x, g: x.repeat(2, 1), lambda x, g: None):
        with pytest.raises(caveat.CaveatError, match="as many rows"):
            caveat.predict(samplers.test_time_augmentation(network, augment, output=caveat.Mean()), X, 3)
    with pytest.raises(caveat.CaveatError, match="augment must be a function"):
        samplers.test_time_augmentation(network, 3, output=caveat.Mean())  # type: ignore[arg-type]
    with pytest.raises(caveat.CaveatError, match="Module"):
        samplers.test_time_augmentation(lambda x: x, lambda x, g: x, output=caveat.Mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [0, 2, 5])
def test_swag_weights_have_the_mean_and_covariance_of_the_paper(rank: int) -> None:
    """Sigma = (Sigma_diag + D D^T / (K - 1)) / 2, with D the last K deviations from the running mean."""
    network = nn.Linear(2, 1, bias=False)
    states = walk(network, 8)
    sampler = samplers.swag(network, states, output=caveat.Mean(), rank=rank)
    path = torch.stack([state["weight"].flatten().double() for state in states])
    covariance = torch.diag(path.var(0, correction=0)) / 2
    if rank:
        running = path.cumsum(0) / torch.arange(1, 9)[:, None]
        last = (path - running)[-rank:]
        covariance += last.T @ last / (rank - 1) / 2
    drawn = torch.stack([sampler.weights(0, draw)["weight"].flatten().double() for draw in range(6000)])
    scale = covariance.diagonal().max().sqrt()
    torch.testing.assert_close(drawn.mean(0), path.mean(0), rtol=0, atol=float(5 * scale / 6000**0.5))
    torch.testing.assert_close(drawn.T.cov(), covariance, rtol=0.1, atol=0.05 * float(scale**2))


def test_swag_takes_statistics_under_each_draws_weights() -> None:
    """With scale 0 the weights are the mean, and the statistics those of the data under them."""
    network, data = normalized(), torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    sampler = samplers.swag(network, walk(network, 4), output=caveat.Mean(), scale=0.0, data=data, batch_size=50)
    truth = copy.deepcopy(sampler.model).train()
    for module in truth.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        truth(data)
        expected = truth.eval()(X)
    torch.testing.assert_close(caveat.draws(sampler, X, 1)[0], expected, rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(4, 3)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.last(x.flip(1))


class Listed(nn.Module):
    """A parameter that a list and a closure hold as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)
        self.held = ([self.first.weight], (self.last.weight,))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.held[0][0].T) @ self.held[1][0].T


class Recurrent(nn.Module):
    """torch's own layer that keeps its parameters in a list, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(1, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.unsqueeze(-1))[0][:, -1]


@pytest.mark.parametrize("kind", [Tied, Listed, Recurrent])
def test_swag_moves_a_parameter_wherever_it_is_held(kind: type[nn.Module]) -> None:
    network = kind().eval()
    sampler = samplers.swag(network, walk(network, 4), output=caveat.Mean())
    values = caveat.draws(sampler, X, 4)
    for draw in range(4):
        twin = kind().eval()
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                parameter.copy_(sampler.weights(0, draw)[name])
            torch.testing.assert_close(values[draw], twin(X))


def test_bad_arguments_of_swag_are_named() -> None:
    network = nn.Linear(4, 2)
    good: Any = {"output": caveat.Mean()}
    for snapshots, said in (([], "0 update"), (walk(network, 1), "1 update"), (3, "SwagMoments")):
        with pytest.raises(caveat.CaveatError, match=said):
            samplers.swag(network, snapshots, **good)  # type: ignore[arg-type]
    with pytest.raises(caveat.CaveatError, match=r"another network|does not fit"):
        samplers.swag(network, walk(nn.Linear(3, 2), 3), **good)
    with pytest.raises(caveat.CaveatError, match="rank"):
        samplers.swag(network, walk(network, 3), rank=-1, **good)
    with pytest.raises(caveat.CaveatError, match="scale"):
        samplers.swag(network, walk(network, 3), scale=-1.0, **good)
    with pytest.raises(caveat.CaveatError, match="needs data"):
        samplers.swag(normalized(), walk(normalized(), 3), **good)
    broken = copy.deepcopy(network)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(caveat.CaveatError, match="not finite"):
        samplers.SwagMoments(network).update(broken)


def test_snapshots_from_a_folder_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    network = nn.Linear(4, 2)
    states = walk(network, 11)
    for epoch, state in enumerate(states):
        torch.save({"state_dict": state, "epoch": epoch}, tmp_path / f"epoch_{epoch}.pt")
    folder = samplers.snapshots(tmp_path, model=network, output=caveat.Mean())
    given = samplers.snapshots(states, model=network, output=caveat.Mean())
    torch.testing.assert_close(caveat.draws(folder, X), caveat.draws(given, X))
    last = samplers.snapshots(tmp_path, model=network, output=caveat.Mean(), last=2)
    torch.testing.assert_close(caveat.draws(last, X), caveat.draws(given, X)[-2:])


@pytest.mark.parametrize("prefix", ["model.", "module.", "net._orig_mod."])
def test_checkpoints_of_wrapped_networks(tmp_path: Path, prefix: str) -> None:
    """Lightning, DataParallel and torch.compile put a prefix before every name, and hold other things besides."""
    network = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    states = walk(network, 3)
    for epoch, state in enumerate(states):
        wrapped = {**{prefix + name: value for name, value in state.items()}, "loss.weight": torch.ones(2)}
        torch.save({"state_dict": wrapped, "epoch": epoch}, tmp_path / f"epoch={epoch}.ckpt")
    folder = samplers.snapshots(tmp_path, model=network, output=caveat.Mean())
    given = samplers.snapshots(states, model=network, output=caveat.Mean())
    torch.testing.assert_close(caveat.draws(folder, X), caveat.draws(given, X))


def test_a_checkpoint_of_two_networks_has_to_say_which() -> None:
    network = nn.Linear(4, 2)
    both = {prefix + name: value for name, value in network.state_dict().items() for prefix in ("model.", "ema.")}
    with pytest.raises(caveat.CaveatError, match=r"'ema\.', 'model\.'(?s:.*)Fix:"):
        samplers.snapshots([both], model=network, output=caveat.Mean())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("last.ckpt", r"torch\.load\('last\.ckpt', weights_only=True\)\['state_dict'\](?s:.*)removeprefix"),
        (Path("last.pt"), r"load_state_dict\(torch\.load\('last\.pt', weights_only=True\)\)"),
        ("last.safetensors", r"load_state_dict\(safetensors\.torch\.load_file\('last\.safetensors'\)\)"),
        ("bert-base-uncased", "from_pretrained"),
    ],
)
def test_paths_in_place_of_networks(path: Any, said: str) -> None:
    output: Any = {"output": caveat.Mean()}
    calls: list[Any] = [
        lambda: caveat.ensemble(path, **output),
        lambda: caveat.ensemble([nn.Linear(4, 2), path], **output),
        lambda: caveat.mixture([path]),
        lambda: samplers.deterministic(path, **output),
        lambda: samplers.swag(path, [], **output),
        lambda: samplers.SwagMoments(path),
        lambda: samplers.mc_batch_norm(path, X, **output),
        lambda: samplers.test_time_augmentation(path, lambda x, g: x, **output),
        lambda: samplers.gaussian_process_head(path, **output),
        lambda: caveat.fit(path, nn.MSELoss(), (X, X)),
        lambda: caveat.fit_ensemble(path, nn.MSELoss(), (X, X), members=2),
        lambda: caveat.insert_dropout(path, 0.1, after=lambda name, module: True),
        lambda: caveat.layers.update_precision(path, X),
    ]
    for call in calls:
        with pytest.raises(caveat.errors.InvalidArgumentError, match=f"(?s)Got: the path .*Fix: build .*{said}"):
            call()


def test_bad_snapshots_are_named(tmp_path: Path) -> None:
    network = nn.Linear(4, 2)
    (tmp_path / "cut.pt").write_bytes(b"PK")
    cases: list[tuple[Any, Any, str]] = [
        ([], network, "none"),
        (walk(network, 2), None, "and no network"),
        (walk(nn.Linear(3, 2), 2), network, "does not fit a Linear"),
        ([tmp_path / "cut.pt"], network, r"cut\.pt"),
        (tmp_path / "missing", network, "no folder"),
        (network.state_dict(), network, "a list of them"),
    ]
    for checkpoints, template, said in cases:
        with pytest.raises(caveat.CaveatError, match=said):
            samplers.snapshots(checkpoints, model=template, output=caveat.Mean())


class OfTheUsers(nn.Module):
    """A network of a class of its own, whose attributes a sampler watches."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = normalized()

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + torch.rand(1, generator=generator)


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("kind", ["mc_batch_norm", "swag", "test_time_augmentation", "deterministic"])
def test_copied_and_pickled_samplers_draw_the_same(kind: str, used: bool) -> None:
    network, output = OfTheUsers(), caveat.Mean()
    sampler: Any = {
        "mc_batch_norm": lambda: samplers.mc_batch_norm(network, X, output=output, batch_size=4),
        "swag": lambda: samplers.swag(network, walk(network, 3), output=output, data=X),
        "test_time_augmentation": lambda: samplers.test_time_augmentation(network, _shifted, output=output),
        "deterministic": lambda: samplers.deterministic(network, output=output),
    }[kind]()
    n = 1 if kind == "deterministic" else 3
    if used:
        caveat.draws(sampler, X, n)
    copies = copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))
    expected = caveat.draws(sampler, X, n)
    for one in copies:
        torch.testing.assert_close(caveat.draws(one, X, n), expected)
