"""Extrapolating the CO2 series: what each way of being uncertain says of years that it has not seen.

As in figure 2 of "Dropout as a Bayesian Approximation", Gal and Ghahramani (2015 in its first version), with what
really happened drawn in. Run: python experiments/gal_2015_co2/run.py [--smoke] [--check]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import count_missed

import caveat
from caveat._engine import Sampler
from caveat.interop import gaussian_process
from caveat.samplers import deterministic, ensemble
from caveat.train import fit, fit_ensemble

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SERIES = HERE.parents[2] / "shared" / "data" / "series" / "co2.csv"
SOURCE = "https://raw.githubusercontent.com/statsmodels/statsmodels/main/statsmodels/datasets/co2/co2.csv"
DIGEST = "2d553d49fba8dfb16a1871690ad0700d33c326237ad915329f9e991b635dc201"  # of the numbers: see digest()
TRAINED = (1972.0, 1989.0)  # years: about 200 months, as in the paper
LAYERS, HIDDEN, RATE = 4, 256, 0.1  # the paper: 4 or 5 layers of 1024 units, rates of 0.1 and 0.2
EPOCHS, DRAWS, MEMBERS = 3000, 1000, 10


def months() -> tuple[Tensor, Tensor]:
    """Monthly means: the middle of each month as a year, and CO2 in ppmv.

    Raises:
        ValueError: the numbers are not those that the committed results come from.
    """
    path = SERIES if SERIES.exists() else _fetched()
    rows = csv.DictReader(path.read_text().splitlines())
    weeks = [(int(row["date"]), float(row["co2"])) for row in rows if row["co2"]]
    if (found := digest(weeks)) != DIGEST:
        raise ValueError(f"The CO2 series has SHA-256 {found}, not {DIGEST}: another version of it ({path})")
    sums: dict[tuple[int, int], list[float]] = {}
    for date, level in weeks:
        sums.setdefault((date // 10_000, date // 100 % 100), []).append(level)
    years = torch.tensor([year + (month - 0.5) / 12 for year, month in sums])
    return years, torch.tensor([sum(levels) / len(levels) for levels in sums.values()])


def digest(weeks: list[tuple[int, float]]) -> str:
    """SHA-256 of the dates (YYYYMMDD) as little-endian int32 and of CO2 as little-endian float64."""
    dates, levels = zip(*weeks, strict=True)
    return hashlib.sha256(np.array(dates, "<i4").tobytes() + np.array(levels, "<f8").tobytes()).hexdigest()


def _fetched() -> Path:
    try:
        import pooch  # only needed away from the shared data
    except ImportError as error:
        fix = 'to fetch it: pip install "caveat[experiments]"'
        raise ImportError(f"The CO2 series is not in ../shared/data; {fix}") from error

    # The numbers are checked in months(), however the file is written.
    return Path(pooch.retrieve(SOURCE, known_hash=None, path=pooch.os_cache("caveat"), fname="co2.csv"))


def network(activation: Callable[[], nn.Module], rate: float, heads: int = 1) -> nn.Module:
    """Layers of units, dropout after each; without dropout for the members of an ensemble."""
    layers: list[nn.Module] = []
    for width in [1] + [HIDDEN] * (LAYERS - 1):
        layers += [nn.Linear(width, HIDDEN), activation(), *([nn.Dropout(rate)] if rate else [])]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, heads))


def samplers(x: Tensor, y: Tensor, epochs: int) -> dict[str, Sampler]:
    """Each way of being uncertain, fitted to standardized years (N, 1) and CO2 (N, 1)."""
    settings = {"validation": None, "patience": None, "batch_size": len(x), "weight_decay": 1e-6, "progress": False}
    mean = caveat.Mean()

    def dropout(activation: Callable[[], nn.Module]) -> nn.Module:
        torch.manual_seed(0)
        model = network(activation, RATE)
        for rate, share in ((1e-3, 0.7), (1e-4, 0.3)):
            fit(model, nn.functional.mse_loss, (x, y), epochs=round(share * epochs), learning_rate=rate, **settings)
        return model

    relu, tanh = dropout(nn.ReLU), dropout(nn.Tanh)
    members = fit_ensemble(
        lambda: network(nn.ReLU, 0.0), nn.functional.mse_loss, (x, y),
        members=MEMBERS, epochs=epochs // 2, learning_rate=1e-3, **settings,
    )  # fmt: skip
    return {
        "Standard dropout (weights averaged), ReLU": deterministic(relu, output=mean),
        "Gaussian process, squared exponential": gaussian_process(x, y),
        "MC dropout, ReLU": caveat.mc_dropout(relu, output=mean),
        "MC dropout, tanh": caveat.mc_dropout(tanh, output=mean),
        f"Deep ensemble of {MEMBERS}, ReLU": ensemble(members, output=mean),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="CO2 extrapolation, one picture")
    parser.add_argument("--smoke", action="store_true", help="hardly trained, no files: does it run?")
    parser.add_argument("--check", action="store_true", help="hold the results to expected.json")
    options = parser.parse_args()
    if options.check:
        sys.exit(count_missed(growth(json.loads((HERE / "results.json").read_text())["ppmv"]), HERE))
    smoke = options.smoke
    torch.set_num_threads(1)
    start = time.perf_counter()

    years, level = months()
    seen = (years >= TRAINED[0]) & (years < TRAINED[1])
    center, spread = years[seen].mean(), years[seen].std()
    offset, scale = level[seen].mean(), level[seen].std()
    x, y = ((years[seen] - center) / spread)[:, None], ((level[seen] - offset) / scale)[:, None]
    at = torch.linspace(1965, 2020, 441)
    found = {}
    for name, sampler in samplers(x, y, EPOCHS // 100 if smoke else EPOCHS).items():
        draws = min(sampler.size or DRAWS, 50 if smoke else DRAWS)
        pred = caveat.predict(sampler, ((at - center) / spread)[:, None], n=draws, seed=0)
        found[name] = (offset + scale * pred.mean[:, 0], scale * pred.epistemic_variance[:, 0].sqrt())
    if not smoke:
        picture(years, level, at, found).savefig(HERE / "co2.png", dpi=110)
        write(at, found, time.perf_counter() - start)


def growth(table: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times as unsure each method is 20 to 30 years on as in the years seen; 0 if it is never unsure."""
    far, near = "sd 20 to 30 years on", "sd inside"
    return {name: row[far] / row[near] if row[near] else row[far] for name, row in table.items()}


def picture(years: Tensor, level: Tensor, at: Tensor, found: dict[str, tuple[Tensor, Tensor]]) -> plt.Figure:
    """A panel for each method, and one of all standard deviations."""
    figure, grid = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    seen = (years >= TRAINED[0]) & (years < TRAINED[1])
    for ax, (name, (mean, sd)) in zip(grid.flat, found.items(), strict=False):
        for times in (2, 1):
            ax.fill_between(at, mean - times * sd, mean + times * sd, color="tab:blue", alpha=0.2, lw=0)
        ax.plot(years[~seen], level[~seen], color="0.65", lw=0.8, label="what happened")
        ax.plot(years[seen], level[seen], color="tab:red", lw=0.8, label="trained on")
        ax.plot(at, mean, color="tab:blue", lw=1.5, label="mean, ± 1 and 2 sd over draws")
        ax.axvline(TRAINED[1], color="k", ls="--", lw=0.8)
        ax.set(title=name, ylim=(300, 430), xlim=(float(at[0]), float(at[-1])), ylabel="CO$_2$, ppmv")
    grid.flat[0].legend(loc="upper left", framealpha=1, edgecolor="none")
    last = grid.flat[-1]
    for name, (_, sd) in found.items():
        if sd.max() > 0:
            last.plot(at, sd, label=name)
    last.axvspan(*TRAINED, color="tab:red", alpha=0.1, lw=0)
    last.set(title="Standard deviation over draws", yscale="log", xlim=(float(at[0]), float(at[-1])), ylabel="ppmv")
    last.set_ylim(top=1000)  # room for the names
    last.legend(loc="upper left", frameon=False)
    return figure


def write(at: Tensor, found: dict[str, tuple[Tensor, Tensor]], seconds: float) -> None:
    """The numbers that the README quotes: mean standard deviation in years seen and 20 to 30 years on."""
    inside = (at >= TRAINED[0]) & (at < TRAINED[1])
    far = (at >= TRAINED[1] + 20) & (at < TRAINED[1] + 30)
    table = {
        name: {"sd inside": round(sd[inside].mean().item(), 3), "sd 20 to 30 years on": round(sd[far].mean().item(), 3),
               "mean 20 to 30 years on": round(mean[far].mean().item(), 1)}
        for name, (mean, sd) in found.items()
    }  # fmt: skip
    for name, row in table.items():
        print(f"{name:44} {row}")
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    command = "python experiments/gal_2015_co2/run.py"
    content = {"command": command, "versions": versions, "seconds": round(seconds), "ppmv": table}
    (HERE / "results.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
