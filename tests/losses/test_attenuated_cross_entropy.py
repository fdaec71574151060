"""Cross-entropy under logit noise: against plain autograd, quadrature, torch's own, and at the ends of its range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.losses import _logit_noise as logit_noise
from caveat.losses import attenuated_cross_entropy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(*shape: int, seed: int = 0, shared: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and log-variances (B, C, ...), and classes (B, ...)."""
    source = generator(seed)
    logits, log_variance = torch.randn(2, *shape, generator=source, dtype=torch.float64)
    target = torch.randint(shape[1], (shape[0], *shape[2:]), generator=source)
    return logits, log_variance[:, :1].clone() if shared else log_variance, target


def by_hand(logits: Tensor, log_variance: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    """-log of the mean over noises (T, B, C, ...) of the likelihood, all in one graph."""
    noisy = logits + (0.5 * log_variance).exp() * noise
    log_p = noisy.log_softmax(2).movedim(2, -1)
    chosen = log_p.gather(-1, target.expand(log_p.shape[:-1])[..., None]).squeeze(-1)
    return math.log(len(noise)) - chosen.logsumexp(0)


def noises(samples: int, like: Tensor, seed: int = 0) -> Tensor:
    """The noises that one block draws: mirrored pairs, and a single one if their number is odd."""
    source = generator(seed)
    half = torch.randn(samples // 2, *like.shape, generator=source, dtype=like.dtype)
    single = torch.randn(samples % 2, *like.shape, generator=source, dtype=like.dtype)
    return torch.cat([half, -half, single])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 7, 32])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 5)])
def test_value_and_gradient_are_those_of_the_whole_graph(shape: tuple[int, ...], samples: int, shared: bool) -> None:
    logits, log_variance, target = maps(*shape, shared=shared)
    leaves = (logits.requires_grad_(), log_variance.requires_grad_())
    ours = attenuated_cross_entropy(leaves, target, samples=samples, generator=generator())
    theirs = by_hand(*leaves, target, noises(samples, logits)).mean()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves))


@pytest.mark.parametrize("shared", [False, True])
def test_gradcheck(shared: bool) -> None:
    logits, log_variance, target = maps(3, 4, 2, shared=shared)
    target[0, 1] = -100
    leaves = (logits.requires_grad_(), log_variance.requires_grad_())
    weight = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda f, s: attenuated_cross_entropy((f, s), target, samples=5, weight=weight, generator=generator()), leaves
    )


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pair of noises held at a time gives what all at once give (torch fills sixteen at a time)."""
    logits, log_variance, target = maps(4, 4)
    leaves = (logits.requires_grad_(), log_variance.requires_grad_())
    whole = attenuated_cross_entropy(leaves, target, samples=21, generator=generator())
    monkeypatch.setattr(logit_noise, "_BLOCK", 2 * logits.numel())
    parts = attenuated_cross_entropy(leaves, target, samples=21, generator=generator())
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, leaves), torch.autograd.grad(whole, leaves))


def test_memory_does_not_grow_with_the_samples() -> None:
    """What is kept for the backward pass: at most a few tensors of the logits' size, whatever the samples."""
    logits, log_variance, target = maps(8, 3, 16, 16)
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    sizes: list[int] = []
    for samples in (2, 200):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            attenuated_cross_entropy((logits.requires_grad_(), log_variance.requires_grad_()), target, samples=samples)
        sizes.append(sum(kept))
    assert sizes[0] == sizes[1] < 20 * logits.numel()


def test_against_quadrature_of_two_classes() -> None:
    # softmax of two noisy logits is the sigmoid of their difference, which is normal with mean 1 and variance
    # 0.5 + 1.5 = 2: E[sigmoid(z)] by Gauss-Hermite quadrature.
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    expected = -math.log(float((weights / (1 + np.exp(-(1 + math.sqrt(2) * points)))).sum() / weights.sum()))
    returned = (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 1.5]]).log())
    loss = attenuated_cross_entropy(returned, torch.tensor([0]), samples=400_000, generator=generator())
    assert loss.item() == pytest.approx(expected, abs=1e-3)


def test_without_noise_it_is_cross_entropy() -> None:
    logits, _, target = maps(4, 3, 5)
    target[1, 2] = -100
    for reduction in ("mean", "sum", "none"):
        ours = attenuated_cross_entropy((logits, torch.full_like(logits, -80)), target, reduction=reduction)  # type: ignore[arg-type]
        torch.testing.assert_close(ours, F.cross_entropy(logits, target, reduction=reduction))


def test_another_label_for_missing_and_a_mask() -> None:
    logits, log_variance, target = maps(4, 3, 5)
    void = target.clone()
    void[0], void[3, 1] = 255, 255
    observed = void != 255
    losses = [
        attenuated_cross_entropy((logits, log_variance), void, ignore_index=255, generator=generator()),
        attenuated_cross_entropy((logits, log_variance), target, mask=observed, generator=generator()),
    ]
    each = attenuated_cross_entropy((logits, log_variance), target, reduction="none", generator=generator())
    for loss in losses:
        torch.testing.assert_close(loss, each[observed].mean())


def test_missing_targets_have_no_gradient_and_none_is_nan() -> None:
    logits, log_variance, target = maps(3, 4)
    logits[0], log_variance[0], target[0] = float("nan"), math.inf, -100
    leaves = (logits.requires_grad_(), log_variance.requires_grad_())
    loss = attenuated_cross_entropy(leaves, target, generator=generator())
    for slope in torch.autograd.grad(loss, leaves):
        assert (slope[0] == 0).all()
        assert slope.isfinite().all()
    nothing = attenuated_cross_entropy(leaves, torch.full((3,), -100))
    assert nothing.item() == 0
    assert all((slope == 0).all() for slope in torch.autograd.grad(nothing, leaves))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50), samples=st.integers(1, 9))
def test_laws(seed: int, shift: float, samples: int) -> None:
    """Not negative; the same for logits shifted together and for classes renamed with their noise."""
    logits, log_variance, target = maps(5, 4, seed=seed)

    def loss(f: Tensor) -> Tensor:
        return attenuated_cross_entropy((f, log_variance), target, samples=samples, generator=generator(seed))

    assert loss(logits) >= 0
    torch.testing.assert_close(loss(logits + shift), loss(logits))


def test_the_value_does_not_touch_global_random_state_when_given_a_generator() -> None:
    before = torch.random.get_rng_state()
    logits, log_variance, target = maps(5, 4)
    first, again = (attenuated_cross_entropy((logits, log_variance), target, generator=generator(3)) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, attenuated_cross_entropy((logits, log_variance), target, generator=generator(4)))


@pytest.mark.parametrize("log_variance", [-1e6, -200.0, 100.0, 200.0, 1e6])
def test_extreme_log_variances_are_finite(log_variance: float) -> None:
    logits = torch.tensor([[3.0, 0.0, -3.0]], requires_grad=True)
    s = torch.full((1, 3), log_variance, requires_grad=True)
    loss = attenuated_cross_entropy((logits, s), torch.tensor([2]), generator=generator())
    assert loss.isfinite()
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(loss, (logits, s)))


def test_wrong_labels_are_attenuated() -> None:
    """For a wrong, sure answer the loss falls as the noise grows; for a right one it rises."""
    s = torch.full((1, 2), 0.0, requires_grad=True)
    for label, sign in ((1, -1), (0, 1)):
        logits = torch.tensor([[4.0, 0.0]])
        loss = attenuated_cross_entropy((logits, s), torch.tensor([label]), samples=200, generator=generator())
        (slope,) = torch.autograd.grad(loss, s)
        assert slope.sum().item() * sign > 0


def test_runs_under_vmap_and_functional_gradients() -> None:
    logits, log_variance, target = maps(6, 4, 3)
    stacked = [x.reshape(2, 3, *x.shape[1:]) for x in (logits, log_variance, target)]

    def loss(f: Tensor, s: Tensor, y: Tensor) -> Tensor:
        return attenuated_cross_entropy((f, s), y, samples=3)

    slopes = torch.vmap(torch.func.grad(loss, argnums=(0, 1)), randomness="same")(*stacked)
    assert all(slope.shape == stacked[0].shape and slope.isfinite().all() for slope in slopes)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "returned",
    [
        torch.zeros(3, 3),
        torch.zeros(3, 2),
        torch.zeros(6),
        (torch.zeros(3, 2), torch.zeros(3)),
        (torch.zeros(3, 1), torch.zeros(3, 1)),
        (torch.zeros(3, 2), torch.zeros(1, 2)),
        (torch.zeros(3, 2).long(), torch.zeros(3, 2)),
        "logits",
    ],
)
def test_a_return_that_does_not_fit(returned: object) -> None:
    with pytest.raises(OutputMismatchError):
        attenuated_cross_entropy(returned, torch.zeros(3).long())


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (torch.zeros(3, 2).long(), "one class number"),
        (torch.zeros(2).long(), "one class number"),
        (torch.zeros(3), "integers"),
        (torch.tensor([0, 1, 2]), "between 0 and C - 1 = 1"),
        (torch.tensor([0, 1, -1]), "between 0 and C - 1 = 1"),
    ],
)
def test_targets_that_do_not_fit(target: Tensor, match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match):
        attenuated_cross_entropy((torch.zeros(3, 2), torch.zeros(3, 2)), target)


def test_other_bad_input() -> None:
    returned, target = (torch.zeros(3, 2), torch.zeros(3, 2)), torch.zeros(3).long()
    with pytest.raises(InvalidArgumentError, match="samples"):
        attenuated_cross_entropy(returned, target, samples=0)
    with pytest.raises(InvalidArgumentError, match="leading axes"):
        attenuated_cross_entropy(returned, target, weight=torch.ones(2))
    with pytest.raises(InvalidArgumentError, match="reduction"):
        attenuated_cross_entropy(returned, target, reduction="average")  # type: ignore[arg-type]
    empty = (torch.zeros(0, 2), torch.zeros(0, 2))
    with pytest.raises(InvalidArgumentError, match="at least one element"):
        attenuated_cross_entropy(empty, torch.zeros(0).long())
