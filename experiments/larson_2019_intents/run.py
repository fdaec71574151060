"""Does the bot know that it does not understand? 150 intents, and 1,000 queries that belong to none of them.

The protocol of "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction", Larson et al., 2019, with
its `oos-threshold` scheme. Run: python experiments/larson_2019_intents/run.py
"""

from __future__ import annotations

import functools
import gzip
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, counts, data, from_counts, markdown, plus_minus, run

import caveat
from caveat.metrics import out_of_distribution
from caveat.plot import plot_measure_histograms
from caveat.samplers import deterministic, ensemble, mixture
from caveat.train import fit_ensemble

SEEDS, MEMBERS, DRAWS = 3, 5, 50
FEATURES, HIDDEN, RATE = 300, 512, 0.5
EPOCHS = 15
MEASURES: dict[str, Callable[[Any], Tensor]] = {
    "1 - confidence": lambda pred: 1 - pred.mean.max(-1).values,
    "entropy": caveat.predictive_entropy,
    "expected entropy": caveat.expected_entropy,
    "mutual information": caveat.mutual_information,
}
METHODS = ("deterministic", "MC dropout", "deep ensemble", "ensemble of MC dropout")
MOST = math.log(150)  # the largest entropy, nats
OUT = -1  # the label of a query that is out of scope
# The paper, full data, in per cent: (accuracy in scope, recall out of scope).
PUBLISHED = {
    "SVM, oos-threshold": (88.2, 18.0),
    "FastText, oos-threshold": (88.6, 28.3),
    "CNN, oos-threshold": (90.9, 30.9),
    "MLP on sentence embeddings, oos-threshold": (93.4, 49.1),
    "BERT, oos-threshold": (96.2, 52.3),
}


@functools.cache
def queries() -> dict[str, tuple[Tensor, Tensor]]:
    """Words and pairs of words, weighted (TF-IDF), projected to 300 numbers; fitted on the training queries alone."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    with gzip.open(data("clinc150", "data_full.json.gz"), "rt") as file:
        texts = json.load(file)
    intents = {name: number for number, name in enumerate(sorted({intent for _, intent in texts["train"]}))}
    parts = {"train": ["train"], "validation": ["val", "oos_val"], "test": ["test", "oos_test"]}
    rows = {part: [row for name in names for row in texts[name]] for part, names in parts.items()}
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\b\w+\b")
    project = TruncatedSVD(FEATURES, random_state=0)
    train = project.fit_transform(words.fit_transform([text for text, _ in rows["train"]]))
    scale = train.std()
    return {
        part: (
            torch.tensor(project.transform(words.transform([text for text, _ in own])) / scale).float(),
            torch.tensor([intents.get(intent, OUT) for _, intent in own]),
        )
        for part, own in rows.items()
    }


def network() -> nn.Module:
    """One hidden layer, dropout after it."""
    return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Dropout(RATE), nn.Linear(HIDDEN, 150))


def compute(part: str, smoke: bool) -> Record:
    """Five networks; every method reads the same five."""
    seed = int(part.split(" ")[1])
    x, y = queries()["validation"]
    networks = fit_ensemble(
        network, nn.functional.cross_entropy, queries()["train"], validation=(x[y != OUT], y[y != OUT]),
        members=2 if smoke else MEMBERS, epochs=1 if smoke else EPOCHS, patience=5, seed=seed, batch_size=64,
        learning_rate=1e-3, progress=False, backend="loop",
    )  # fmt: skip
    output, draws = caveat.Logits(), 5 if smoke else DRAWS
    with_dropout = [caveat.mc_dropout(one, output=output) for one in networks]
    samplers = {
        "deterministic": (deterministic(networks[0], output=output), 1),
        "MC dropout": (with_dropout[0], draws),
        "deep ensemble": (ensemble(networks, output=output), len(networks)),
        "ensemble of MC dropout": (mixture(with_dropout), len(networks) * draws),
    }
    return {name: scored(sampler, n, seed) for name, (sampler, n) in samplers.items()}


def scored(sampler: Any, n: int, seed: int) -> Record:
    """Accuracy, and for each measure how well it tells queries out of scope."""
    pred = {part: caveat.predict(sampler, queries()[part][0], n=n, seed=seed) for part in ("validation", "test")}
    y = {part: queries()[part][1] for part in pred}
    said = {part: own.mean.argmax(-1) for part, own in pred.items()}
    inside = y["test"] != OUT
    found: Record = {"accuracy": _share((said["test"] == y["test"])[inside])}
    for name, measure in MEASURES.items():
        if n == 1 and name in ("expected entropy", "mutual information"):
            continue  # one draw: the entropy again, and zero
        unsure = {part: measure(own).double() for part, own in pred.items()}
        detected = out_of_distribution(unsure["test"][inside], unsure["test"][~inside])
        cut = threshold(unsure["validation"], said["validation"], y["validation"])
        kept = unsure["test"] <= cut
        found[name] = {
            "AUROC": round(float(detected.auroc), 4),
            "FPR at 95 %": round(float(detected.fpr_at_95_tpr), 4),
            "accuracy in scope": _share(((said["test"] == y["test"]) & kept)[inside]),
            "recall out of scope": _share(~kept[~inside]),
        }
        if seed == 0 and name == "entropy":
            sets = {"in scope": unsure["test"][inside], "out of scope": unsure["test"][~inside]}
            found["histogram"] = {name: counts(own, MOST) for name, own in sets.items()}
    return found


def threshold(unsure: Tensor, said: Tensor, y: Tensor) -> float:
    """The cut with the best accuracy on the validation queries, with 'out of scope' as one intent more: the paper's."""
    order = unsure.argsort()
    right = (said == y)[order].double().cumsum(0)  # kept: right if the intent is
    refused = (y == OUT)[order].double().flip(0).cumsum(0).flip(0).roll(-1)  # not kept: right if there is none
    refused[-1] = 0
    return float(unsure[order][int((right + refused).argmax())])


def _share(flags: Tensor) -> float:
    return round(float(flags.double().mean()), 4)


def column(parts: dict[str, Record], *keys: str) -> list[float]:
    """One number of each seed."""
    return [functools.reduce(lambda at, key: at[key], keys, record) for record in parts.values()]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds, and what each method gains in AUROC over the deterministic network of its seed."""
    found: dict[str, float] = {}
    for method in METHODS:
        found[f"accuracy, {method}"] = float(np.mean(column(parts, method, "accuracy")))
        for key in ("AUROC", "recall out of scope"):
            found[f"{key} by entropy, {method}"] = float(np.mean(column(parts, method, "entropy", key)))
        single, own = (column(parts, name, "entropy", "AUROC") for name in ("deterministic", method))
        gain = np.subtract(own, single)
        found[f"AUROC by entropy, {method} above deterministic"] = float(gain.mean())
    return found


def table(parts: dict[str, Record]) -> str:
    """Two tables: against the published rows, and AUROC by measure."""
    head = ["method", "accuracy without a threshold", "accuracy in scope", "recall out of scope"]
    rows = [[f"{name} (paper)", "", f"{a:.1f} %", f"{r:.1f} %"] for name, (a, r) in PUBLISHED.items()]
    for method in METHODS:
        kinds = (("accuracy",), ("entropy", "accuracy in scope"), ("entropy", "recall out of scope"))
        shares = [[100 * share for share in column(parts, method, *keys)] for keys in kinds]
        rows.append([f"{method}, entropy (ours)", *(f"{plus_minus(share, 1)} %" for share in shares)])
    first = next(iter(parts.values()))

    def by_measure(key: str) -> str:
        cells = [
            [method, *(plus_minus(column(parts, method, m, key)) if m in first[method] else "" for m in MEASURES)]
            for method in METHODS
        ]
        return markdown(["method", *MEASURES], cells)

    return "\n".join(
        [markdown(head, rows), "", "AUROC, out of scope against in scope, by measure:", "",
         by_measure("AUROC"), "",
         "Share of queries in scope that are refused when 95 % of those out of scope are (lower is better):", "",
         by_measure("FPR at 95 %")]
    )  # fmt: skip


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Entropy in and out of scope, for the single network and for MC dropout."""
    figure, row = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    for ax, method in zip(row, ("deterministic", "MC dropout"), strict=True):
        values = {name: from_counts(own, MOST) for name, own in parts["seed 0"][method]["histogram"].items()}
        plot_measure_histograms(values, measure="predictive entropy, nats", title=method, ax=ax)
    figure.savefig(folder / "entropy.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, [f"seed {k}" for k in range(SEEDS)], compute, numbers, table, draw))
