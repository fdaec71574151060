"""skorch: a net that scikit-learn searched, and how much of its uncertainty is what it has not learned.

Run it with ``python examples/skorch_classifier.py``; it needs ``pip install ".[skorch]" scikit-learn``.
"""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from skorch import NeuralNetClassifier
from torch import nn

import caveat
from caveat.interop import skorch_predict


class Digits(nn.Module):
    """Scores of ten digits; the criterion is cross-entropy, so skorch and caveat both take a softmax of them."""

    def __init__(self, rate: float = 0.3) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(rate), nn.Linear(128, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


torch.manual_seed(0)
digits: Any = load_digits()
x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=500, random_state=0)

cross_entropy: Any = nn.CrossEntropyLoss  # skorch's hints know its default alone
net = NeuralNetClassifier(
    Digits, criterion=cross_entropy, optimizer=torch.optim.Adam, lr=0.003, max_epochs=8, verbose=0
)
search = GridSearchCV(net, {"module__rate": [0.2, 0.5]}, cv=2, scoring="accuracy")
search.fit(x_train, y_train)

for name, rows in (("digits", x_test), ("digits upside down", np.flip(x_test, 1).copy())):
    pred = skorch_predict(search.best_estimator_, rows, n=100)
    right = (search.classes_[pred.predicted.numpy()] == y_test).mean()
    total, epistemic = caveat.predictive_entropy(pred).mean(), caveat.mutual_information(pred).mean()
    print(f"{name:20} {right:6.1%} right; entropy {total:.3f} nats, of which epistemic {epistemic:.3f}")
