"""The table of the benchmarks: every bound, what was measured, and whether it is met or falls short."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy
import torch

from benchmarks.workloads import WORKLOADS, Baseline, Workload
from caveat._engine._tiles import caches

FLAT = 1.10
"""The peak at 10 T may be this many times the peak at T."""


@dataclass(frozen=True)
class Ratio:
    """A baseline's time over ours, taken round by round."""

    median: float
    least: float
    greatest: float

    @staticmethod
    def of(theirs: list[float], ours: list[float]) -> Ratio:
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Speed:
    """A line's times in seconds for T draws, round by round; ``quiet`` counts the rounds that nobody disturbed."""

    workload: Workload
    ours: list[float]
    cold: list[float]
    baselines: dict[Baseline, list[float]]
    quiet: int

    def ratio(self, baseline: Baseline) -> Ratio:
        return Ratio.of(self.baselines[baseline], self.ours)

    def short(self) -> list[str]:
        """The bounds that are not met."""
        return [
            f"{self.workload.name}: {bound.words} ({self.ratio(bound.baseline).median:.2f}, need {bound.at_least:.2f})"
            for bound in self.workload.bounds
            if self.ratio(bound.baseline).median < bound.at_least
        ]


@dataclass(frozen=True)
class Memory:
    """A line's peaks above the model's in MiB, one for each fresh process, at T and at 10 T."""

    workload: Workload
    once: list[float]
    tenfold: list[float]

    @property
    def growth(self) -> float:
        """Median peak at 10 T over median peak at T."""
        return statistics.median(self.tenfold) / statistics.median(self.once)

    def short(self) -> list[str]:
        """The bounds that are not met."""
        name, limit = self.workload.name, self.workload.small
        peak = max(statistics.median(self.once), statistics.median(self.tenfold))
        found = [f"{name}: the peak at 10 T is {self.growth:.2f} times that at T"] if self.growth > FLAT else []
        return found + ([f"{name}: {peak:.0f} MiB, over {limit:.0f}"] if limit is not None and peak >= limit else [])


@dataclass
class Report:
    """What was measured, line by line."""

    command: str
    speeds: list[Speed] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every line of the table has run."""
        return len(self.speeds) == len(self.memories) == len(WORKLOADS)

    def markdown(self) -> str:
        """This processor's part of the file."""
        parts = [_printed(self.command)]
        parts += [_bounds(self.speeds), _times(self.speeds)] if self.speeds else []
        parts += [_memory(self.memories)] if self.memories else []
        return "\n".join(parts)

    def write(self, path: Path) -> None:
        """Puts this processor's part into the file."""
        write_part(path, HEAD, self.markdown())


def write_part(path: Path, head: str, part: str) -> None:
    """Puts this processor's part into a file of results; the parts of other processors stay as they are."""
    parts = _parts(path.read_text(encoding="utf-8") if path.exists() else "")
    parts[_processor_line()] = f"## {_processor_line()}\n\n{part}"
    path.write_text("\n".join([head, *parts.values()]), encoding="utf-8")


def _parts(text: str) -> dict[str, str]:
    """The part of each processor, by its line."""
    _, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return {part.split("\n", 1)[0].removeprefix("## "): part.rstrip("\n") + "\n" for part in parts}


HEAD = """# Benchmarks

A part for each processor that `make bench` ran on; a run renews its own processor's part.

A ratio is (time of the baseline) / (time of `caveat.predict`, second call of a sampler), both taken in the same round,
one after the other; the table gives the median over the rounds, and the least and the greatest. Every baseline keeps
a running mean and variance, as ours does, and means and variances are checked against each other. A round during
which other processes kept more than a tenth of a core busy is taken again, within limits; where no quiet one came,
the least disturbed one counts, and the column "quiet" says how many were quiet throughout.
"""


def _printed(command: str) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""Written by `make bench` (`{command}`), {now}.

{machine()}
"""


def machine() -> str:
    """The processor, its caches, its vector instructions, and the versions: two lines of a list."""
    system = f"{platform.system()} {platform.machine()}"
    versions = f"torch {torch.__version__}, numpy {numpy.__version__}, caveat {_version('caveat')}"
    threads = f"{os.cpu_count()} cores; {system}; torch uses {torch.get_num_threads()} threads"
    return f"""* {_processor_line()}, {threads}
* Python {platform.python_version()}, {versions}"""


def _processor_line() -> str:
    sizes = ", ".join(f"{level} {size // 1024:,} KiB" for level, size in caches()) or "caches not told by the system"
    return f"{processor()} ({torch.backends.cpu.get_cpu_capability()}; {sizes})"


def _bounds(speeds: list[Speed]) -> str:
    lines = ["### Speed", "", "| work | T | at least | measured | needed | |", "| --- | --- | --- | --- | --- | --- |"]
    for speed in speeds:
        for bound in speed.workload.bounds:
            ratio = speed.ratio(bound.baseline)
            verdict = "met" if ratio.median >= bound.at_least else "**falls short**"
            lines.append(
                f"| {speed.workload.title} | {speed.workload.draws:,} | {bound.words} "
                f"| {ratio.median:.2f} ({ratio.least:.2f} to {ratio.greatest:.2f}) | {bound.at_least:.2f} | {verdict} |"
            )
    return "\n".join(lines) + "\n"


def _times(speeds: list[Speed]) -> str:
    lines = [
        "### Times", "",
        "Milliseconds for T draws, medians. *First call* is on a network caveat has not seen: it includes making the",
        "sampler, the audit and the trial of the executors. Loops are timed over some of their passes and scaled to T.",
        "",
        "| work | caveat | first call | loop | no dropout | repeat T times "
        "| one pass + T heads | passes timed | quiet |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for speed in speeds:
        names: tuple[Baseline, ...] = ("loop", "no_dropout", "repeat", "heads")
        others = [_milliseconds(speed.baselines.get(name)) for name in names]
        cells = [speed.workload.name, _milliseconds(speed.ours), _milliseconds(speed.cold), *others]
        cells += [f"{speed.workload.timed:,}", f"{speed.quiet} of {len(speed.ours)}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _memory(memories: list[Memory]) -> str:
    lines = [
        "### Memory", "",
        "Peak resident MiB above the model's during a first call in a fresh process: the median, and the least and the",
        f"greatest. The peak at 10 T may be {FLAT:.2f} times that at T.",
        "", "| work | at T | at 10 T | 10 T / T | limit | |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for memory in memories:
        limit = "" if memory.workload.small is None else f"{memory.workload.small:.0f}"
        verdict = "**falls short**" if memory.short() else "met"
        lines.append(
            f"| {memory.workload.name} | {_spread(memory.once)} | {_spread(memory.tenfold)} "
            f"| {memory.growth:.2f} | {limit} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _milliseconds(seconds: list[float] | None) -> str:
    return "" if not seconds else f"{statistics.median(seconds) * 1e3:,.1f}"


def _spread(mib: list[float]) -> str:
    return f"{statistics.median(mib):.1f} ({min(mib):.1f} to {max(mib):.1f})"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "from source"


def processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
