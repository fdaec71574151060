"""Layouts: opening and closing are inverse, and one row's mask meets every row in the same place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat._intercept._layout import Fold, Layout, close, find_layout, fold_orders

SIZES = st.integers(1, 4)


def batch_of(rows: Tensor, axis: int, fold: Fold) -> Tensor:
    """Rows (B, *one) folded into ``axis`` of one row's shape."""
    lead = rows.movedim(0, axis if fold is Fold.MAJOR else axis + 1)
    return lead.flatten(axis, axis + 1)


@st.composite
def folded(draw: st.DrawFn) -> tuple[Tensor, int, Fold]:
    one = tuple(draw(st.lists(SIZES, min_size=1, max_size=4)))
    count, axis = draw(st.integers(2, 4)), draw(st.integers(0, len(one) - 1))
    rows = torch.arange(float(count * max(torch.Size(one).numel(), 1))).reshape(count, *one)
    return rows, axis, draw(st.sampled_from(Fold))


@given(folded())
def test_open_and_close_are_inverse_and_open_has_the_rows_on_the_batch_axis(case: tuple[Tensor, int, Fold]) -> None:
    rows, axis, fold = case
    tensor = batch_of(rows, axis, fold)
    layout = Layout(len(rows), axis, rows.shape[axis + 1], fold)
    assert torch.equal(layout.close(layout.open(tensor)), tensor)
    assert layout.batch_axis is not None
    opened = layout.open(tensor)
    assert opened.shape[layout.batch_axis] == len(rows)
    for number, row in enumerate(rows):
        assert torch.equal(opened.select(layout.batch_axis, number).reshape(row.shape), row)


@given(folded())
def test_a_shared_mask_meets_each_row_as_it_meets_one_row(case: tuple[Tensor, int, Fold]) -> None:
    rows, axis, fold = case
    layout = find_layout(tuple(rows.shape[1:]), tuple(batch_of(rows, axis, fold).shape), len(rows), fold)
    assert layout is not None
    mask = torch.rand(3, *rows.shape[1:], generator=torch.Generator().manual_seed(0))
    met = layout.mask_for_all(mask, lead=1) * layout.open(batch_of(rows, axis, fold))
    for draw in range(3):
        expected = batch_of(rows * mask[draw], axis, fold)
        assert torch.equal(layout.close(met[draw]), expected)


@given(folded())
def test_masks_by_row_meet_their_own_rows(case: tuple[Tensor, int, Fold]) -> None:
    rows, axis, fold = case
    layout = find_layout(tuple(rows.shape[1:]), tuple(batch_of(rows, axis, fold).shape), len(rows), fold)
    assert layout is not None
    masks = torch.rand(2, *rows.shape, generator=torch.Generator().manual_seed(0))
    met = layout.mask_by_row(masks, lead=1) * layout.open(batch_of(rows, axis, fold))
    for draw in range(2):
        assert torch.equal(layout.close(met[draw]), batch_of(rows * masks[draw], axis, fold))


@given(folded())
def test_the_order_of_a_fold_is_found_from_values(case: tuple[Tensor, int, Fold]) -> None:
    rows, axis, fold = case
    pair = rows[:2] + 1
    found = fold_orders(pair[1], batch_of(pair, axis, fold), axis)
    assert fold in found
    assert all(torch.equal(batch_of(pair, axis, each), batch_of(pair, axis, fold)) for each in found)


def test_values_of_rows_that_depend_on_each_other_have_no_order() -> None:
    one = torch.tensor([1.0, 2.0])
    assert fold_orders(one, torch.tensor([9.0, 9.0, 9.0, 9.0]), 0) == ()


def test_equal_values_of_rows_leave_both_orders() -> None:
    assert len(fold_orders(torch.ones(2), torch.ones(4), 0)) == 2


@pytest.mark.parametrize(
    ("one", "actual", "rows", "axis"),
    [
        ((1, 5), (4, 5), 4, 0),
        ((5, 1, 3), (5, 4, 3), 4, 1),
        ((5,), (4, 5), 4, 0),  # the network squeezed the one row away
        ((5, 3), (5, 3), 4, None),  # no batch: a weight
        ((1, 1), (3, 1), 3, 0),
    ],
)
def test_where_the_batch_is(one: tuple[int, ...], actual: tuple[int, ...], rows: int, axis: int | None) -> None:
    layout = find_layout(one, actual, rows)
    assert layout is not None
    assert layout.axis == axis


@pytest.mark.parametrize(
    ("one", "actual", "rows"),
    [((1, 5), (4, 6), 4), ((2, 5), (8, 5), 4), ((3, 5), (7, 5), 2), ((1, 5), (4, 5, 1, 1), 4)],
)
def test_what_cannot_be_told(one: tuple[int, ...], actual: tuple[int, ...], rows: int) -> None:
    assert find_layout(one, actual, rows) is None


def test_close_is_about_rounding_only() -> None:
    a = torch.linspace(1, 2, 10)
    assert close(a, a + 1e-6)
    assert not close(a, a * 1.01)
    assert not close(a, a.double())
    assert not close(a, a[:9])
    assert close(torch.tensor([torch.nan, 1.0]), torch.tensor([torch.nan, 1.0]))
    assert not close(torch.tensor([torch.nan, 1.0]), torch.tensor([1.0, 1.0]))
    assert not close(torch.tensor([1, 2]), torch.tensor([1, 3]))
