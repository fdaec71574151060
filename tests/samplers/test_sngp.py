"""SNGP: bounded layers, random features, and a head whose draws are functions of the Laplace posterior."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.layers import (
    RandomFeatureGaussianProcess,
    ResidualBlock,
    spectral_normalized,
    update_precision,
)
from caveat.samplers import deterministic, gaussian_process_head, mixture
from caveat.testing import check_sampler

NOISE = 0.01


def network(outputs: int = 1, **settings: object) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [ResidualBlock(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.1))) for _ in range(2)]
    spectral_normalized(nn.ModuleList(blocks))
    head = RandomFeatureGaussianProcess(16, outputs, features=128, **{"length_scale": 2.0, **settings})  # type: ignore[arg-type]
    return nn.Sequential(nn.Linear(1, 16), *blocks, head)


def curve() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(200, 1, generator=generator) * 6 - 3
    return x, x.sin() + 0.1 * torch.randn(200, 1, generator=generator)


def trained() -> nn.Sequential:
    model, (x, y) = network(curvature=NOISE), curve()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    update_precision(model, x)
    return model


@pytest.fixture(scope="module")
def regression() -> nn.Sequential:
    return trained()


def sampler_of(model: nn.Module, **settings: object) -> caveat.samplers.Sampler:
    return gaussian_process_head(model, output=caveat.Mean(noise_variance=NOISE), **settings)  # type: ignore[arg-type]


# -- the head ----------------------------------------------------------------------------------------------------------


def test_inner_products_of_features_are_near_the_kernel() -> None:
    """k(a, b) = exp(-|a - b|^2 / 2 l^2); the error of F features is about 1 / sqrt(F)."""
    generator = torch.Generator().manual_seed(0)
    head = RandomFeatureGaussianProcess(3, 1, features=20_000, length_scale=1.5, generator=generator)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    f = head.random_features(x)
    kernel = torch.exp(-torch.cdist(x, x).square() / (2 * 1.5**2))
    assert (f @ f.mT - kernel).abs().max() < 0.035


@pytest.mark.parametrize(
    ("curvature", "kinds"), [(0.5, 1), ("softmax", 3), ("logistic", 3), (lambda outputs: outputs[:, :1] * 0 + 2, 1)]
)
def test_precision_is_the_sum_over_rows(curvature: object, kinds: int) -> None:
    """precision_k = ridge I + sum_n h_nk f_n f_n^T, written out; batches of any size give the same."""
    torch.manual_seed(0)
    head = RandomFeatureGaussianProcess(2, 3, features=20, ridge=0.7, curvature=curvature)  # type: ignore[arg-type]
    nn.init.normal_(head.weight)
    x = torch.randn(11, 2)
    update_precision(head, x, batch_size=4)
    f, outputs = head.random_features(x).detach(), head(x).detach()
    for k in range(kinds):
        if curvature == "softmax":
            h = outputs.softmax(-1)[:, k] * (1 - outputs.softmax(-1)[:, k])
        elif curvature == "logistic":
            h = outputs.sigmoid()[:, k] * (1 - outputs.sigmoid()[:, k])
        else:
            h = torch.full((11,), 2.0)
        expected = 0.7 * torch.eye(20) + sum(h[n] * torch.outer(f[n], f[n]) for n in range(11))
        torch.testing.assert_close(head.precision[k].float(), expected, rtol=1e-4, atol=1e-5)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x), batch_size=5)
    before = head.precision.clone()
    update_precision(head, loader)
    torch.testing.assert_close(head.precision, before)
    assert int(head.rows_seen) == 11


def test_a_last_epoch_in_train_mode_builds_the_same_precision() -> None:
    torch.manual_seed(0)
    head, x = RandomFeatureGaussianProcess(2, 1, features=16, curvature=1.0), torch.randn(12, 2)
    head.reset_precision()
    head.train()
    for batch in x.split(5):
        head(batch)
    gathered = head.precision.clone()
    head.eval()
    head(x)
    torch.testing.assert_close(head.precision, gathered)
    update_precision(head, x)
    torch.testing.assert_close(head.precision, gathered)


def test_posterior_is_bayesian_linear_regression() -> None:
    """Var f(x) = f(x)^T (ridge I + F^T F / s^2)^-1 f(x), and the trained weights play no part in it."""
    torch.manual_seed(0)
    head = RandomFeatureGaussianProcess(1, 2, features=30, ridge=0.5, curvature=0.04).double()
    x, at = torch.randn(25, 1).double(), torch.linspace(-4, 4, 7)[:, None].double()
    update_precision(head, x)
    f, g = head.random_features(x), head.random_features(at)
    covariance = torch.linalg.inv(0.5 * torch.eye(30).double() + f.mT @ f / 0.04)
    expected = (g @ covariance * g).sum(-1, keepdim=True).expand(-1, 2)
    torch.testing.assert_close(head.posterior_variance(at), expected)


def test_draws_have_the_posterior_variance_and_covariance(regression: nn.Sequential) -> None:
    """8000 draws: a standard deviation is known to 0.8 %; correlations between rows are those of the posterior."""
    at = torch.tensor([[-1.0], [0.0], [0.2], [6.0]])
    drawn = caveat.draws(sampler_of(regression), at, n=8000)[..., 0].double()
    regression.eval()
    head, features = regression[-1], regression[:-1](at).detach()
    variance = head.posterior_variance(features)[:, 0].detach().double()
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.07, atol=0)
    f = head.random_features(features).double()
    covariance = f @ torch.linalg.inv(head.precision[0]) @ f.mT
    found = torch.cov(drawn.mT)
    correlation = covariance[1, 2] / (covariance[1, 1] * covariance[2, 2]).sqrt()
    assert (found[1, 2] / (found[1, 1] * found[2, 2]).sqrt()).item() == pytest.approx(correlation.item(), abs=0.03)
    assert correlation > 0.5
    torch.testing.assert_close(drawn.mean(0), regression(at)[:, 0].detach().double(), atol=0.05, rtol=0)


def test_epistemic_variance_grows_far_from_the_data(regression: nn.Sequential) -> None:
    sampler = sampler_of(regression)
    inside = caveat.predict(sampler, torch.linspace(-2.5, 2.5, 21)[:, None], n=300)
    outside = caveat.predict(sampler, torch.tensor([[-9.0], [-6.0], [6.0], [9.0]]), n=300)
    assert outside.epistemic_variance.sqrt().min() > 5 * inside.epistemic_variance.sqrt().max()
    assert ((inside.mean - torch.linspace(-2.5, 2.5, 21)[:, None].sin()).abs() < 0.2).all()


def test_classification_is_unsure_far_away() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(100, 2) - 3, torch.randn(100, 2) + 3])
    y = torch.arange(200) // 100
    head = RandomFeatureGaussianProcess(2, 2, features=256, length_scale=3.0, curvature="softmax")
    optimizer = torch.optim.Adam(head.parameters(), 0.1, weight_decay=1 / 200)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(x), y).backward()
        optimizer.step()
    update_precision(head, x)
    at = torch.tensor([[3.0, 3.0], [40.0, -60.0]])
    pred = caveat.predict(gaussian_process_head(head, output=caveat.Logits()), at, n=400)
    information = caveat.mutual_information(pred)
    assert pred.mean[0, 1] > 0.9
    assert information[1] > 3 * information[0]
    # The mean-field formula is near the mean of 400 draws, whose standard error is at most 0.5 / sqrt(400).
    torch.testing.assert_close(head.eval().mean_field_probabilities(at), pred.mean, atol=0.08, rtol=0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_passes_the_kit(outputs: int) -> None:
    curvature = NOISE if outputs == 1 else "softmax"
    model, x = network(outputs, curvature=curvature), curve()[0]
    update_precision(model, x)
    output = caveat.Mean() if outputs == 1 else caveat.Logits()
    variants = {way: gaussian_process_head(model, output=output, backend=way) for way in ("loop", "vectorized")}
    variants["chunks of 5"] = gaussian_process_head(model, output=output, chunk=5)
    assert model.training
    check_sampler(gaussian_process_head(model, output=output), x[:5], n=8, variants=variants)


def test_dropout_of_the_trunk_is_off_unless_asked_for(regression: nn.Sequential) -> None:
    inside = torch.linspace(-2, 2, 5)[:, None]
    both = gaussian_process_head(regression, output=caveat.Mean(), live=caveat.all_dropout)
    alone, together = (caveat.predict(s, inside, n=500).epistemic_variance for s in (sampler_of(regression), both))
    assert (together > alone).all()
    check_sampler(both, curve()[0][:4], n=6)


def test_a_mixture_with_the_mean_leaves_the_mean_alone(regression: nn.Sequential) -> None:
    """Two samplers of one network, bound at the same time: the deterministic one never draws."""
    sampler = sampler_of(regression)
    plain = deterministic(regression, output=caveat.Mean(noise_variance=NOISE))
    x = torch.tensor([[0.0], [8.0]])
    with sampler.bind(x, 0) as first, plain.bind(x, 0) as second:
        drawing = next(iter(first(range(1))))
        mean = next(iter(second(range(1))))
    torch.testing.assert_close(mean[0], regression.eval()(x).detach())
    assert not torch.equal(drawing, mean)
    regression.train()
    assert callable(mixture)


def test_a_rebuilt_precision_is_noticed() -> None:
    head = RandomFeatureGaussianProcess(1, 1, features=32, curvature=0.1)
    update_precision(head, torch.zeros(2, 1))
    sampler = gaussian_process_head(head, output=caveat.Mean())
    before = caveat.predict(sampler, torch.zeros(1, 1), n=300).epistemic_variance.item()
    update_precision(head, torch.zeros(500, 1))
    assert caveat.predict(sampler, torch.zeros(1, 1), n=300).epistemic_variance.item() < before / 20


def test_bad_input_of_the_head_is_refused() -> None:
    for bad in ({"features": 0}, {"length_scale": 0.0}, {"ridge": -1.0}):
        with pytest.raises(caveat.CaveatError, match=r"must be (a finite number above 0|an integer of at least 1)"):
            RandomFeatureGaussianProcess(2, 1, **bad)  # type: ignore[arg-type]
    with pytest.raises(caveat.CaveatError, match="curvature must be a finite number above 0"):
        RandomFeatureGaussianProcess(2, 1, curvature=0.0)
    with pytest.raises(caveat.CaveatError, match="curvature must be one of 'softmax', 'logistic'"):
        RandomFeatureGaussianProcess(2, 1, curvature="probit")  # type: ignore[arg-type]
    head = RandomFeatureGaussianProcess(2, 1, features=8, curvature=0.1)
    with pytest.raises(caveat.CaveatError, match="update_precision"):
        gaussian_process_head(head, output=caveat.Mean())
    with pytest.raises(caveat.CaveatError, match="Gaussian-process head"):
        gaussian_process_head(nn.Linear(2, 1), output=caveat.Mean())
    with pytest.raises(caveat.CaveatError, match="Gaussian-process head"):
        update_precision(nn.Linear(2, 1), torch.zeros(3, 2))
    with pytest.raises(caveat.CaveatError, match="finite"):
        update_precision(head, torch.full((3, 2), torch.nan))
    with pytest.raises(caveat.CaveatError, match="0 rows"):
        update_precision(head, [])


def test_a_softmax_of_one_output_has_no_curvature() -> None:
    """p (1 - p) = 0 for p = 1: the posterior would be the prior, whatever the data."""
    with pytest.raises(caveat.CaveatError, match=r"curvature=0\.1"):
        update_precision(RandomFeatureGaussianProcess(2, 1, features=8), torch.zeros(3, 2))


@pytest.mark.parametrize("batches", [[torch.zeros(4, 2), torch.zeros(4, 5)], torch.full((3, 2), torch.nan)])
def test_a_failed_pass_leaves_the_precision_as_it_was(batches: object) -> None:
    head = RandomFeatureGaussianProcess(2, 1, features=8, curvature=0.1)
    update_precision(head, torch.ones(5, 2))
    before = head.precision.clone()
    with pytest.raises((caveat.CaveatError, RuntimeError)):
        update_precision(head, batches)  # type: ignore[arg-type]
    assert torch.equal(head.precision, before)
    assert int(head.rows_seen) == 5


def test_the_precision_of_a_half_precise_network_keeps_its_digits() -> None:
    """In bfloat16 a sum of 512 ones and one more is 512."""
    head = RandomFeatureGaussianProcess(2, 1, features=8, curvature=1.0).to(torch.bfloat16)
    x = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    update_precision(head, x)
    f = head.random_features(x).double()
    torch.testing.assert_close(head.precision[0], torch.eye(8).double() + f.mT @ f)
    assert caveat.draws(gaussian_process_head(head, output=caveat.Mean()), x[:3], 4).dtype == torch.bfloat16


def test_a_precision_made_less_precise_is_named() -> None:
    head = RandomFeatureGaussianProcess(2, 1, features=64, curvature=1e-6)
    update_precision(head, torch.randn(300, 2))
    head.half()
    with pytest.raises(caveat.CaveatError, match="positive definite"):
        head.factor()


def test_a_head_takes_one_vector_a_row() -> None:
    head = RandomFeatureGaussianProcess(8, 3, features=16)
    with pytest.raises(caveat.CaveatError, match="one vector a row"):
        update_precision(head, torch.zeros(3, 5, 8))


def test_a_head_of_inference_mode_draws() -> None:
    with torch.inference_mode():
        head = RandomFeatureGaussianProcess(2, 1, features=16, curvature=0.1)
        update_precision(head, torch.ones(3, 2))
        drawn = caveat.draws(gaussian_process_head(head, output=caveat.Mean()), torch.ones(2, 2), 3)
    assert drawn.shape == (3, 2, 1)


def test_a_sampler_sees_each_precision_that_is_built() -> None:
    """Also where the memory of the one before last is taken again."""
    head = RandomFeatureGaussianProcess(2, 1, features=16, curvature=0.1)
    update_precision(head, torch.randn(3, 2))
    sampler = gaussian_process_head(head, output=caveat.Mean())
    for rows in (4, 5, 6):
        update_precision(head, torch.randn(rows, 2))
        with gaussian_process_head(head, output=caveat.Mean()).bind(torch.ones(2, 2), 0) as fresh:
            expected = torch.cat(list(fresh(range(3))))
        assert torch.equal(caveat.draws(sampler, torch.ones(2, 2), 3), expected)


# -- the bound ---------------------------------------------------------------------------------------------------------


def operator_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The largest singular value of a layer's linear part, from its whole Jacobian."""
    x = torch.zeros(1, *shape)
    jacobian = torch.autograd.functional.jacobian(lambda at: layer(at).flatten(), x)
    return torch.linalg.matrix_norm(jacobian.reshape(jacobian.shape[0], -1), 2).item()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(7, 5), (7,)),
        (nn.Conv1d(2, 3, 5, padding=2), (2, 16)),
        (nn.Conv2d(2, 3, 3, padding="same"), (2, 16, 16)),
        (nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (2, 16, 16)),
        (nn.Conv3d(1, 2, 3), (1, 16, 16, 16)),
        (nn.Conv1d(2, 3, 5, padding=2, padding_mode="reflect"), (2, 16)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate"), (2, 16, 16)),
        (nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular"), (2, 16, 16)),
        (nn.Conv1d(2, 3, 5, padding="valid"), (2, 16)),
    ],
)
def test_the_norm_of_the_map_is_at_its_bound(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    nn.init.normal_(layer.weight)
    spectral_normalized(layer, 0.8).eval()
    if len(shape) == 4:  # the Jacobian would not fit: the Rayleigh quotient of the iteration's own vector
        x = torch.randn(1, *shape)
        for _ in range(60):
            x = x / x.norm()
            x = torch.func.vjp(lambda at: layer(at) - layer(at * 0), x)[1](layer(x) - layer(x * 0))[0]
        norm = x.norm().sqrt().item()
    else:
        norm = operator_norm(layer, shape)
    assert norm == pytest.approx(0.8, rel=0.02)


def test_a_small_weight_is_left_as_it_is() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.mul_(0.1)
    before = layer.weight.detach().clone()
    torch.testing.assert_close(spectral_normalized(layer, 0.95).weight, before)


def test_the_bound_holds_after_training_that_pushes_against_it() -> None:
    torch.manual_seed(0)
    layer = spectral_normalized(nn.Linear(8, 8), 0.9)
    x, optimizer = torch.randn(64, 8), torch.optim.Adam(layer.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(x), 5 * x).backward()
        optimizer.step()
    assert operator_norm(layer.eval(), (8,)) < 0.9 * 1.15  # all eight singular values tie here: the slowest case


def test_nothing_moves_in_eval_mode_and_the_network_copies_and_saves() -> None:
    torch.manual_seed(0)
    model = spectral_normalized(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model(torch.ones(1, 4))
    assert torch.equal(first, model(torch.ones(1, 4)))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    other = copy.deepcopy(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(torch.ones(1, 4)), first)


def test_residual_blocks_keep_distances() -> None:
    """(1 - c) |a - b| <= |block(a) - block(b)| <= (1 + c) |a - b| for a branch of norm c, ReLU included."""
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    nn.init.normal_(branch[0].weight)
    block = ResidualBlock(spectral_normalized(branch, 0.9)).eval()
    a, b = torch.randn(500, 6), torch.randn(500, 6)
    ratio = (block(a) - block(b)).norm(dim=-1) / (a - b).norm(dim=-1)
    assert ratio.min() > 0.1 * 0.98
    assert ratio.max() < 1.9 * 1.02


def test_bad_input_of_the_bound_is_refused() -> None:
    with pytest.raises(caveat.CaveatError, match="bound must be a finite number above 0"):
        spectral_normalized(nn.Linear(2, 2), 0.0)
    with pytest.raises(caveat.CaveatError, match="to bound"):
        spectral_normalized(nn.ReLU())
    with pytest.raises(caveat.CaveatError, match="to bound"):
        spectral_normalized(nn.Linear(2, 2), where=lambda path, module: False)
