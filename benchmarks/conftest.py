"""Options of the benchmarks, and the report that is written when every line has run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.results import Report


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("caveat benchmarks")
    group.addoption("--enforce", action="store_true", help="fail where a bound of the table is not met")
    group.addoption("--smoke", action="store_true", help="few draws, one round: does everything run? Writes nothing")
    group.addoption("--results", default=str(Path(__file__).with_name("RESULTS.md")), help="where the table goes")


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    arguments = " ".join(str(argument) for argument in request.config.invocation_params.args)
    collected = Report(f"python -m pytest {arguments}")
    yield collected
    if request.config.getoption("--smoke"):
        return
    if collected.complete:
        collected.write(Path(request.config.getoption("--results")))
    elif collected.speeds or collected.memories:
        print("\n" + collected.markdown())  # a part of the lines: shown, not written
