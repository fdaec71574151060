"""Scores and batches against closed forms, brute force and each other."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.acquire import batchbald, epig, k_center, score_rows, select
from caveat.acquire._batchbald import joint_entropy
from caveat.acquire._scores import SCORES
from caveat.errors import DrawsNotKeptError, InvalidArgumentError, NotFiniteError, NotProbabilitiesError
from caveat.measures import mutual_information
from caveat.predictive import Mean, Probabilities


def probabilities(S: int, B: int, C: int, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(S, B, C, generator=generator, dtype=torch.float64)).softmax(-1)


def joint_information(p: Tensor, rows: list[int]) -> float:
    """I(y_rows; draw) by enumeration of all configurations, in plain Python."""
    S, _, C = p.shape
    total = 0.0
    for labels in itertools.product(range(C), repeat=len(rows)):
        share = sum(math.prod(float(p[s, r, c]) for r, c in zip(rows, labels, strict=True)) for s in range(S)) / S
        total -= share * math.log(share) if share > 0 else 0.0
    noise = sum(-float((p[s, r] * p[s, r].log()).sum()) for s in range(S) for r in rows) / S
    return total - noise


@given(st.integers(1, 6), st.integers(3, 5), st.integers(2, 4), st.integers(0, 99))
def test_batchbald_equals_exhaustive_computation(S: int, B: int, C: int, seed: int) -> None:
    p = probabilities(S, B, C, seed)
    batch = batchbald(p, 3)
    assert batch.exact.all()
    chosen: list[int] = []
    for row, score in zip(batch.rows.tolist(), batch.scores.tolist(), strict=True):
        gains = {r: joint_information(p, [*chosen, r]) for r in range(B) if r not in chosen}
        assert score == pytest.approx(gains[row], abs=1e-10)
        assert gains[row] == pytest.approx(max(gains.values()), abs=1e-10)
        chosen.append(row)


def test_joint_entropy_is_that_of_enumeration() -> None:
    p = probabilities(4, 3, 3)
    noise = float(-(p * p.log()).sum(-1).mean(0).sum())
    assert joint_entropy(p) - noise == pytest.approx(joint_information(p, [0, 1, 2]), abs=1e-12)


def test_sampled_configurations_are_near_the_exact_scores() -> None:
    p = probabilities(20, 12, 4, sharpness=1.5)
    exact = batchbald(p, 5, configurations=4**5)
    sampled = batchbald(p, 5, configurations=4000)
    assert exact.exact.all()
    rough = batchbald(p, 5, configurations=200, seed=1)
    assert not rough.exact[-1]
    assert float(sampled.scores[-1]) == pytest.approx(float(exact.scores[-1]), rel=0.01)
    assert float(rough.scores[-1]) == pytest.approx(float(exact.scores[-1]), rel=0.05)


def test_sampled_scores_have_no_large_error_over_seeds() -> None:
    p = probabilities(10, 6, 3)
    exact = float(batchbald(p, 6, configurations=3**6).scores[-1])
    scores = torch.tensor([float(batchbald(p, 6, configurations=90, seed=s).scores[-1]) for s in range(20)])
    assert float(scores.mean()) == pytest.approx(exact, abs=4 * float(scores.std()) / math.sqrt(20) + 0.02 * exact)


def test_a_batch_of_twins_is_avoided() -> None:
    """Row 0 twice and a row that is a little less unsure: top-k takes the twins, BatchBALD does not."""
    p = probabilities(50, 2, 3, sharpness=4.0)
    scores = mutual_information(Probabilities().summarize(p))
    best, other = int(scores.argmax()), int(scores.argmin())
    twins = torch.stack([p[:, best], p[:, best], p[:, other]], 1)
    assert set(batchbald(twins, 2).rows.tolist()) == {0, 2}
    assert set(select(score_rows(Probabilities().summarize(twins), "bald"), 2).tolist()) == {0, 1}


def test_the_first_row_is_balds_and_a_whole_pool_is_no_trouble() -> None:
    p = probabilities(8, 30, 3)
    scores = score_rows(Probabilities().summarize(p), "bald")
    batch = batchbald(p, 30, configurations=50)
    assert int(batch.rows[0]) == int(scores.argmax())
    assert float(batch.scores[0]) == pytest.approx(float(scores.max()))
    assert sorted(batch.rows.tolist()) == list(range(30))
    assert bool((batch.scores.diff() >= 0).all())
    assert float(batch.scores[-1]) <= math.log(8) + 0.05  # no more can be learned than which draw it is


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_configurations() -> None:
    """4,000 of them with 100 draws are 3 MB of weights; chunks that left holes in the heap took 500 MB."""
    script = """if True:
        import torch
        from caveat.acquire import batchbald
        torch.set_num_threads(1)
        p = (2 * torch.randn(100, 2000, 10, generator=torch.Generator().manual_seed(0))).double().softmax(-1)
        def peak():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        before = peak()
        batchbald(p, 6, configurations=4000)
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 60  # MB


def test_draws_that_are_still_part_of_a_graph() -> None:
    scores = probabilities(6, 5, 3).log().requires_grad_()
    assert batchbald(scores.softmax(-1), 2).rows.tolist() == batchbald(scores.detach().softmax(-1), 2).rows.tolist()


def test_certain_draws_and_one_draw() -> None:
    sure = torch.eye(3, dtype=torch.float64)[None, [0, 1, 2, 0]]
    assert batchbald(sure, 4).scores.tolist() == pytest.approx([0.0] * 4, abs=1e-12)


def test_epig_is_the_information_of_two_labels() -> None:
    p, q = probabilities(5, 4, 3, 1), probabilities(5, 3, 2, 2)
    expected = []
    for b in range(4):
        total = 0.0
        for m in range(3):
            joint = torch.einsum("sc,sd->cd", p[:, b], q[:, m]) / 5
            product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
            total += float((joint * (joint / product).log()).sum()) / 3
        expected.append(total)
    assert epig(p, q).tolist() == pytest.approx(expected, abs=1e-12)


def test_epig_of_gaussians_is_that_of_the_joint_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(200, 3, 1, generator=generator, dtype=torch.float64)
    g = f[:, :2] * 0.5 + torch.randn(200, 2, 1, generator=generator, dtype=torch.float64)
    output = Mean(noise_variance=0.3)
    ours = epig(output.summarize(f, keep=True), output.summarize(g, keep=True))
    for b in range(3):
        total = 0.0
        for m in range(2):
            cov = torch.cov(torch.stack([f[:, b, 0], g[:, m, 0]])) + 0.3 * torch.eye(2)
            total += 0.5 * float((cov[0, 0] * cov[1, 1] / cov.det()).log()) / 2
        assert float(ours[b]) == pytest.approx(total, rel=1e-6)


def test_bald_of_a_regression_by_hand() -> None:
    pred = Mean(noise_variance=2.0).summarize(torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]]))
    assert float(score_rows(pred, "bald")) == pytest.approx(0.5 * math.log(4 / 2))  # variance over draws 2 and 0
    assert float(score_rows(pred, "epistemic_variance")) == pytest.approx(2.0)
    closed_form = 0.5 * math.log((2 * math.pi * math.e) ** 2 * 4 * 2)
    assert float(score_rows(pred, "entropy")) == pytest.approx(closed_form, rel=1e-6)
    with pytest.raises(InvalidArgumentError, match="there must be noise"):
        score_rows(Mean().summarize(torch.zeros(2, 1, 1)))


def test_higher_is_asked_for_first_by_every_score() -> None:
    sure, unsure = torch.tensor([[0.9, 0.1], [0.9, 0.1]]), torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    pred = Probabilities().summarize(torch.stack([sure, unsure], 1))
    for name in SCORES.keys() - {"epistemic_variance"}:
        assert select(score_rows(pred, name), 1).tolist() == [1], name
    assert score_rows(pred, "margin").tolist() == pytest.approx([-0.8, 0.0])


def test_power_samples_in_proportion_to_the_scores() -> None:
    scores = torch.tensor([1.0, 2.0, 5.0, 0.0])
    first = torch.tensor([int(select(scores, 1, strategy="power", seed=s)) for s in range(2000)])
    shares = torch.bincount(first, minlength=4) / 2000
    assert shares.tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8, 0], abs=0.04)
    assert select(scores, 4, strategy="power", seed=1)[-1] == 3  # what is worth nothing comes last
    assert sorted(select(scores, 4, strategy="power").tolist()) == [0, 1, 2, 3]
    assert select(scores, 1, strategy="softmax", coldness=100.0).tolist() == [2]


def test_draws_take_nothing_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    select(torch.rand(5, generator=torch.Generator()), 2, strategy="power")
    batchbald(probabilities(4, 5, 3), 4, configurations=5)
    assert torch.equal(state, torch.get_rng_state())


def test_k_center_takes_the_farthest_and_is_within_twice_the_best_radius() -> None:
    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    chosen = k_center(x, 3)

    def radius(rows: tuple[int, ...]) -> float:
        return float(torch.cdist(x, x[list(rows)]).amin(-1).max())

    best = min(radius(rows) for rows in itertools.combinations(range(12), 3))
    assert radius(tuple(chosen.tolist())) <= 2 * best + 1e-6
    assert k_center(torch.zeros(3, 2), 3).sort().values.tolist() == [0, 1, 2]  # twins are not taken twice


def test_bad_input_is_named() -> None:
    p = probabilities(3, 4, 2)
    with pytest.raises(InvalidArgumentError, match="must have a row"):
        batchbald(p[:, :0], 1)
    with pytest.raises(InvalidArgumentError, match="must have a row"):
        select(torch.empty(0), 1)
    for call in (lambda: batchbald(p, 5), lambda: select(torch.rand(4), 5), lambda: k_center(torch.rand(4, 2), 5)):
        with pytest.raises(InvalidArgumentError, match="at most as large"):
            call()
    with pytest.raises(InvalidArgumentError, match="size must be an integer of at least 1"):
        select(torch.rand(4), 0)
    with pytest.raises(NotProbabilitiesError):
        batchbald(p * 2, 1)
    with pytest.raises(NotFiniteError):
        batchbald(p.index_fill(0, torch.tensor([0]), torch.nan), 1)
    with pytest.raises(NotFiniteError):
        select(torch.tensor([0.0, torch.nan]), 1)
    with pytest.raises(DrawsNotKeptError):
        batchbald(Probabilities().summarize(p), 1)
    with pytest.raises(InvalidArgumentError, match=r"\(S, B, C\)"):
        batchbald(p[0], 1)
    with pytest.raises(InvalidArgumentError, match="C\\^B configurations"):
        joint_entropy(probabilities(1, 30, 2))
    with pytest.raises(InvalidArgumentError, match="same draws"):
        epig(p, p[:2])
    for strategy in ("power", "softmax"):
        with pytest.raises(InvalidArgumentError, match="coldness"):
            select(torch.rand(4), 1, strategy=strategy, coldness=0.0)
    with pytest.raises(InvalidArgumentError, match="strategy must be one of"):
        select(torch.rand(4), 1, strategy="best")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="configurations"):
        batchbald(p, 1, configurations=1)


@pytest.mark.parametrize("strategy", ["top", "power", "softmax"])
def test_scores_are_taken_as_an_array_or_a_list(strategy: Any) -> None:
    scores = [0.1, 0.9, 0.5, 0.2]
    expected = select(torch.tensor(scores, dtype=torch.float64), 2, strategy=strategy)
    for form in (np.array, list):
        assert torch.equal(select(form(scores), 2, strategy=strategy), expected)
