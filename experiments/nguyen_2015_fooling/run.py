"""Fooling pictures: noise and gradient-made ones that a network of digits is sure of. What do the draws say?

After "Deep Neural Networks are Easily Fooled: High Confidence Predictions for Unrecognizable Images", Nguyen, Yosinski
and Clune, 2015. Run: python experiments/nguyen_2015_fooling/run.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from digits import four_methods, trained
from records import Experiment, Record, images, markdown, plus_minus, run

import caveat
from caveat.metrics import out_of_distribution

HERE = Path(__file__).parent
SEEDS, DRAWS, KNOWN, MADE = 3, 100, 2000, 500  # test digits, and pictures of each kind
SURE, ALARMS = 0.99, 0.05  # confidence that counts as sure; the fraction of digits that may count as fooling
STEPS, RATE, MASKS = 100, 0.05, 10  # gradient steps, Adam's rate, and the masks that a step against the draws sees
NOISES = ("uniform noise", "shuffled pixels")
GRADIENTS = ("gradient, one pass", "gradient, through dropout")
KINDS = (*NOISES, *GRADIENTS)
METHODS = ("one pass", "MC dropout", "deep ensemble", "ensemble of MC dropout")
MEASURES = {"entropy": caveat.predictive_entropy, "mutual information": caveat.mutual_information}
LEVELS = np.linspace(0.5, 0.999, 100)  # confidences at which the curves are kept


def compute(part: str, smoke: bool) -> Record:
    """Make the pictures against the first network of a seed, and read them with each method."""
    seed = int(part.split(" ")[1])
    networks = trained(seed, smoke=smoke)
    known, made, draws, steps = (100, 20, 5, 5) if smoke else (KNOWN, MADE, DRAWS, STEPS)
    x, _ = images("mnist", "test")
    sets = {"digits": x[:known]} | pictures(networks[0], x[known : known + made], seed, steps)
    samplers = four_methods(networks, draws)
    read = {
        method: {name: caveat.predict(sampler, rows, n=n, seed=seed) for name, rows in sets.items()}
        for method, (sampler, n) in samplers.items()
    }
    sure = {name: confidence(read["one pass"][name]) > SURE for name in KINDS}
    if part == "seed 0" and not smoke:
        keep(sets, read, sure)
    return {
        method: {"digits": told(own["digits"], own["digits"], None)}
        | {name: told(own[name], own["digits"], sure[name]) for name in KINDS}
        for method, own in read.items()
    }


def pictures(network: nn.Module, digits: Tensor, seed: int, steps: int) -> dict[str, Tensor]:
    """Each kind, (N, 1, 28, 28) in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(digits.shape, generator=random)
    order = torch.rand(len(digits), 784, generator=random).argsort(-1)
    shuffled = digits.flatten(1).gather(1, order).view_as(digits)
    faint = 0.2 * torch.rand(digits.shape, generator=random)
    wanted = torch.arange(len(digits)) % 10
    made = [ascend(network, faint, wanted, steps, masks, seed) for masks in (0, MASKS)]
    return dict(zip(KINDS, (noise, shuffled, *made), strict=True))


def ascend(network: nn.Module, x: Tensor, wanted: Tensor, steps: int, masks: int, seed: int) -> Tensor:
    """Pictures that the network takes for the wanted digit: Adam on its log-probability, pixels held in [0, 1].

    Args:
        masks: How many dropout masks a step averages the probability over, fresh in each step; 0: one pass without.
    """
    x = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=RATE)
    network.train(masks > 0).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(steps):
            optimizer.zero_grad()
            log_p = network(x.repeat(max(masks, 1), 1, 1, 1)).log_softmax(-1).view(-1, *wanted.shape, 10)
            chosen = log_p.logsumexp(0).gather(1, wanted[:, None])  # log of the mean probability, but for a constant
            (-chosen.sum()).backward()
            optimizer.step()
            x.data.clamp_(0, 1)
    network.eval().requires_grad_(True)
    return x.detach()


def confidence(pred: Any) -> Tensor:
    """The largest mean probability, (B,)."""
    return pred.mean.amax(-1)


def told(pred: Any, digits: Any, sure: Tensor | None) -> Record:
    """Confidence, entropies, and how well these tell the pictures from digits: all, and those one pass is sure of."""
    own = confidence(pred)
    found: Record = {
        "sure": float((own > SURE).double().mean()),
        "confidences": [round(float((own.double() > level).double().mean()), 4) for level in LEVELS],
    }
    if sure is not None:
        found["fooling"] = int(sure.sum())
        found["still sure"] = float((own[sure] > SURE).double().mean()) if sure.any() else None
    for name, measure in MEASURES.items():
        values, base = measure(pred).double(), measure(digits).double()
        found[f"mean {name}"] = float(values.mean())
        if sure is not None and float(base.max()) > 1e-6:  # one pass has no mutual information
            threshold = base.quantile(1 - ALARMS)
            for which, rows in (("all", slice(None)), ("fooling", sure)):
                if len(values[rows]):
                    found[f"AUROC, {name}, {which}"] = float(out_of_distribution(base, values[rows]).auroc)
                    found[f"rejected, {name}, {which}"] = float((values[rows] > threshold).double().mean())
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def keep(sets: dict[str, Tensor], read: dict[str, Any], sure: dict[str, Tensor]) -> None:
    """What is shown: six pictures of each kind, fooling ones first, and what three methods say of them."""
    arrays: dict[str, np.ndarray] = {}
    for name, rows in sets.items():
        chosen = torch.arange(6) if name == "digits" else (~sure[name]).long().argsort(stable=True)[:6]
        arrays[f"{name}: pictures"] = (255 * rows[chosen, 0]).round().byte().numpy()
        for method in METHODS[:3]:
            own = read[method][name]
            arrays[f"{name}: {method}"] = torch.stack([own.predicted[chosen].float(), confidence(own)[chosen]]).numpy()
    np.savez_compressed(HERE / "pictures.npz", **arrays)


def each(parts: dict[str, Record], method: str, name: str, key: str) -> list[float]:
    """One number of each seed that has it."""
    values = [record[method][name].get(key) for record in parts.values()]
    return [value for value in values if value is not None]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds."""
    found: dict[str, float] = {}
    for method in METHODS:
        for name in ("digits", *KINDS):
            for key in next(iter(parts.values()))[method][name]:
                if key != "confidences" and (values := each(parts, method, name, key)):
                    found[f"{name}, {method}, {key}"] = float(np.mean(values))
    return found


def table(parts: dict[str, Record]) -> str:
    """Who is sure of what, and what tells it from digits."""
    def cell(method: str, name: str, key: str, digits: int = 3) -> str:
        values = each(parts, method, name, key)
        return plus_minus(values, digits) if values else ""

    rows = [[method, *(cell(method, name, "sure") for name in ("digits", *KINDS))] for method in METHODS]
    lines = [f"Fraction of all pictures with a confidence above {SURE}:", ""]
    lines += [markdown(["method", "digits", *KINDS], rows), ""]
    rows = [[method, *(cell(method, name, "still sure") for name in KINDS)] for method in METHODS]
    rows.append(["how many", *(cell("one pass", name, "fooling", 0) for name in KINDS)])
    lines += [f"The same of those that one pass is sure of ({MADE} of each kind were made):", ""]
    lines += [markdown(["method", *KINDS], rows), ""]
    titles = {
        "AUROC": "AUROC, all pictures of a kind against digits",
        "rejected": f"Fraction of them above the threshold that {ALARMS:.0%} of the digits are above",
    }
    for key, title in titles.items():
        rows = [
            [method, measure, *(cell(method, name, f"{key}, {measure}, all") for name in KINDS)]
            for method in METHODS for measure in MEASURES if each(parts, method, KINDS[-1], f"{key}, {measure}, all")
        ]  # fmt: skip
        lines += [f"{title}:", "", markdown(["method", "by", *KINDS], rows), ""]
    rows = [
        [method, measure, *(cell(method, name, f"mean {measure}") for name in ("digits", *KINDS))]
        for method in METHODS for measure in MEASURES if method != "one pass" or measure == "entropy"
    ]  # fmt: skip
    return "\n".join([*lines, "Means over all pictures, nats:", "", markdown(["method", "", "digits", *KINDS], rows)])


def draw(parts: dict[str, Record], folder: Path) -> None:
    """The pictures with what is said of them, and the fraction that each method is surer of than a level."""
    with np.load(folder / "pictures.npz") as file:
        draw_pictures(dict(file), folder / "pictures.png")
    figure, row = plt.subplots(1, 5, figsize=(16, 3.9), layout="constrained", sharey=True)
    for ax, name in zip(row, ("digits", *KINDS), strict=True):
        for number, method in enumerate(METHODS):
            mean = np.mean([record[method][name]["confidences"] for record in parts.values()], 0)
            color, dashes = (("#5c626b", "#0072b2", "#d55e00", "#009e73")[number], ("-", "-", "--", "-.")[number])
            ax.plot(LEVELS, mean, color=color, linestyle=dashes, label=method)
        ax.axvline(SURE, color="#a9afb8", linestyle=":", linewidth=1)
        ax.set(xlabel="confidence", xlim=(0.5, 1), ylim=(0, 1.02))
        ax.set_title(name, loc="left", fontsize=11, fontweight="bold")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#e2e4e8")
    row[0].set_ylabel("fraction of pictures with a higher one")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(folder / "confidence.png", dpi=90)
    plt.close(figure)


def draw_pictures(arrays: dict[str, np.ndarray], path: Path) -> None:
    """A row a kind; under each picture the answer and confidence of three methods."""
    kinds = ("digits", *KINDS)
    figure, grid = plt.subplots(len(kinds), 6, figsize=(9.6, 2.05 * len(kinds)), layout="constrained")
    for row, name in zip(grid, kinds, strict=True):
        for k, ax in enumerate(row):
            ax.imshow(arrays[f"{name}: pictures"][k], cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            said = [arrays[f"{name}: {method}"][:, k] for method in METHODS[:3]]
            lines = [f"{method}: {answer:.0f}, {p:.2f}" for method, (answer, p) in zip(METHODS[:3], said, strict=True)]
            ax.set_xlabel("\n".join(lines), fontsize=8)
        row[0].set_ylabel(name.replace(", ", ",\n"), fontsize=9)
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    run(Experiment(HERE, [f"seed {k}" for k in range(SEEDS)], compute, numbers, table, draw))
