"""Gaussian negative log-likelihood: against torch's own, closed forms, gradcheck, and where numbers end."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal

from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.losses import beta_nll, gaussian_nll

NAN = float("nan")


def pair(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Means, log-variances and targets in double, of this shape."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance, target = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    return mean, log_variance, target


def test_golden_number() -> None:
    # Mean 1, variance 4, target 4: ((4 - 1)^2 / 4 + log 4) / 2 = (2.25 + 1.386294361) / 2 = 1.818147181 nats,
    # and 0.918938533 = log(2 pi) / 2 more for the density.
    returned = (torch.tensor([[1.0]]), torch.tensor([[math.log(4)]]))
    target = torch.tensor([[4.0]])
    assert gaussian_nll(returned, target).item() == pytest.approx(1.818147181)
    assert gaussian_nll(returned, target, full=True).item() == pytest.approx(1.818147181 + 0.918938533)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_against_torch(full: bool, reduction: str) -> None:
    mean, log_variance, target = pair(5, 4, 3)
    theirs = nn.GaussianNLLLoss(full=full, eps=1e-300, reduction=reduction)(mean, target, log_variance.exp())
    ours = gaussian_nll((mean, log_variance), target, full=full, reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, theirs)


def test_full_is_the_negative_log_density_of_torch_distributions() -> None:
    mean, log_variance, target = pair(6, 2)
    density = Normal(mean, (0.5 * log_variance).exp()).log_prob(target)
    torch.testing.assert_close(gaussian_nll((mean, log_variance), target, full=True, reduction="none"), -density)


def test_one_tensor_holds_the_means_first() -> None:
    mean, log_variance, target = pair(6, 2)
    whole = gaussian_nll(torch.cat([mean, log_variance], -1), target)
    torch.testing.assert_close(whole, gaussian_nll([mean, log_variance], target))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck(missing: bool, reduction: str) -> None:
    mean, log_variance, target = pair(4, 3)
    if missing:
        target[0, 1] = target[2, 2] = NAN
    weight = torch.tensor([0.5, 0.0, 1.0, 2.0], dtype=torch.float64)
    leaves = (mean.requires_grad_(), log_variance.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda m, s: gaussian_nll((m, s), target, weight=weight, reduction=reduction),  # type: ignore[arg-type]
        leaves,
    )
    assert torch.autograd.gradgradcheck(lambda m, s: gaussian_nll((m, s), target), leaves)


@given(variance=st.floats(1e-4, 1e4), shift=st.floats(-1e3, 1e3))
def test_the_minimum_is_at_the_true_mean_and_variance(variance: float, shift: float) -> None:
    # Two targets, one standard deviation on each side of the mean: their mean is `shift`, their variance `variance`.
    target = shift + math.sqrt(variance) * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    mean = torch.full_like(target, shift).requires_grad_()
    log_variance = torch.full_like(target, math.log(variance)).requires_grad_()
    loss = gaussian_nll((mean, log_variance), target)
    slopes = torch.autograd.grad(loss, (mean, log_variance))
    assert abs(slopes[0].sum().item()) * math.sqrt(variance) < 1e-6
    assert abs(slopes[1].sum().item()) < 1e-6
    for other in (0.9, 1.1):
        assert gaussian_nll((mean, log_variance + math.log(other)), target) > loss


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_another_unit_adds_its_logarithm(scale: float, seed: int) -> None:
    mean, log_variance, target = pair(5, 2, seed=seed)
    scaled = gaussian_nll((scale * mean, log_variance + 2 * math.log(scale)), scale * target)
    torch.testing.assert_close(scaled, gaussian_nll((mean, log_variance), target) + math.log(scale))


@given(seed=st.integers(0, 1000), copies=st.integers(1, 4))
def test_a_whole_weight_is_so_many_copies(seed: int, copies: int) -> None:
    mean, log_variance, target = pair(3, 2, seed=seed)
    weight = torch.tensor([1, copies, 1], dtype=torch.float64)
    index = torch.tensor([0] + [1] * copies + [2])
    weighted = gaussian_nll((mean, log_variance), target, weight=weight)
    torch.testing.assert_close(weighted, gaussian_nll((mean[index], log_variance[index]), target[index]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_variance", [-1e6, -1000.0, -200.0, -90.0, 90.0, 200.0, 1000.0, 1e6])
@pytest.mark.parametrize("residual", [0.0, 1e-3, 1.0, 1e4])
def test_extreme_log_variances_are_finite_and_lead_back(
    dtype: torch.dtype, log_variance: float, residual: float
) -> None:
    mean = torch.zeros(1, 1, dtype=dtype, requires_grad=True)
    s = torch.full((1, 1), log_variance, dtype=dtype, requires_grad=True)
    loss = gaussian_nll((mean, s), torch.full((1, 1), residual, dtype=dtype))
    slopes = torch.autograd.grad(loss, (mean, s))
    assert loss.isfinite()
    assert all(slope.isfinite() for slope in slopes)
    if log_variance < -30 and residual > 0:
        assert slopes[1] < 0  # too sure of a wrong mean: descent makes the variance larger
        assert slopes[0] < 0
    else:
        assert slopes[1] > 0


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, -39.0), (torch.float64, -599.0)])
def test_above_the_floor_the_exponential_is_exact(dtype: torch.dtype, floor: float) -> None:
    s = torch.full((1, 1), floor, dtype=dtype)
    residual = math.exp(floor / 2)
    loss = gaussian_nll((torch.zeros(1, 1, dtype=dtype), s), torch.full((1, 1), residual, dtype=dtype))
    assert loss.item() == pytest.approx((1 + floor) / 2, rel=1e-5)


def test_half_precision_is_computed_in_single() -> None:
    mean, log_variance, target = (x.half() for x in pair(4, 2))
    loss = gaussian_nll((mean, log_variance), target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, gaussian_nll((mean.float(), log_variance.float()), target.float()))


def test_missing_targets_count_for_nothing() -> None:
    mean, log_variance, target = pair(4, 3)
    observed = torch.tensor([[True, False, True]] * 3 + [[False] * 3])
    expected = gaussian_nll((mean, log_variance), target, reduction="none")[observed].mean()
    holes = torch.where(observed, target, NAN)
    for given_target, mask in ((holes, None), (target, observed), (holes, observed)):
        leaves = (mean.clone().requires_grad_(), log_variance.clone().requires_grad_())
        loss = gaussian_nll(leaves, given_target, mask=mask)
        torch.testing.assert_close(loss, expected)
        for slope in torch.autograd.grad(loss, leaves):
            assert slope.isfinite().all()
            assert (slope[~observed] == 0).all()
            assert (slope[observed] != 0).all()


def test_a_mask_of_rows() -> None:
    mean, log_variance, target = pair(4, 3)
    rows = torch.tensor([True, False, True, True])
    expected = gaussian_nll((mean[rows], log_variance[rows]), target[rows])
    torch.testing.assert_close(gaussian_nll((mean, log_variance), target, mask=rows), expected)


@pytest.mark.parametrize("loss", [gaussian_nll, beta_nll])
def test_nothing_observed_is_zero_without_gradient(loss: object) -> None:
    mean, log_variance, _ = (x.requires_grad_() for x in pair(2, 2))
    value = loss((mean, log_variance), torch.full((2, 2), NAN, dtype=torch.float64))  # type: ignore[operator]
    assert value.item() == 0
    assert all((slope == 0).all() for slope in torch.autograd.grad(value, (mean, log_variance)))


def test_where_the_target_is_missing_the_network_may_return_anything() -> None:
    mean = torch.tensor([[1.0, NAN]], requires_grad=True)
    log_variance = torch.tensor([[0.0, math.inf]], requires_grad=True)
    loss = gaussian_nll((mean, log_variance), torch.tensor([[2.0, NAN]]))
    assert loss.item() == 0.5
    for slope in torch.autograd.grad(loss, (mean, log_variance)):
        assert slope.isfinite().all()


def test_nan_from_the_network_is_not_hidden() -> None:
    assert gaussian_nll((torch.tensor([[NAN]]), torch.zeros(1, 1)), torch.ones(1, 1)).isnan()


def test_runs_under_vmap_and_functional_gradients() -> None:
    mean, log_variance, target = pair(3, 5, 2)
    target[0, 0, 0] = NAN

    def loss(m: Tensor, s: Tensor, y: Tensor) -> Tensor:
        return gaussian_nll((m, s), y)

    together = torch.vmap(torch.func.grad(loss))(mean, log_variance, target)
    alone = [torch.func.grad(loss)(*parts) for parts in zip(mean, log_variance, target, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_descent_finds_the_noise() -> None:
    """4,000 targets with standard deviation 0.3 + |x|: a straight log-variance in log(0.3 + |x|) is learnt."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4000, 1, generator=generator, dtype=torch.float64) * 4 - 2
    sd = 0.3 + x.abs()
    y = 2 * x + sd * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = gaussian_nll((weights[0] + weights[1] * x, weights[2] + weights[3] * sd.log()), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert weights.tolist() == pytest.approx([0, 2, 0, 2], abs=0.1)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("loss", [gaussian_nll, beta_nll])
@pytest.mark.parametrize(
    "returned",
    [
        torch.zeros(3, 3),
        torch.zeros(3),
        torch.zeros(0, 2),
        (torch.zeros(3, 1),),
        (torch.zeros(3, 1), 1.0),
        (torch.zeros(3, 1).long(), torch.zeros(3, 1)),
        {"mean": torch.zeros(3, 1)},
        None,
    ],
)
def test_a_return_that_is_no_pair(loss: object, returned: object) -> None:
    with pytest.raises(OutputMismatchError, match="log-variance"):
        loss(returned, torch.zeros(3, 1))  # type: ignore[operator]


@pytest.mark.parametrize("loss", [gaussian_nll, beta_nll])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (1, 1), (0, 1)])
def test_targets_of_another_shape_do_not_broadcast(loss: object, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="reshape"):
        loss((torch.zeros(3, 1), torch.zeros(3, 1)), torch.zeros(shape))  # type: ignore[operator]


def test_other_bad_input() -> None:
    returned, target = (torch.zeros(3, 2), torch.zeros(3, 2)), torch.zeros(3, 2)
    with pytest.raises(OutputMismatchError, match="shape of the mean"):
        gaussian_nll((torch.zeros(3, 2), torch.zeros(3, 1)), target)
    with pytest.raises(InvalidArgumentError, match="floating"):
        gaussian_nll(returned, target.long())
    with pytest.raises(InvalidArgumentError, match="boolean"):
        gaussian_nll(returned, target, mask=torch.ones(3, 2))
    with pytest.raises(InvalidArgumentError, match="leading axes"):
        gaussian_nll(returned, target, mask=torch.ones(2, dtype=torch.bool))
    with pytest.raises(InvalidArgumentError, match="leading axes"):
        gaussian_nll(returned, target, weight=torch.ones(2))
    with pytest.raises(InvalidArgumentError, match="leading axes"):
        gaussian_nll(returned, target, weight=torch.tensor(2.0))
    with pytest.raises(InvalidArgumentError, match="reduction"):
        gaussian_nll(returned, target, reduction="average")  # type: ignore[arg-type]
