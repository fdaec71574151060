"""How fast the metrics are, and what the order of pooling and calibrating does: `python -m benchmarks.metrics`.

The first part measures 1,000,000 predictions with 10 classes, the best of three; the second needs scikit-learn for the
digits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from caveat.calibrate import fit_temperature
from caveat.metrics import (
    accuracy,
    aurc,
    auroc,
    bootstrap,
    brier_decomposition,
    class_auroc,
    expected_calibration_error,
    negative_log_likelihood,
    referral_curve,
)

ROWS, CLASSES, MEMBERS = 1_000_000, 10, 5


def seconds(call: Callable[[], object]) -> float:
    """The best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def speed() -> None:
    generator = torch.Generator().manual_seed(0)
    p = (2 * torch.randn(ROWS, CLASSES, generator=generator)).softmax(-1)
    y = torch.multinomial(p, 1, generator=generator)[:, 0]
    doubt, losses = torch.special.entr(p).sum(-1), p.argmax(-1) != y
    few = slice(10_000)
    calls: dict[str, Callable[[], object]] = {
        "expected calibration error": lambda: expected_calibration_error(p, y),
        "the same, equal mass": lambda: expected_calibration_error(p, y, equal_mass=True),
        "class-wise calibration error": lambda: expected_calibration_error(p, y, view="classwise"),
        "Brier decomposition": lambda: brier_decomposition(p, y),
        "AURC": lambda: aurc(doubt, losses),
        "AUROC of errors": lambda: auroc(doubt, losses),
        "referral curve of the accuracy, 20 fractions": lambda: referral_curve(accuracy, p, y, uncertainty=doubt),
        "referral curve of an AUC, 20 fractions": lambda: referral_curve(class_auroc, p, y, uncertainty=doubt),
        "1,000 resamples of the ECE of 10,000 rows": lambda: bootstrap(expected_calibration_error, p[few], y[few]),
        "1,000 resamples of the AURC of 10,000 rows": lambda: bootstrap(aurc, doubt[few], losses[few]),
    }
    print(f"{ROWS:,} predictions, {CLASSES} classes, {torch.get_num_threads()} threads")
    for name, call in calls.items():
        print(f"{name:48s} {seconds(call):6.3f} s")


def member(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """A network trained until it is sure of its 200 digits."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval()


def pooling() -> None:
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)[order]
    images += 0.35 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor(digits.target)[order]
    members = [member(images[:200], labels[:200], seed) for seed in range(MEMBERS)]
    with torch.no_grad():
        logits = torch.stack([model(images) for model in members])
    held, test = slice(200, 700), slice(700, None)
    own = [fit_temperature(one[held], labels[held]) for one in logits]
    each = torch.stack([fitted(one) for fitted, one in zip(own, logits, strict=True)])
    together = fit_temperature(logits[:, held], labels[held])
    pool = logits.softmax(-1).mean(0)
    after = fit_temperature(pool[held].log(), labels[held])
    ways = {
        "one member": logits[0].softmax(-1),
        "one member, calibrated": each[0],
        "pool": pool,
        "calibrate each, then pool": each.mean(0),
        "one temperature for the pool": together(logits).mean(0),
        "pool, then calibrate": after(pool.log()),
    }
    temperatures = f"{min(float(t.temperature) for t in own):.2f} to {max(float(t.temperature) for t in own):.2f}"
    print(f"\n{MEMBERS} networks of 200 noisy digits, 500 to calibrate, {len(labels[test])} to test")
    print(f"temperatures: each {temperatures}, one for the pool {float(together.temperature):.2f}, "
          f"after pooling {float(after.temperature):.2f}")  # fmt: skip
    for name, p in ways.items():
        given = p[test], labels[test]
        ece, nll = expected_calibration_error(*given), negative_log_likelihood(*given)
        confidence = float(given[0].amax(-1).mean())
        print(f"{name:30s} accuracy {float(accuracy(*given)):.3f}  confidence {confidence:.3f}  "
              f"ECE {float(ece):.3f}  NLL {float(nll):.3f}")  # fmt: skip


if __name__ == "__main__":
    speed()
    pooling()
