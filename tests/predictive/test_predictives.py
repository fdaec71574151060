"""What every predictive does: merge, rows, join, kept draws, moving, printing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caveat._engine import as_output
from caveat.errors import CannotMergeError, DrawsNotKeptError, InvalidArgumentError
from caveat.predictive import (
    BinaryLogit,
    Categorical,
    Gaussian,
    Heads,
    Logits,
    Mean,
    MeanAndLogVariance,
    Predictive,
    concatenate,
)

HEADS = as_output({"kind": Logits(), "size": Mean(noise_variance=0.5)})
SHAPES: list[tuple[Any, tuple[int, ...]]] = [
    (Logits(), (4, 3)),
    (Logits(), (4, 2)),
    (Logits(class_dim=1), (4, 2, 2, 3)),
    (BinaryLogit(), (4,)),
    (BinaryLogit(), (4, 3)),
    (Mean(noise_variance=0.5), (4,)),
    (Mean(noise_variance=0.5), (4, 2)),
    (MeanAndLogVariance(), (4, 3, 2)),
]
kinds = pytest.mark.parametrize(("output", "shape"), SHAPES, ids=lambda v: repr(v))


def random_draws(shape: tuple[int, ...], n: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def statistics(pred: Predictive) -> dict[str, Tensor]:
    """Every tensor that a predictive holds."""
    if isinstance(pred, Heads):
        return {f"{n}.{k}": v for n, head in pred.items() for k, v in statistics(head).items()}
    if isinstance(pred, Gaussian):
        own = {"noise": pred.noise, "moments": pred.moments.mean, "m2": pred.moments.m2}
    else:
        c = pred if isinstance(pred, Categorical) else pred.binary  # type: ignore[attr-defined]
        own = {"votes": c.votes, "entropy": c.mean_entropy, "log": c.mean_log_probabilities}
        own |= {"moments": c.moments.mean, "m2": c.moments.m2}
    return own | {"mean": pred.mean, "variance": pred.variance, "count": pred.count + 0 * pred.count}


def assert_same(a: Predictive, b: Predictive) -> None:
    left, right = statistics(a), statistics(b)
    assert type(a) is type(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@kinds
def test_counts(output: Any, shape: tuple[int, ...]) -> None:
    pred = output.summarize(random_draws(shape, 3))
    assert pred.row_count == 4
    assert pred.count.dtype == torch.int64
    assert pred.count.item() == 3


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(SHAPES),
    sizes=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 2**20),
)
def test_merge_laws(kind: tuple[Any, tuple[int, ...]], sizes: tuple[int, int, int], seed: int) -> None:
    output, shape = kind
    draws = random_draws(shape, sum(sizes), seed)
    a, b, c = (output.summarize(part, keep=True) for part in draws.split(sizes))
    whole = output.summarize(draws, keep=True)
    assert_same(a.merge(b).merge(c), whole)
    assert_same(a.merge(b.merge(c)), whole)
    assert_same(c.merge(b).merge(a), whole)
    assert torch.equal(a.merge(b).merge(c).draws, whole.draws)
    assert int(a.merge(b).merge(c).count) == sum(sizes)


@settings(deadline=None, max_examples=40)
@given(kind=st.sampled_from(SHAPES), n=st.integers(1, 12), seed=st.integers(0, 2**20))
def test_permuting_draws_changes_nothing(kind: tuple[Any, tuple[int, ...]], n: int, seed: int) -> None:
    output, shape = kind
    draws = random_draws(shape, n, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert_same(output.summarize(draws[order]), output.summarize(draws))


@kinds
def test_one_draw(output: Any, shape: tuple[int, ...]) -> None:
    pred = output.summarize(random_draws(shape, 1))
    spread = pred.epistemic_variance if isinstance(pred, Gaussian) else pred.variance
    assert torch.equal(spread, torch.zeros_like(pred.mean))
    assert pred.standard_error().isnan().all()


def test_standard_error_is_that_of_the_mean() -> None:
    y = random_draws((5, 1), 40)
    torch.testing.assert_close(Mean().summarize(y).standard_error(), y.std(0) / math.sqrt(40))


def test_golden_categorical() -> None:
    # Two draws of two classes: softmax(0, 0) = (1/2, 1/2), softmax(log 3, 0) = (3/4, 1/4).
    # Mean (5/8, 3/8); variance over draws 2 * (1/8)^2 = 1/32; standard error sqrt(1/64) = 1/8.
    # Entropies log 2 and log 4 - 3/4 log 3. Ties vote for the first class: votes (2, 0).
    pred = Logits().summarize(torch.tensor([[[0.0, 0.0]], [[math.log(3), 0.0]]], dtype=torch.float64))
    assert pred.mean.tolist() == [pytest.approx([5 / 8, 3 / 8])]
    assert pred.variance.tolist() == [pytest.approx([1 / 32, 1 / 32])]
    assert pred.standard_error().tolist() == [pytest.approx([1 / 8, 1 / 8])]
    assert pred.mean_entropy.item() == pytest.approx((3 * math.log(2) - 0.75 * math.log(3)) / 2)
    assert pred.mean_log_probabilities[0, 1].item() == pytest.approx(-1.5 * math.log(2))
    assert pred.votes.tolist() == [[2, 0]]
    assert pred.predicted.tolist() == [0]


def test_votes_are_argmaxes() -> None:
    for classes in (2, 3, 7):
        z = random_draws((5, classes), 50)
        counts = torch.nn.functional.one_hot(z.argmax(-1), classes).sum(0)
        assert torch.equal(Logits().summarize(z).votes, counts)


def test_bernoulli_is_a_sigmoid() -> None:
    z = random_draws((4, 3), 20)
    pred = BinaryLogit().summarize(z, keep=True)
    torch.testing.assert_close(pred.mean, z.sigmoid().mean(0))
    torch.testing.assert_close(pred.variance, z.sigmoid().var(0))
    torch.testing.assert_close(pred.draws, z.sigmoid())
    assert torch.equal(pred.predicted, (z.sigmoid().mean(0) > 0.5).long())
    # Far out the probability keeps its digits: sigmoid(-50) = 1.93e-22.
    assert BinaryLogit().summarize(torch.tensor([[-50.0]])).mean.item() == pytest.approx(math.exp(-50), rel=1e-6)


# Rows.


@kinds
@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([2, 0]),
        [2, 0],
        slice(1, 3),
        torch.tensor([True, False, True, False]),
        3,
        -1,
        np.int64(3),
        torch.tensor(2),
    ],
)
def test_rows_are_the_summary_of_these_rows(output: Any, shape: tuple[int, ...], index: Any) -> None:
    draws = random_draws(shape, 6)
    rows = torch.arange(4)[index].reshape(-1)
    part = output.summarize(draws, keep=True).rows(index)
    assert_same(part, output.summarize(draws.index_select(1, rows)))
    assert part.draws.shape[1] == len(rows)


def test_a_mask_of_several_axes_chooses_entries() -> None:
    output = Logits()
    whole = concatenate([output.summarize(random_draws((2, 3, 5), n, n)) for n in (7, 9)])  # rows of other counts
    where = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]]).bool()
    chosen = whole.rows(where)
    assert chosen.count.tolist() == [[7]] * 4 + [[9]] * 2 if chosen.count.ndim > 1 else [7] * 4 + [9] * 2
    for name in ("mean", "variance", "predicted"):
        assert torch.equal(getattr(chosen, name), getattr(whole, name)[where]), name
    assert torch.equal(chosen.standard_error(), whole.standard_error()[where])


@pytest.mark.parametrize("index", [4, -5, np.int64(4), torch.tensor(-5), 0.5])
def test_a_row_that_is_not_there_is_named(index: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="a row's index must be an integer from -4 to 3"):
        Mean().summarize(torch.zeros(3, 4, 1)).rows(index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_predicted_class_is_that_of_the_mean(dtype: torch.dtype) -> None:
    z = random_draws((2000, 3), 2).to(dtype)
    z[1] = z[0].flip(-1)  # two draws that say the opposite: the mean is of two equal classes, but for rounding
    pred = Logits().summarize(40 * z)
    assert torch.equal(pred.predicted, pred.mean.argmax(-1))


def test_no_rows() -> None:
    assert len(Mean().summarize(torch.zeros(3, 4, 1)).rows([]).mean) == 0


@kinds
def test_join_puts_rows_back_in_order(output: Any, shape: tuple[int, ...]) -> None:
    pred = output.summarize(random_draws(shape, 6), keep=True)
    indices = [torch.tensor([3, 1]), torch.tensor([0]), torch.tensor([2])]
    joined = concatenate([pred.rows(i) for i in indices], indices=indices)
    assert_same(joined, pred)
    assert joined.count.ndim == 0
    assert torch.equal(joined.draws, pred.draws)


@kinds
def test_join_of_different_numbers_of_draws(output: Any, shape: tuple[int, ...]) -> None:
    # Rows leave at different counts: rows 1 and 3 after 5 draws, 0 and 2 after 12.
    draws = random_draws(shape, 12)
    short, long = output.summarize(draws[:5], keep=True), output.summarize(draws, keep=True)
    odd, even = torch.tensor([1, 3]), torch.tensor([0, 2])
    joined = concatenate([short.rows(odd), long.rows(even)], indices=[odd, even])
    assert joined.count.flatten().tolist() == [12, 5, 12, 5]
    batch = joined.votes.shape[:-1] if isinstance(joined, Categorical) else joined.mean.shape
    assert joined.count.shape == (4,) + (1,) * (len(batch) - 1)
    torch.testing.assert_close(joined.mean[odd], short.mean[odd])
    torch.testing.assert_close(joined.standard_error()[odd], short.standard_error()[odd])
    torch.testing.assert_close(joined.variance[even], long.variance[even])
    assert "draws=5..12" in repr(joined)
    with pytest.raises(DrawsNotKeptError, match="different numbers of draws"):
        _ = joined.draws


@kinds
def test_merge_where_rows_differ_in_count(output: Any, shape: tuple[int, ...]) -> None:
    draws, more = random_draws(shape, 12), random_draws(shape, 4, seed=1)
    odd, even = torch.tensor([1, 3]), torch.tensor([0, 2])
    short, long = output.summarize(draws[:5]), output.summarize(draws)
    merged = concatenate([short.rows(odd), long.rows(even)], indices=[odd, even]).merge(output.summarize(more))
    assert merged.count.flatten().tolist() == [16, 9, 16, 9]
    for rows, part in ((odd, draws[:5]), (even, draws)):
        whole = output.summarize(torch.cat([part, more])).rows(rows)
        here = merged.rows(rows)
        for name, value in statistics(whole).items():
            if name != "count":
                torch.testing.assert_close(statistics(here)[name], value)


@kinds
def test_concatenate(output: Any, shape: tuple[int, ...]) -> None:
    pred = output.summarize(random_draws(shape, 6), keep=True)
    again = concatenate([pred.rows(slice(0, 1)), pred.rows(slice(1, 4))])
    assert_same(again, pred)
    assert torch.equal(again.draws, pred.draws)


# The errors.


def test_merge_of_what_does_not_fit() -> None:
    a = Logits().summarize(torch.zeros(2, 4, 3))
    b = Mean().summarize(torch.zeros(2, 4, 3))
    with pytest.raises(CannotMergeError, match=r"(?s)one kind merge.*Got: Categorical, Gaussian.*cause:.*Fix:"):
        a.merge(b)
    for other in (torch.zeros(2, 5, 3), torch.zeros(2, 4, 2)):
        with pytest.raises(CannotMergeError, match=r"(?s)same rows.*Got: \(4, 3\) on cpu and.*concatenate"):
            a.merge(Logits().summarize(other))
    with pytest.raises(CannotMergeError, match="on meta"):
        b.merge(b.to("meta"))


def test_join_of_what_does_not_fit() -> None:
    a, b = Logits().summarize(torch.zeros(2, 4, 3)), Logits().summarize(torch.zeros(2, 4, 2))
    with pytest.raises(CannotMergeError, match=r"(?s)every axis but the first.*Got: \(4, 3\).*\(4, 2\).*Fix:"):
        concatenate([a, b])
    with pytest.raises(CannotMergeError, match="one kind join"):
        concatenate([a, Mean().summarize(torch.zeros(2, 4, 3))])
    with pytest.raises(InvalidArgumentError, match=r"(?s)At least one predictive.*Got: an empty.*Fix:"):
        concatenate([])
    for indices in ([torch.tensor([0, 1, 2, 2])], [torch.tensor([0, 1, 2, 4])], []):
        with pytest.raises(InvalidArgumentError, match=r"(?s)exactly once.*Got: 1 parts.*Fix:"):
            concatenate([a], indices=indices)
    for indices in ([torch.arange(3)], [torch.arange(3), torch.tensor([3])]):
        with pytest.raises(InvalidArgumentError, match="exactly once"):
            concatenate([a.rows(slice(0, 2)), a.rows(slice(2, 4))][: len(indices)], indices=indices)


@kinds
def test_draws_that_were_not_kept(output: Any, shape: tuple[int, ...]) -> None:
    kept = output.summarize(random_draws(shape, 2), keep=True)
    dropped = output.summarize(random_draws(shape, 2))
    for pred in (dropped, kept.merge(dropped), dropped.merge(kept), concatenate([kept, dropped])):
        with pytest.raises(
            DrawsNotKeptError, match=r"(?s)draws themselves.*Got:.*cause:.*predict\(\.\.\., keep=True\)"
        ):
            _ = pred.draws


@kinds
def test_kept_draws_are_copies(output: Any, shape: tuple[int, ...]) -> None:
    buffer = random_draws(shape, 3)
    pred = output.summarize(buffer, keep=True)
    before = pred.draws.clone()
    buffer.zero_()
    assert torch.equal(pred.draws, before)


# Moving and printing.


@kinds
def test_to_a_device_and_to_one_without_float64(
    output: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pred = output.summarize(random_draws(shape, 3), keep=True)
    assert pred.to("meta").mean.device.type == "meta"
    assert pred.to("meta").draws.device.type == "meta"
    monkeypatch.setattr("caveat._numerics._WITHOUT_FLOAT64", frozenset({"cpu"}))
    single = statistics(pred.to("cpu"))
    assert torch.float64 not in {value.dtype for value in single.values()}
    torch.testing.assert_close(single["mean"], pred.mean)
    native = statistics(output.summarize(random_draws(shape, 3)))
    assert torch.float64 not in {value.dtype for value in native.values()}
    torch.testing.assert_close(native["variance"], pred.variance, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Logits().summarize(torch.zeros(9, 4, 3)),
            "Categorical(batch=(4,), classes=3, draws=9, float32)",
        ),
        (
            lambda: Logits(class_dim=1).summarize(torch.zeros(9, 4, 8, 8, 3).double(), keep=True),
            "Categorical(batch=(4, 8, 8), classes=3, draws=9 (kept), float64)",
        ),
        (lambda: BinaryLogit().summarize(torch.zeros(9, 4, 2)), "Bernoulli(batch=(4, 2), draws=9, float32)"),
        (lambda: Mean().summarize(torch.zeros(9, 4, 2)), "Gaussian(shape=(4, 2), draws=9, float32)"),
    ],
)
def test_repr_says_kind_and_sizes_first(make: Callable[[], Predictive], text: str) -> None:
    assert repr(make()).splitlines()[0] == text


def test_repr_shows_the_first_numbers_and_counts_the_rest() -> None:
    pred = Mean(noise_variance=0.5).summarize(torch.tensor([1.0, 3.0])[:, None, None].expand(2, 12, 1))
    lines = repr(pred).splitlines()
    assert lines[1].split("  ") == ["", "row", "mean", "variance", "epistemic variance"]
    assert [line.split() for line in lines[2:7]] == [[str(row), "2", "2.5", "2"] for row in range(5)]
    assert lines[7:] == ["  ... 7 more"]
    pixels = Logits(class_dim=1).summarize(torch.zeros(2, 1, 2, 2, 4))
    places = [line.strip().partition("  ")[0] for line in repr(pixels).splitlines()[2:]]
    assert places == ["0, 0, 0", "0, 0, 1", "0, 1, 0", "0, 1, 1"]
    assert len(repr(Logits().summarize(torch.zeros(2, 0, 4))).splitlines()) == 2


def test_html_holds_the_numbers_of_the_text_escaped() -> None:
    heads = HEADS.summarize(heads_draws(10))
    for pred in (heads["kind"], heads["size"], BinaryLogit().summarize(torch.zeros(9, 2))):
        html = pred._repr_html_()
        assert all(f">{cell}<" in html for line in repr(pred).splitlines()[2:] for cell in line.split())
    assert "<b>kind</b>" in heads._repr_html_()
    assert "<b>&lt;b&gt;</b>" in Heads({"<b>": heads["kind"]})._repr_html_()


# Several heads.


def heads_draws(n: int, seed: int = 0) -> dict[str, Tensor]:
    return {"kind": random_draws((4, 3), n, seed), "size": random_draws((4, 1), n, seed + 1)}


def test_heads_are_a_mapping_with_the_same_methods() -> None:
    draws = heads_draws(10)
    whole = HEADS.summarize(draws, keep=True)
    assert isinstance(whole, Heads)
    assert whole.row_count == 4
    assert (list(whole), len(whole), "size" in whole) == (["kind", "size"], 2, True)
    assert whole.count.item() == 10
    for got in (whole.mean, whole.variance, whole.standard_error(), whole.draws):
        assert {name: value.shape[-1] for name, value in got.items()} == {"kind": 3, "size": 1}
    parts = [HEADS.summarize({k: v[s] for k, v in draws.items()}) for s in (slice(0, 3), slice(3, 10))]
    assert_same(parts[0].merge(parts[1]), whole)
    odd, even = torch.tensor([1, 3]), torch.tensor([0, 2])
    assert_same(concatenate([whole.rows(odd), whole.rows(even)], indices=[odd, even]), whole)
    assert_same(whole.to("cpu"), whole)
    lines = repr(whole).splitlines()
    assert lines[0] == "Heads(kind, size)"
    first = {name: repr(head).splitlines()[0] for name, head in whole.items()}
    assert [line for line in lines if "=" in line] == [f"  {name}={line}" for name, line in first.items()]


def test_heads_of_other_names_do_not_merge() -> None:
    a = HEADS.summarize(heads_draws(2))
    b = as_output({"kind": Logits()}).summarize({"kind": torch.zeros(2, 4, 3)})
    for action in (a.merge, a.concatenate):
        with pytest.raises(CannotMergeError, match=r"(?s)same names.*\['kind', 'size'\] and \['kind'\].*Fix:"):
            action(b)
    with pytest.raises(CannotMergeError, match="Got: Heads, Categorical"):
        a.merge(a["kind"])


@pytest.mark.parametrize("output", [Logits(), BinaryLogit()])
def test_one_draw_prints_no_mutual_information(output: Any) -> None:
    draws = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    lines = repr(output.summarize(draws)).splitlines()
    assert {line.split()[-1] for line in lines[2:7]} == {"0"}
