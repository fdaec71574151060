"""A sampler as a BoTorch model: its moments are caveat's, a sample is one function, and acquisition functions run."""

from __future__ import annotations

import importlib.util
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.errors import OutputMismatchError
from caveat.interop._botorch import botorch_model
from caveat.interop._botorch_functions import Functions, chosen_functions, log_likelihood, weighted_moments

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # linear_operator scripts on import
installed = pytest.mark.skipif(importlib.util.find_spec("botorch") is None, reason="botorch is not installed")


def network(outputs: int = 1, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Dropout(0.2), nn.Linear(32, outputs))


def sampler(outputs: int = 1, noise: float = 0.0) -> Any:
    return caveat.mc_dropout(network(outputs), output=caveat.Mean(noise_variance=noise))


def points(*shape: int) -> Tensor:
    return torch.rand(*shape, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# ---------------------------------------------------------------------------------- the arithmetic, without BoTorch


def test_moments_of_alike_weights_are_the_unbiased_ones() -> None:
    values = torch.randn(3, 7, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, variance = weighted_moments(values, torch.full((3, 7), 1 / 7, dtype=torch.float64))
    torch.testing.assert_close(mean, values.mean(1))
    torch.testing.assert_close(variance, values.var(1))
    assert weighted_moments(values[:, :1], torch.ones(3, 1, dtype=torch.float64))[1].abs().max() == 0


def test_a_number_chooses_functions_in_proportion_to_their_weights() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    uniform = ((torch.arange(8) + 0.5) / 8)[:, None].expand(8, 2)
    index = chosen_functions(uniform, weights)
    assert index[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert index[:, 1].tolist() == [2] * 8


def test_the_likelihood_of_an_observation_is_the_normal_density() -> None:
    """Two functions, 0 and 1, noise variance 1, one observation 0: log density -log(2 pi)/2 and that less 1/2."""
    functions = Functions(torch.tensor([0.0, 1.0]).reshape(2, 1, 1), torch.ones(2, 1, 1))
    found = log_likelihood(functions, torch.zeros(1, 1, 1))
    assert found[0].tolist() == pytest.approx([-0.5 * math.log(2 * math.pi), -0.5 * math.log(2 * math.pi) - 0.5])
    with pytest.raises(caveat.CaveatError, match="noise"):
        log_likelihood(Functions(functions.values, torch.zeros(2, 1, 1)), torch.zeros(1, 1, 1))


# ------------------------------------------------------------------------------------------------- with BoTorch


@installed
def test_mean_and_variance_are_those_of_predict() -> None:
    x, source = points(3, 4), sampler(noise=0.3)
    pred = caveat.predict(source, x.reshape(-1, 2).float(), n=50, seed=7)
    posterior = botorch_model(source, n=50, seed=7).posterior(x)
    assert posterior.mean.shape == posterior.variance.shape == (3, 4, 1)
    assert posterior.mean.dtype == torch.float64
    torch.testing.assert_close(posterior.mean.reshape(-1, 1), pred.mean.double(), rtol=1e-5, atol=1e-6)
    epistemic = pred.epistemic_variance.double()
    torch.testing.assert_close(posterior.variance.reshape(-1, 1), epistemic, rtol=1e-4, atol=1e-7)
    noisy = botorch_model(source, n=50, seed=7).posterior(x, observation_noise=True)
    torch.testing.assert_close(noisy.variance.reshape(-1, 1), pred.variance.double(), rtol=1e-4, atol=1e-7)


@installed
def test_a_sample_is_one_function_at_all_points_of_all_sets() -> None:
    from botorch.sampling.normal import SobolQMCNormalSampler

    source, x = sampler(), points(5, 3)
    model = botorch_model(source, n=8, seed=3)
    own = caveat.draws(source, x.reshape(-1, 2).float(), 8, seed=3).reshape(8, 5, 3, 1).double()
    drawn = SobolQMCNormalSampler(torch.Size([8]), seed=0)(model.posterior(x))
    assert drawn.shape == (8, 5, 3, 1)
    which = [[bool(torch.allclose(one, function)) for function in own].index(True) for one in drawn]
    assert sorted(which) == list(range(8))  # as many quasi-random samples as functions: each of them once
    free = model.posterior(x).rsample(torch.Size([40]))
    assert all(any(torch.allclose(one, function) for function in own) for one in free)
    assert model.posterior(x[0]).rsample().shape == (1, 3, 1)


@installed
def test_a_set_is_worth_the_same_wherever_it_stands() -> None:
    from botorch.acquisition.logei import qLogExpectedImprovement

    acquisition = qLogExpectedImprovement(botorch_model(sampler(), n=32), best_f=0.1)
    x = points(4, 2)
    together = acquisition(x)
    apart = torch.cat([acquisition(one[None]) for one in x])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)


@installed
def test_gradients_are_those_of_finite_differences() -> None:
    from botorch.acquisition.analytic import LogExpectedImprovement
    from botorch.acquisition.logei import qLogExpectedImprovement

    source = caveat.mc_dropout(network().double(), output=caveat.Mean())
    model, x = botorch_model(source, n=16), points(1, 1).requires_grad_()
    for acquisition in (LogExpectedImprovement(model, best_f=0.0), qLogExpectedImprovement(model, best_f=0.0)):
        assert torch.autograd.gradcheck(acquisition, x, eps=1e-5, atol=1e-4)
    assert all(weight.grad is None for weight in source.model.parameters())


@installed
def test_acquisition_functions_are_climbed_by_optimize_acqf() -> None:
    """What is found is at least as good as the best of 100 random sets."""
    from botorch.acquisition import analytic, logei, monte_carlo
    from botorch.acquisition.knowledge_gradient import qKnowledgeGradient
    from botorch.optim import optimize_acqf

    model = botorch_model(sampler(noise=0.01), n=32)
    bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    baseline = points(5)
    tried: list[tuple[Any, int]] = [
        (analytic.LogExpectedImprovement(model, best_f=0.0), 1),
        (analytic.UpperConfidenceBound(model, beta=1.0), 1),
        (analytic.PosteriorMean(model.function(3)), 1),
        (monte_carlo.qUpperConfidenceBound(model, beta=1.0), 2),
        (logei.qLogExpectedImprovement(model, best_f=0.0), 2),
        (logei.qLogNoisyExpectedImprovement(model, X_baseline=baseline, cache_root=False), 2),
        (qKnowledgeGradient(model, num_fantasies=4), 1),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's and BoTorch's words on how a short optimization ended
        for acquisition, q in tried:
            options = {"maxiter": 20}
            found, value = optimize_acqf(acquisition, bounds, q, num_restarts=3, raw_samples=64, options=options)
            assert found.shape == (q, 2)
            width = q + (4 if isinstance(acquisition, qKnowledgeGradient) else 0)
            with torch.no_grad():
                best = acquisition(points(100, width)).max()
            assert float(value) >= float(best) - 1e-3, type(acquisition).__name__


@installed
def test_thompson_samples_are_the_best_points_of_single_functions() -> None:
    from botorch.generation.sampling import MaxPosteriorSampling

    model, x = botorch_model(sampler(), n=8), points(1, 50)
    best = {int(index) for index in model.posterior(x).values[0, :, :, 0].argmax(-1)}
    chosen = MaxPosteriorSampling(model)(x, num_samples=20)
    assert chosen.shape == (1, 20, 2)
    assert {int((x[0] == one).all(-1).nonzero()[0]) for one in chosen[0]} <= best


@installed
def test_conditioning_weighs_functions_by_their_likelihood() -> None:
    source, x = sampler(noise=0.05), points(1, 1)
    model = botorch_model(source, n=20, seed=1)
    values = model.posterior(x).values[0, :, 0, 0]
    y = values[4].reshape(1, 1, 1).expand(3, 1, 1, 1) + torch.tensor([0.0, 0.2, -3.0]).reshape(3, 1, 1, 1)
    conditioned = model.condition_on_observations(x, y)
    assert conditioned.batch_shape == (3, 1)
    likely = torch.distributions.Normal(values, 0.05**0.5).log_prob(y.reshape(3, 1)).softmax(-1)
    seen = conditioned.posterior(x)
    torch.testing.assert_close(seen.mean.reshape(3), (likely * values).sum(-1))
    assert float(seen.variance.mean()) < float(model.posterior(x).variance.mean())


@installed
def test_fantasies_have_a_set_for_each_sample() -> None:
    from botorch.sampling.normal import IIDNormalSampler

    model = botorch_model(sampler(noise=0.05), n=20)
    fantasies = model.fantasize(points(2, 3), IIDNormalSampler(torch.Size([5]), seed=0))
    posterior = fantasies.posterior(points(2, 1))
    assert posterior.mean.shape == (5, 2, 1, 1)
    assert posterior.rsample(torch.Size([7])).shape == (7, 5, 2, 1, 1)


@installed
def test_several_outputs_are_scalarized_or_chosen() -> None:
    from botorch.acquisition.objective import ScalarizedPosteriorTransform

    model, x = botorch_model(sampler(2, noise=0.1), n=30, outputs=2), points(2, 3)
    assert model.num_outputs == 2
    both = model.posterior(x)
    transform = ScalarizedPosteriorTransform(torch.tensor([1.0, -2.0], dtype=torch.float64), offset=0.5)
    one = model.posterior(x, posterior_transform=transform)
    torch.testing.assert_close(one.mean, both.mean @ transform.weights[:, None] + 0.5)
    torch.testing.assert_close(model.posterior(x, output_indices=[1]).mean, both.mean[..., 1:])
    noisy = model.posterior(x, posterior_transform=transform, observation_noise=True)
    torch.testing.assert_close(noisy.variance, one.variance + 0.5)
    with pytest.raises(OutputMismatchError, match="outputs"):
        botorch_model(sampler(2), n=3).posterior(x)


@installed
def test_a_learned_noise_is_read() -> None:
    source = caveat.mc_dropout(network(2), output=caveat.MeanAndLogVariance())
    x = points(1, 4)
    pred = caveat.predict(source, x[0].float(), n=30)
    posterior = botorch_model(source, n=30).posterior(x, observation_noise=True)
    torch.testing.assert_close(posterior.variance[0], pred.variance.double(), rtol=1e-4, atol=1e-6)


@installed
def test_an_ensemble_is_all_its_members() -> None:
    members = [network(seed=seed).eval() for seed in range(4)]
    model, x = botorch_model(caveat.ensemble(members, output=caveat.Mean())), points(2, 2)
    own = torch.stack([member(x.float()) for member in members])
    torch.testing.assert_close(model.posterior(x).mean, own.mean(0).double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.function(2).posterior(x).mean, own[2].double(), rtol=1e-5, atol=1e-6)


@installed
def test_bad_input_is_refused() -> None:
    good = sampler()
    for settings in ({"n": 0}, {"n": True}, {"outputs": 0}, {"seed": 0.5}):
        with pytest.raises(caveat.CaveatError):
            botorch_model(good, **settings)  # type: ignore[arg-type]
    with pytest.raises(caveat.CaveatError, match="functions"):
        botorch_model(caveat.ensemble([network()], output=caveat.Mean()), n=2)
    with pytest.raises(OutputMismatchError, match="needs a regression"):
        botorch_model(caveat.mc_dropout(network(3), output=caveat.Logits()))
    model = botorch_model(good, n=3)
    for x in (torch.zeros(2), torch.zeros(1, 2, dtype=torch.int64)):
        with pytest.raises(caveat.CaveatError, match="q points"):
            model.posterior(x)
    with pytest.raises(caveat.CaveatError, match="0 to 2"):
        model.function(3)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(caveat.CaveatError, match=r"caveat\[botorch\]"):
        botorch_model(sampler())
