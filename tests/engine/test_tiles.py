"""Tiles: rows and draws at once follow from sizes alone, and change nothing in the draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import caveat
from caveat._engine import _tiles as tiles
from caveat._engine._bound import BoundNetwork
from caveat._engine._tiles import Tile, Wide, choose_tile, choose_wide, last_cache_bytes
from caveat._numerics import log_softmax
from caveat.predictive import Categorical

MIB = 1 << 20


@pytest.fixture
def digits() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout2d(0.25), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Dropout2d(0.25),
        nn.Flatten(), nn.Linear(8 * 8 * 8, 5),
    ).eval()  # fmt: skip


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and draws of each bound network."""
    seen = list[tuple[int, int]]()
    split = BoundNetwork._split

    def noted(self: BoundNetwork) -> None:
        split(self)
        seen.append((self._rows_at_once, self._draws_at_once))

    monkeypatch.setattr(BoundNetwork, "_split", noted)
    return seen


def test_the_digit_network_takes_many_draws_of_some_rows() -> None:
    # 31 images, maps of 64 x 8 x 8 floats, 33 such maps of contributions: 32 draws of 8 rows are 4 MiB of 32.
    assert choose_tile(31, 16 << 10, 33 * (16 << 10), 1 << 30, 32 * MIB) == Tile(8, 32)
    assert choose_tile(31, 16 << 10, 33 * (16 << 10), 1 << 30, 128 * MIB) == Tile(31, 32)


@pytest.mark.parametrize("rows", [1, 2, 7, 31, 64, 1000])
@pytest.mark.parametrize("cache", [MIB, 8 * MIB, 256 * MIB])
def test_a_tile_stays_in_its_part_of_the_cache_and_pieces_are_even(rows: int, cache: int) -> None:
    row_bytes = 4 << 10
    tile = choose_tile(rows, row_bytes, 1, 1 << 40, cache)
    assert tile is not None
    assert tile.draws == 32
    assert 1 <= tile.rows <= rows
    assert tile.rows * tile.draws * row_bytes <= cache // 8
    pieces = -(-rows // tile.rows)
    assert pieces * tile.rows - rows < pieces  # no piece is smaller than another by more than a row each


@pytest.mark.parametrize(
    ("shared", "allowed", "row_bytes"),
    [(0, 1 << 40, 1024), (1024, 1024 * 9, 1), (1, 1 << 40, 1 << 20)],
    ids=["nothing shared", "more than is allowed", "a row that fills the cache"],
)
def test_no_tile(shared: int, allowed: int, row_bytes: int) -> None:
    assert choose_tile(10, row_bytes, shared, allowed, 8 * MIB) is None


def test_contributions_are_what_all_draws_read(digits: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = list[int]()

    def noted(rows: int, row_bytes: int, shared_bytes: int, allowed: int, cache: int) -> Tile | None:
        shared.append(shared_bytes)
        return choose_tile(rows, row_bytes, shared_bytes, allowed, cache)

    monkeypatch.setattr("caveat._engine._bound.choose_tile", noted)
    caveat.draws(caveat.mc_dropout(digits, output=caveat.Logits()), torch.randn(31, 1, 12, 12), n=2)
    assert shared == [5 * 8 * 8 * 8 * 4]  # four channels and the bias, maps of 8 x 8 x 8


def test_draws_are_the_same_whatever_the_tiles(
    digits: nn.Module, chosen: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(31, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    loop = caveat.draws(caveat.mc_dropout(digits, output=caveat.Logits(), backend="loop"), x, n=70, seed=3)
    for cache in (MIB, 4 * MIB, 64 * MIB):
        monkeypatch.setattr("caveat._engine._bound.last_cache_bytes", lambda cache=cache: cache)
        chosen.clear()
        draws = caveat.draws(caveat.mc_dropout(digits, output=caveat.Logits()), x, n=70, seed=3)
        assert chosen[-1][0] < 31 or cache == 64 * MIB
        torch.testing.assert_close(draws, loop, rtol=1e-5, atol=1e-5)
    assert chosen[-1][0] == 31


def test_cache_sizes_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, told in enumerate([("1", "Data", "48K"), ("1", "Instruction", "32K"), ("3", "Unified", "32M")]):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, text in zip(("level", "type", "size"), told, strict=True):
            (folder / name).write_text(text + "\n")
    monkeypatch.setattr(tiles, "_CACHES", tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    assert tiles.caches() == [("L1", 48 << 10), ("L3", 32 << 20)]
    assert last_cache_bytes.__wrapped__() == 32 << 20
    monkeypatch.setattr(tiles, "_CACHES", tmp_path / "none")
    assert last_cache_bytes.__wrapped__() == 16 << 20


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, Wide(1, 5)), (8, Wide(4, 5)), (64, Wide(8, 1)), (5, Wide(5, 5))]
)
def test_scores_of_a_vocabulary_go_by_some_rows_and_several_draws(rows: int, expected: Wide) -> None:
    assert choose_wide(rows, 50_257 * 4, 50_257 * 4, 50_257 * 64 * 4, 1 << 40) == expected


def test_what_is_not_wide_is_run_as_before() -> None:
    assert choose_wide(64, 4096, 2048, 1 << 30, 1 << 40) is None  # larger tensors come before the output
    assert choose_wide(64, 5 << 20, 5 << 20, 1 << 20, 1 << 40) == Wide(1, None)  # pictures: light weights
    assert choose_wide(64, 4000, 4000, 1 << 20, 1 << 40) == Wide(64, 5)  # few classes: all rows together


@pytest.mark.parametrize("n", [1, 20, 45])
def test_rows_summarized_apart_have_the_summary_of_their_draws(n: int, chosen: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 20_000)).eval()
    model[3].weight.data.mul_(20)
    sampler, x = caveat.mc_dropout(model, output=caveat.Logits()), torch.randn(31, 8)
    pred = caveat.predict(sampler, x, n=n)
    assert {rows for rows, _ in chosen[1:]} == {11, 9}
    exact = Categorical.from_log_probabilities(log_softmax(caveat.draws(sampler, x, n=n)))
    torch.testing.assert_close(pred.moments.mean, exact.moments.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pred.moments.m2, exact.moments.m2, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(pred.mean_entropy, exact.mean_entropy, rtol=1e-5, atol=2e-6)
    assert torch.equal(pred.votes, exact.votes)
    assert pred.count == n
