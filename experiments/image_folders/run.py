"""Pictures in folders, predictions that can be relied on: `caveat.image` beside the same network trained by hand.

MNIST digits and chest X-rays are written out as picture files first. Run: python experiments/image_folders/run.py
"""

from __future__ import annotations

import copy
import gzip
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, data, markdown, run

from caveat.decide import NoThresholdError, threshold_for_risk
from caveat.image import Classifier
from caveat.image._settings import complete
from caveat.measures import MEASURES
from caveat.metrics import auroc, expected_calibration_error
from caveat.predictive import Categorical

TRAINED_ON, TESTED, STRANGE = 3_000, 2_000, 1_000
SPLITS, RISK, CONFIDENCE = 10, {"mnist": 0.02, "pneumoniamnist": 0.02}, 0.95
Labeled = tuple[np.ndarray, np.ndarray]


def pictures(name: str) -> tuple[Labeled, Labeled]:
    """Pictures (N, 28, 28) uint8 and labels (N,) to train on and to test on.

    Of the X-rays all parts are put together and drawn from anew: the set's own test part has another share of the
    classes than its training part, under which no probability that was learned can be right.
    """
    if name == "mnist":
        parts = []
        for part, count in (("train", TRAINED_ON), ("test", TESTED)):
            with np.load(data(name, f"{part}.npz")) as file:
                parts.append((file["images"][:count], file["labels"][:count].astype(int)))
        return parts[0], parts[1]
    with np.load(data(name, f"{name}.npz")) as file:
        x = np.concatenate([file[f"{part}_images"] for part in ("train", "val", "test")])
        y = np.concatenate([file[f"{part}_labels"] for part in ("train", "val", "test")]).reshape(-1).astype(int)
    order = np.random.default_rng(0).permutation(len(y))
    first, rest = order[:TRAINED_ON], order[TRAINED_ON : TRAINED_ON + TESTED]
    return (x[first], y[first]), (x[rest], y[rest])


def letters() -> np.ndarray:
    """Letters of notMNIST, (N, 28, 28) uint8."""
    with gzip.open(data("notmnist", "t10k-images-idx3-ubyte.gz")) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:STRANGE]


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> list[Path]:
    """Write pictures into class folders; their paths in the order of the rows."""
    paths = [folder / str(label) / f"{row:05}.png" for row, label in enumerate(labels)]
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return paths


def compute(part: str, smoke: bool) -> Record:
    """One set of pictures and one seed."""
    name, seed = part.split(",")[0], int(part.split(" ")[-1])
    (x, y), (test, truth) = pictures(name)
    if smoke:
        x, y, test, truth = x[:300], y[:300], test[:200], truth[:200]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write(place / "train", x, y)
        paths = write(place / "test", test, truth)
        model = Classifier(random_state=seed, epochs=1 if smoke else None, draws=10 if smoke else 100)
        model.fit(place / "train")
        pred = model.predictive(paths)
        labels = torch.from_numpy(truth)
        found: Record = {
            "accuracy": float((pred.predicted == labels).double().mean()),
            "ECE": float(expected_calibration_error(pred.mean, labels)),
            "epochs": model.model_.summary["epochs"][0],
            "accuracy by hand": accuracy_by_hand(model, x, y, test, truth, seed),
            **promises(pred, labels, RISK[name]),
        }
        if name == "mnist":
            strange = model.predictive(write(place / "letters", letters(), np.zeros(STRANGE, int)))
            for measure in ("mutual_information", "predictive_entropy"):
                found[f"AUROC of letters by {measure}"] = detection(pred, strange, measure)
    return found


def accuracy_by_hand(model: Classifier, x: np.ndarray, y: np.ndarray, test: np.ndarray, truth: np.ndarray, seed: int):
    """A plain loop over all training pictures, as many epochs, the same rates, nothing held out, dropout off."""
    torch.manual_seed(seed)
    network = copy.deepcopy(model.model_.networks[0])
    network.temperature.fill_(1.0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    settings = complete(model.model_.settings, len(y), model.model_.target)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    inputs, labels = torch.from_numpy(x.copy())[:, None], torch.from_numpy(y)
    epochs = model.model_.summary["epochs"][0]
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(settings.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[rows]), labels[rows]).backward()
            optimizer.step()
        rate.step()
    network.eval()
    with torch.no_grad():
        said = torch.cat([network(rows) for rows in torch.from_numpy(test.copy())[:, None].split(256)])
    return float((said.argmax(1) == torch.from_numpy(truth)).double().mean())


def promises(pred: Categorical, labels: Tensor, risk: float) -> Record:
    """Thresholds chosen on one half of the test pictures and judged on the other, ten times."""
    by, wrong = MEASURES["predictive_entropy"].function(pred), (pred.predicted != labels).double()
    risks, coverages = [], []
    for split in range(SPLITS):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(split))
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        try:
            threshold = threshold_for_risk(by[first], wrong[first], risk, confidence=CONFIDENCE)
        except NoThresholdError:
            risks.append(0.0)
            coverages.append(0.0)
            continue
        answered = by[second] <= threshold.value
        risks.append(float(wrong[second][answered].sum() / answered.sum().clamp(min=1)))
        coverages.append(float(answered.double().mean()))
    return {"promised": risk, "risks": [round(one, 5) for one in risks], "answered": float(np.mean(coverages))}


def detection(usual: Categorical, strange: Categorical, measure: str) -> float:
    """AUROC of telling strange pictures by a measure."""
    scores = torch.cat([MEASURES[measure].function(one) for one in (usual, strange)])
    return float(auroc(scores, torch.arange(len(scores)) >= usual.row_count))


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """What expected.json holds bands for."""
    found: dict[str, float] = {}
    for part, own in parts.items():
        found[f"{part}, accuracy less that by hand"] = own["accuracy"] - own["accuracy by hand"]
        found[f"{part}, ECE"] = own["ECE"]
        found[f"{part}, promises kept of {SPLITS}"] = sum(risk <= own["promised"] for risk in own["risks"])
        found[f"{part}, answered"] = own["answered"]
    for measure in ("mutual_information", "predictive_entropy"):
        name = f"AUROC of letters by {measure}"
        found[f"mnist, {name}, mean over seeds"] = float(np.mean([own[name] for own in parts.values() if name in own]))
    return found


def table(parts: dict[str, Record]) -> str:
    """A row for each part."""
    head = ["pictures", "accuracy", "by hand", "ECE", "risk promised", "kept", "answered", "AUROC by MI", "by entropy"]
    rows = []
    for part, own in parts.items():
        strange = [own.get(f"AUROC of letters by {name}") for name in ("mutual_information", "predictive_entropy")]
        rows.append(
            [part, *(f"{own[name]:.4f}" for name in ("accuracy", "accuracy by hand", "ECE")), f"{own['promised']}"]
            + [f"{sum(risk <= own['promised'] for risk in own['risks'])} of {SPLITS}", f"{own['answered']:.3f}"]
            + ["" if value is None else f"{value:.3f}" for value in strange]
        )
    return markdown(head, rows)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """The risk on the other half of each split, beside what was promised."""
    figure, ax = plt.subplots(figsize=(6, 0.8 + 0.6 * len(parts)))
    for row, own in enumerate(parts.values()):
        ax.plot(own["risks"], [row] * len(own["risks"]), "o", color="#0072b2", alpha=0.5)
        ax.plot([own["promised"]], [row], "|", color="black", markersize=22)
    ax.set_yticks(range(len(parts)), list(parts))
    ax.set_ylim(-0.6, len(parts) - 0.4)
    ax.set_xlabel("wrong among the answered (bar: promised)")
    figure.savefig(folder / "promises.png", dpi=120, bbox_inches="tight")
    plt.close(figure)


EXPERIMENT = Experiment(
    Path(__file__).parent, [f"{name}, seed {seed}" for name in RISK for seed in range(3)], compute, numbers, table, draw
)

if __name__ == "__main__":
    run(EXPERIMENT)
