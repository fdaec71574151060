"""Seconds to corrupt 10,000 color images of 32 x 32, kind by kind: ``python -m benchmarks.corruptions``."""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from caveat.shift import CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt


def images(count: int) -> torch.Tensor:
    """Random images with large and small structure, in 8 bits."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    fine = torch.rand(count, 3, 32, 32, generator=generator)
    large = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return ((0.8 * large + 0.2 * fine) * 255).round() / 255


def main() -> None:
    """Time every kind once and print the seconds, the slowest first, and their median."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--severity", type=int, default=3)
    options = parser.parse_args()
    batch, seconds = images(options.count), dict[str, float]()
    for kind in (*CORRUPTIONS, *EXTRA_CORRUPTIONS):
        corrupt(batch[:10], kind, options.severity)
        start = time.perf_counter()
        corrupt(batch, kind, options.severity)
        seconds[kind] = time.perf_counter() - start
    for kind, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{kind:<20} {taken:6.2f} s")
    print(f"{'median':<20} {statistics.median(seconds.values()):6.2f} s  ({options.count:,} images)")


if __name__ == "__main__":
    main()
