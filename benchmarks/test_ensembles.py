"""An ensemble against a plain loop over its members, a line for each network and size: ``make bench``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.ensembles import HEAD, LINES, TITLE, Line, first_and_second, measured
from benchmarks.results import machine, write_part


@pytest.fixture(scope="module")
def lines(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    collected: list[str] = []
    yield collected
    text = "\n".join(collected) + "\n"
    if pytestconfig.getoption("--smoke") or len(collected) < len(LINES):
        print("\n" + text)
        return
    path = Path(__file__).with_name("RESULTS_ENSEMBLES.md")
    part = f"{machine()}\n\n```\n{TITLE}\n{HEAD}\n{text}```\n"
    write_part(path, "# Inference of an ensemble\n\nWritten by `make bench`; one thread.\n", part)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("line", LINES, ids=str)
def test_ensemble(line: Line, lines: list[str], pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--smoke") and line is not LINES[0]:
        pytest.skip("one line shows that it runs")
    lines.append(measured(line))


def test_first_and_second_predict(lines: list[str], pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--smoke"):
        pytest.skip("takes as long as its rounds")
    lines += first_and_second()
