"""One curve, known on [-3, 3] only: how unsure is each way of being uncertain where there was no data?

python experiments/toy_regression/run.py            # train, draw toy_regression.png, write results.json and the table
python experiments/toy_regression/run.py --check    # hold the results to expected.json
python experiments/toy_regression/run.py --smoke    # a few steps of each, nothing is kept
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import count_missed

import caveat
from caveat import layers, losses, samplers
from caveat.plot import plot_regression

mpl.use("Agg")
from matplotlib.figure import Figure

HERE = Path(__file__).parent
NOISE, ROWS, WIDTH = 0.1, 200, 50
SETTINGS: dict[str, Any] = {"learning_rate": 5e-3, "batch_size": 50, "validation": None, "progress": False}
READ = caveat.Mean(noise_variance=NOISE**2)
INSIDE, OUTSIDE = torch.linspace(-2.5, 2.5, 60)[:, None], torch.linspace(6.0, 9.0, 30)[:, None]


def truth(x: Tensor) -> Tensor:
    """The curve."""
    return x.sin() + 0.3 * x


def data() -> tuple[Tensor, Tensor]:
    """Rows on [-3, 3], with noise of a known size."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ROWS, 1, generator=generator) * 6 - 3
    return x, truth(x) + NOISE * torch.randn(ROWS, 1, generator=generator)


def network(dropout: float = 0.0) -> nn.Sequential:
    """1-50-50-1 with dropout before the last two layers."""
    hidden = (nn.Linear(1, WIDTH), nn.ReLU(), nn.Dropout(dropout), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    return nn.Sequential(*hidden, nn.Dropout(dropout), nn.Linear(WIDTH, 1))


def fitted(build: Callable[[], nn.Module], epochs: int, members: int = 1, **settings: Any) -> list[nn.Module]:
    """Networks trained by squared error."""
    given = {**SETTINGS, **settings}
    return list(caveat.fit_ensemble(build, nn.MSELoss(), data(), members=members, epochs=epochs, **given))


def concrete(epochs: int) -> Any:
    """Concrete dropout: the rates are learned too."""

    def build() -> nn.Module:
        middle = layers.ConcreteDropout(nn.Linear(WIDTH, WIDTH))  # the only input itself is not dropped
        last = layers.ConcreteDropout(nn.Linear(WIDTH, 2))
        return nn.Sequential(nn.Linear(1, WIDTH), nn.ReLU(), middle, nn.ReLU(), last)

    loss = losses.gaussian_nll
    net = caveat.fit(
        build(), loss, data(), epochs=epochs, **SETTINGS,
        penalty=lambda net: layers.concrete_penalty(net, ROWS, model_precision=None),
    ).model  # fmt: skip
    return caveat.mc_dropout(net, output=caveat.MeanAndLogVariance())


def swag(epochs: int) -> Any:
    """SWAG: a normal distribution around the weights that a long training passes through."""
    net = fitted(network, epochs)[0]
    moments = samplers.SwagMoments(net, rank=20)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    x, y = data()
    for step in range(10 * epochs):
        optimizer.zero_grad()
        rows = torch.arange(step * 20, step * 20 + 20) % ROWS
        nn.functional.mse_loss(net(x[rows]), y[rows]).backward()
        optimizer.step()
        if step % 5 == 0:
            moments.update()
    return samplers.swag(net, moments, output=READ)


def sngp(epochs: int) -> Any:
    """SNGP: residual layers that keep distances, and a Gaussian process as the last layer."""

    def build() -> nn.Module:
        blocks = [layers.ResidualBlock(nn.Sequential(nn.Linear(32, 32), nn.ReLU())) for _ in range(2)]
        body = layers.spectral_normalized(nn.Sequential(*blocks), bound=0.95)
        head = layers.RandomFeatureGaussianProcess(32, 1, features=256, length_scale=2.0, curvature=NOISE**2)
        return nn.Sequential(nn.Linear(1, 32), body, head)

    net = caveat.fit(build(), nn.MSELoss(), data(), epochs=epochs, **SETTINGS).model
    layers.update_precision(net, data()[0])
    return samplers.gaussian_process_head(net, output=READ)


WAYS: dict[str, Callable[[int], Any]] = {
    "MC dropout": lambda epochs: caveat.mc_dropout(fitted(lambda: network(0.1), epochs)[0], output=READ),
    "deep ensemble of 10": lambda epochs: caveat.ensemble(fitted(network, epochs, 10), output=READ),
    "ensemble of 5 MC dropout": lambda epochs: caveat.mixture(
        [caveat.mc_dropout(net, output=READ) for net in fitted(lambda: network(0.1), epochs, 5)]
    ),
    "Concrete dropout": concrete,
    "SWAG": swag,
    "SNGP": sngp,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few steps of each, nothing is kept: does it run?")
    parser.add_argument("--check", action="store_true", help="hold the results to expected.json")
    options = parser.parse_args()
    if options.check:
        ways = json.loads((HERE / "results.json").read_text())["ways"]
        sys.exit(count_missed({name: row["outside"] / row["inside"] for name, row in ways.items()}, HERE))
    smoke = options.smoke
    torch.manual_seed(0)
    x, (known, seen) = torch.linspace(-9, 9, 361)[:, None], data()
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    found: dict[str, dict[str, float]] = {}
    for name, ax in zip(WAYS, figure.subplots(2, 3, sharex=True, sharey=True).flat, strict=True):
        start = time.perf_counter()
        sampler = WAYS[name](5 if smoke else 300)
        draws = None if sampler.size is not None else 200
        inside, outside = (
            float(caveat.predict(sampler, rows, draws).epistemic_variance.sqrt().mean()) for rows in (INSIDE, OUTSIDE)
        )
        found[name] = {"inside": inside, "outside": outside, "seconds": round(time.perf_counter() - start, 1)}
        more = f"{outside / inside:.1f} times as much"
        print(f"{name}: sd {inside:.3f} inside, {outside:.3f} outside, {more}", flush=True)
        pred = caveat.predict(sampler, x, draws)
        bands = ("total", "epistemic")
        plot_regression(x, pred, data=(known, seen), truth=truth(x)[:, 0], parts=bands, title=name, ax=ax)
        ax.set_ylim(-4, 4)
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        if len(found) not in (1, 4):
            ax.set_ylabel("")
    if not smoke:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(HERE / "toy_regression.png", dpi=90)
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        kept = {"command": "python experiments/toy_regression/run.py", "versions": versions, "ways": found}
        (HERE / "results.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
