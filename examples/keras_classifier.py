"""Keras: a classifier of pictures whose spatial dropout is kept on by training=True, as in a tutorial of the method.

Run: KERAS_BACKEND=torch (or jax, or tensorflow) python examples/keras_classifier.py
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

import caveat

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras  # after the choice of the back end

N = 50


def build() -> Any:
    pictures = keras.layers.Input((8, 8, 1))
    h = keras.layers.Conv2D(16, 3, activation="relu")(pictures)
    h = keras.layers.SpatialDropout2D(0.2)(h, training=True)
    h = keras.layers.Conv2D(32, 3, activation="relu")(h)
    h = keras.layers.SpatialDropout2D(0.2)(h, training=True)
    return keras.Model(pictures, keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(h)))


def predict_by_hand(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tutorial's prediction: mean probabilities of draws (S, B, C), and their entropy in nats."""
    mean = draws.mean(0)
    return mean, -(mean * np.log(np.maximum(mean, 1e-12))).sum(-1)


def main() -> None:
    keras.utils.set_random_seed(0)
    images, y = load_digits(return_X_y=True)
    x = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:1500], y[:1500], epochs=3, verbose=0)

    sampler = caveat.interop.keras_mc_dropout(model, output=caveat.Probabilities())
    upright = torch.tensor(x[1500:1506])
    for name, pictures in (("upright", upright), ("turned by 90 degrees", upright.rot90(1, (1, 2)))):
        pred = caveat.predict(sampler, pictures, n=N, seed=0)
        _, by_hand = predict_by_hand(caveat.draws(sampler, pictures, n=N, seed=0).numpy())
        entropy, information = caveat.predictive_entropy(pred), caveat.mutual_information(pred)
        print(f"{name}: entropy {float(entropy.mean()):.3f} nats (by hand {by_hand.mean():.3f}), "
              f"mutual information {float(information.mean()):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
