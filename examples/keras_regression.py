"""Keras: two dense layers of 20 with dropout, two outputs (a mean and log sigma^2), and the predictive variance.

Model, loss and prediction function are those that tutorials of the method write by hand; the last column is their
formula on the same draws. Run: KERAS_BACKEND=torch (or jax, or tensorflow) python examples/keras_regression.py
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

import caveat

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras  # after the choice of the back end

N = 200


def build() -> Any:
    hidden = [layer for _ in range(2) for layer in (keras.layers.Dense(20, "relu"), keras.layers.Dropout(0.1))]
    return keras.Sequential([keras.layers.Input((1,)), *hidden, keras.layers.Dense(2)])


def likelihood(y: Any, returned: Any) -> Any:
    """Negative log-likelihood of a normal distribution with the mean and log sigma^2 that the model returns."""
    mean, log_variance = returned[:, :1], returned[:, 1:]
    return keras.ops.mean(0.5 * keras.ops.exp(-log_variance) * (y - mean) ** 2 + 0.5 * log_variance)


def predict_by_hand(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and the mean of sigma^2 + mu^2 less the square of the mean, of draws (S, B, 2)."""
    mean, variance = draws[..., 0], np.exp(draws[..., 1])
    return mean.mean(0), (variance + mean**2).mean(0) - mean.mean(0) ** 2


def main() -> None:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(-2, 2, (256, 1)).astype("float32")
    y = np.sin(2 * x) + 0.1 * np.random.default_rng(1).normal(size=x.shape).astype("float32")
    model = build()
    model.compile("adam", likelihood)
    model.fit(x, y, epochs=30, verbose=0)

    sampler = caveat.interop.keras_mc_dropout(model, output=caveat.MeanAndLogVariance())
    at = torch.linspace(-4, 4, 5)[:, None]
    pred = caveat.predict(sampler, at, n=N, seed=0)
    _, by_hand = predict_by_hand(caveat.draws(sampler, at, n=N, seed=0)[:, :, 0].numpy())
    print("     x    mean  variance  of it the noise  by hand")
    for row in zip(at, pred.mean, pred.variance, pred.aleatoric_variance, by_hand, strict=True):
        print("{:6.1f}  {:6.2f}  {:8.3f}  {:15.3f}  {:7.3f}".format(*(float(value) for value in row)))


if __name__ == "__main__":
    main()
