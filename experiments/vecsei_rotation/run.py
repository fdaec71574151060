"""A digit turns, and a digit fades into another: what 1,000 passes with dropout say that one pass without does not.

After figure 4 of "Dropout as a Bayesian Approximation", Gal and Ghahramani, 2016, and the MNIST experiment of Vecsei:
spatial dropout after each convolution, dropout before each fully connected layer, and beside it the latter alone.
Run: python experiments/vecsei_rotation/run.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from digits import SPATIAL_RATE, trained
from records import Experiment, Record, images, markdown, plus_minus, run

import caveat
from caveat.plot import animate_class_histograms
from caveat.samplers import deterministic
from caveat.shift import blend, rotate

HERE = Path(__file__).parent
SEEDS, DRAWS = 3, 1000  # of the digit that is shown
DIGITS, COUNTED = 300, 200  # the first 300 test digits are counted, with so many draws each
ANGLES = list(range(0, 190, 10))  # degrees
ALPHAS = [round(0.1 * step, 1) for step in range(11)]
THRESHOLD = 0.5
SHOWN, FADED_IN = 1, 17  # the curves and the GIFs: test digit 1 (a two) turns, and 17 (a seven) fades into it
DENSE = ", dense only"  # the end of a part's name: the same network without spatial dropout
RULES = ("without MC dropout: softmax >= 0.5", "MC dropout: mean >= 0.5", "MC dropout: mean - sd >= 0.5")


def steps(kind: str, x: Tensor, other: Tensor) -> list[Tensor]:
    """The images (B, 1, 28, 28) at every step."""
    return [rotate(x, float(a)) for a in ANGLES] if kind == "rotation" else [blend(x, other, a) for a in ALPHAS]


def compute(part: str, smoke: bool) -> Record:
    """Counts over the test digits, and the curves of the one that is shown."""
    dense = part.endswith(DENSE)
    seed = int(part.removesuffix(DENSE).split(" ")[1])
    network = trained(seed, spatial_rate=0.0 if dense else SPATIAL_RATE, members=1, smoke=smoke)[0]
    x, y = images("mnist", "test")
    count, counted, draws = (20, 20, 20) if smoke else (DIGITS, COUNTED, DRAWS)
    said = caveat.predict(deterministic(network, output=caveat.Logits()), x, n=1).predicted
    found: Record = {"accuracy": round(float((said == y).double().mean()), 4)}
    for kind in ("rotation", "blending"):
        moved = steps(kind, x[:count], others(x, y, count))
        tallies = [tally(network, step, y[:count], counted, seed) for step in moved]
        shown = steps(kind, x[SHOWN : SHOWN + 1], x[FADED_IN : FADED_IN + 1])
        found[kind] = {"tallies": tallies, "shown": curve(network, torch.cat(shown), draws, seed)}
        if part == "seed 0" and not smoke:
            animate(kind, network, torch.cat(shown), int(y[SHOWN]), seed)
    return found


def others(x: Tensor, y: Tensor, count: int) -> Tensor:
    """For each digit the next test digit of another class, to fade in."""
    following = [next(j for j in range(i + 1, len(y)) if y[j] != y[i]) for i in range(count)]
    return x[following]


def tally(network: nn.Module, x: Tensor, y: Tensor, draws: int, seed: int) -> dict[str, list[int]]:
    """By each rule: [answered rightly, answered wrongly]; the rest is not answered."""
    single = caveat.predict(deterministic(network, output=caveat.Logits()), x, n=1).mean
    pred = caveat.predict(caveat.mc_dropout(network, output=caveat.Logits()), x, n=draws, seed=seed)
    mean, said = pred.mean.max(-1)
    sd = pred.variance.gather(-1, said[:, None])[:, 0].sqrt()
    let = {
        RULES[0]: (single.max(-1).values >= THRESHOLD, single.argmax(-1)),
        RULES[1]: (mean >= THRESHOLD, said),
        RULES[2]: (mean - sd >= THRESHOLD, said),
    }
    return {rule: [int((ok & (by == y)).sum()), int((ok & (by != y)).sum())] for rule, (ok, by) in let.items()}


def curve(network: nn.Module, x: Tensor, draws: int, seed: int) -> Record:
    """Of the shown digit at each step: mean softmax (T, 10), variance over draws (T, 10), entropy (T,), one pass."""
    pred = caveat.predict(caveat.mc_dropout(network, output=caveat.Logits()), x, n=draws, seed=seed)
    single = caveat.predict(deterministic(network, output=caveat.Logits()), x, n=1).mean
    values = {"mean": pred.mean, "variance": pred.variance, "entropy": caveat.predictive_entropy(pred),
              "mutual information": caveat.mutual_information(pred), "single": single}  # fmt: skip
    return {name: np.round(value.numpy(), 4).tolist() for name, value in values.items()}


def animate(kind: str, network: nn.Module, x: Tensor, label: int, seed: int) -> None:
    """The GIF: a frame a step, the histogram of every class over 1,000 draws."""
    pred = caveat.predict(caveat.mc_dropout(network, output=caveat.Logits()), x, n=DRAWS, seed=seed, keep=True)
    captions = [f"{a}°" for a in ANGLES] if kind == "rotation" else [f"α = {a:.1f}" for a in ALPHAS]
    probabilities = pred.draws.transpose(0, 1)
    title = "A two turns" if kind == "rotation" else "A seven fades into a two"
    animate_class_histograms(
        HERE / f"{kind}.gif", probabilities, images=x, label=label, captions=captions, title=title, frames_per_second=2
    )


def of_kind(parts: dict[str, Record], dense: bool) -> list[Record]:
    """The records of the networks with spatial dropout, or of those without, a seed each."""
    return [record for part, record in parts.items() if part.endswith(DENSE) == dense]


def totals(parts: dict[str, Record], kind: str, rule: str, *, dense: bool = False) -> tuple[list[int], list[int]]:
    """Right and wrong answers that each seed's rule lets through, over all steps."""
    records = of_kind(parts, dense)
    each = [[sum(step[rule][i] for step in record[kind]["tallies"]) for i in (0, 1)] for record in records]
    return [right for right, _ in each], [wrong for _, wrong in each]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Answers let through, as means over seeds, and what MC dropout keeps of the wrong ones of one pass."""
    found: dict[str, float] = {}
    for kind in ("rotation", "blending"):
        for rule in RULES:
            right, wrong = totals(parts, kind, rule)
            found[f"{kind}, wrong, {rule}"] = float(np.mean(wrong))
            found[f"{kind}, right, {rule}"] = float(np.mean(right))
        for rule in RULES[1:]:
            ratio = np.divide(totals(parts, kind, rule)[1], np.maximum(totals(parts, kind, RULES[0])[1], 1))
            found[f"{kind}, wrong as a share of those without, {rule}"] = float(ratio.mean())
        if of_kind(parts, True):
            wrong = totals(parts, kind, RULES[1])[1], totals(parts, kind, RULES[1], dense=True)[1]
            found[f"{kind}, wrong as a share of those of dense dropout, {RULES[1]}"] = float(np.divide(*wrong).mean())
    found["accuracy"] = float(np.mean([record["accuracy"] for record in of_kind(parts, False)]))
    return found


def table(parts: dict[str, Record]) -> str:
    """Counts over all digits and steps: mean and standard deviation over seeds."""
    lines: list[str] = []
    for kind, count in (("rotation", len(ANGLES)), ("blending", len(ALPHAS))):
        rows = []
        for dense in (False, True) if of_kind(parts, True) else (False,):
            for rule in RULES:
                right, wrong = totals(parts, kind, rule, dense=dense)
                shares = [100 * w / max(r + w, 1) for r, w in zip(right, wrong, strict=True)]
                told = (plus_minus(right, 0), plus_minus(wrong, 0), f"{plus_minus(shares, 1)} %")
                rows.append(["dense layers only" if dense else "spatial and dense", rule, *told])
        title = f"{kind}: {DIGITS} digits x {count} steps; dropout"
        head = [title, "rule", "right answers", "wrong answers let through", "wrong among answers"]
        lines += [markdown(head, rows), ""]
    each = [plus_minus([record["accuracy"] for record in of_kind(parts, dense)], 4) for dense in (False, True)]
    return "\n".join([*lines, f"Test digits right without draws: {each[0]} with spatial dropout, {each[1]} without."])


def draw(parts: dict[str, Record], folder: Path) -> None:
    """The shown digit of seed 0: mean softmax, standard deviation and entropy at each step; wrong answers by step."""
    figure, grid = plt.subplots(2, 4, figsize=(18, 8), layout="constrained")
    for row, (kind, at, unit) in zip(
        grid, (("rotation", ANGLES, "degrees"), ("blending", ALPHAS, "α of the second digit")), strict=True
    ):
        shown = {name: np.array(value) for name, value in parts["seed 0"][kind]["shown"].items()}
        lead = np.argsort(-shown["mean"].max(0))[:5]
        for number, digit in enumerate(sorted(lead)):
            for ax, values in zip(row, (shown["mean"][:, digit], np.sqrt(shown["variance"][:, digit])), strict=False):
                ax.plot(at, values, color=f"C{number}", marker="os^Dv"[number], ms=4, label=f"{digit}")
        row[0].axhline(THRESHOLD, color="0.6", ls="--", lw=1)
        row[0].plot(at, shown["single"].max(-1), color="k", ls=":", label="largest of one pass")
        row[2].plot(at, shown["entropy"], color="C0", marker="o", ms=4, label="predictive entropy")
        row[2].plot(at, shown["mutual information"], color="C1", marker="s", ms=4, label="mutual information")
        for number, rule in enumerate(RULES):
            wrong = np.mean([[step[rule][1] for step in own[kind]["tallies"]] for own in of_kind(parts, False)], 0)
            row[3].plot(at, wrong, color=f"C{number}", marker="os^"[number], ms=4, label=rule)
        wrong_title = f"wrong answers let through, of {DIGITS}"
        titles = ("mean softmax", "standard deviation over draws", "entropy, nats", wrong_title)
        for ax, title in zip(row, titles, strict=True):
            ax.set(title=title, xlabel=f"{kind}: {unit}", ylim=(0, 1.35 * ax.get_ylim()[1]))  # room for the names
            ax.legend(frameon=False, fontsize=8, ncols=2 if ax in row[:2] else 1, loc="upper left")
    figure.savefig(folder / "curves.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    parts = [f"seed {k}{ending}" for k in range(SEEDS) for ending in ("", DENSE)]
    run(Experiment(HERE, parts, compute, numbers, table, draw))
