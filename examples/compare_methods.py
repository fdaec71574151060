"""Compare ways of being uncertain on the same digits: one network, its dropout, five networks.

Run: python examples/compare_methods.py      (needs scikit-learn: pip install ".[demo]")
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import caveat

TRAIN = 200  # few, so that errors remain


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


def main() -> None:
    images, digits = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images / 16, digits, train_size=TRAIN, random_state=0, stratify=digits)
    loss = nn.CrossEntropyLoss()
    networks = caveat.fit_ensemble(build, loss, (x, y), members=5, validation=None, epochs=200, progress=False)

    logits = caveat.Logits()
    dropout = [caveat.mc_dropout(network, output=logits) for network in networks]
    methods = {
        "one network": caveat.deterministic(networks[0], output=logits),
        "its dropout": dropout[0],
        "five networks": caveat.ensemble(networks, output=logits),
        "five with dropout": caveat.mixture(dropout),
    }
    print(caveat.compare(methods, torch.tensor(x_test, dtype=torch.float32), y_test, n=100))


if __name__ == "__main__":
    main()
