"""Digits: refer the answers that the network is least sure of, and see the rest become more accurate.

Run: python examples/classify_digits.py      (needs scikit-learn: pip install ".[demo]")
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import caveat


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
    x_train, x_test, y_train, y_test = data()
    sampler = caveat.mc_dropout(fit(x_train, y_train), output=caveat.Logits())
    pred = caveat.predict(sampler, x_test, n=100, seed=0)

    right = (pred.mean.argmax(-1) == y_test).float()
    surest_first = caveat.predictive_entropy(pred).argsort()
    print("answered  accuracy among them")
    for share in (1.0, 0.9, 0.8, 0.5):
        answered = surest_first[: int(share * len(y_test))]
        print(f"{share:8.0%}  {right[answered].mean():.1%}")

    doubt = caveat.mutual_information(pred)
    means = [doubt[right == outcome].mean().item() for outcome in (1, 0)]
    print(f"\nmean mutual information: right {means[0]:.3f}, wrong {means[1]:.3f} nats")


if __name__ == "__main__":
    main()
