"""Which measure finds errors, and which finds strange pictures? It depends on what is strange.

Run: python examples/choose_a_measure.py      (needs scikit-learn: pip install "caveat[demo]")
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import caveat
from caveat.metrics import compare_measures


def data() -> list[torch.Tensor]:
    """Images (8 x 8, flattened, in [0, 1]) and their digits; few to train on, so that errors remain."""
    images, digits = load_digits(return_X_y=True)
    parts: list[Any] = train_test_split(images / 16, digits, train_size=200, random_state=0, stratify=digits)
    return [torch.as_tensor(part, dtype=torch.float32 if part.ndim == 2 else torch.int64) for part in parts]


def fit(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """Plain training: nothing in it knows about caveat."""
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    torch.manual_seed(0)
    x_train, x, y_train, y = data()
    sampler = caveat.mc_dropout(fit(x_train, y_train), output=caveat.Logits())
    strange = {
        "negatives": 1 - x,
        "pixels in another order": x[:, torch.randperm(64)],
        "much darker": x / 10,
    }
    pred = caveat.predict(sampler, x, n=100)
    for name, rows in strange.items():
        found = compare_measures(pred, y, caveat.predict(sampler, rows, n=100))
        print(f"strange: {name}\n{found}\nbest: {found.best('strange_auroc')}\n")


if __name__ == "__main__":
    main()
