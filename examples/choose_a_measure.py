"""Which measure finds errors, and which finds strange pictures? It depends on what is strange.

Run: python examples/choose_a_measure.py      (needs scikit-learn: pip install ".[demo]")
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import caveat
from caveat.metrics import compare_measures

TRAIN = 200  # few, so that errors remain


def main() -> None:
    torch.manual_seed(0)
    images, digits = load_digits(return_X_y=True)
    few, x, labels, y = train_test_split(images / 16, digits, train_size=TRAIN, random_state=0, stratify=digits)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    caveat.fit(model, nn.CrossEntropyLoss(), (few, labels), validation=None, epochs=200, progress=False)

    x = torch.tensor(x, dtype=torch.float32)
    strange = {
        "negatives": 1 - x,
        "pixels in another order": x[:, torch.randperm(64)],
        "much darker": x / 10,
    }
    sampler = caveat.mc_dropout(model, output=caveat.Logits())
    pred = caveat.predict(sampler, x, n=100)
    for name, rows in strange.items():
        found = compare_measures(pred, y, caveat.predict(sampler, rows, n=100))
        print(f"strange: {name}\n{found}\nbest: {found.best('strange_auroc')}\n")


if __name__ == "__main__":
    main()
