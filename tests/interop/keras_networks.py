"""What a Keras back end gives for a few networks, as JSON: one process for each back end, which Keras fixes for good.

Run by ``test_keras.py``: ``KERAS_BACKEND=jax python keras_networks.py``.
"""

from __future__ import annotations

import json
import sys
import warnings

import keras
import numpy as np
import torch
from keras import layers as L

import caveat
from caveat.testing import check_sampler

DRAWS, COPIES = 120, 4000


class ByHand(keras.layers.Layer):
    """A dropout written by hand behind the argument ``training``."""

    def __init__(self):
        super().__init__()
        self.numbers = keras.random.SeedGenerator(5)

    def call(self, x, training=False):
        if not training:
            return x
        keep = keras.random.uniform(keras.ops.shape(x), seed=self.numbers) > 0.4
        return keras.ops.where(keep, x / 0.6, keras.ops.zeros_like(x))


def chain(size, *layers):
    return keras.Sequential([L.Input(size), *layers, L.Dense(2)])


def spatial():
    pictures = L.Input((6, 6, 3))
    h = L.SpatialDropout2D(0.3)(L.Conv2D(6, 3)(pictures), training=True)
    h = L.Dropout(0.3, seed=3)(L.Dense(5)(L.Flatten()(h)))
    return keras.Model(pictures, L.Dense(2)(h))


def attention():
    tokens = L.Input((5, 8))
    h = L.MultiHeadAttention(2, 4, dropout=0.3)(tokens, tokens)
    return keras.Model(tokens, L.Dense(2)(L.GlobalAveragePooling1D()(h)))


class Written(keras.Model):
    """A model with its layers in a list and another model inside."""

    def __init__(self):
        super().__init__()
        self.parts = [L.Dense(12, activation="relu"), L.BatchNormalization(), L.Dropout(0.4)]
        self.inner = chain((12,), L.Dense(12, activation="relu"), L.Dropout(0.2))

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x)
        return self.inner(x)


NETWORKS = {
    "dropout": lambda: chain((4,), L.Dense(9, "relu"), L.BatchNormalization(), L.Dropout(0.5), L.Dropout(0.3)),
    "spatial": spatial,
    "gaussian": lambda: chain((4,), L.Dense(20, "relu"), L.GaussianDropout(0.3)),
    "alpha": lambda: chain((4,), L.Dense(20, "selu"), L.AlphaDropout(0.3)),
    "lstm": lambda: chain((6, 4), L.LSTM(5, dropout=0.3, recurrent_dropout=0.2)),
    "gru": lambda: chain((6, 4), L.Bidirectional(L.GRU(5, dropout=0.4))),
    "attention": attention,
    "by hand": lambda: chain((4,), L.Dense(20, "relu"), ByHand()),
    "noise beside": lambda: chain((4,), L.GaussianNoise(0.9), L.Dense(20, "relu"), L.Dropout(0.4)),
    "augmented": lambda: chain((6, 6, 3), L.RandomFlip(), L.RandomBrightness(0.5), L.Flatten(), L.Dropout(0.4)),
    "written": Written,
}
if keras.backend.backend() == "torch":  # vmap cannot run it: its cells keep their masks where a pass fails
    NETWORKS["conv lstm"] = lambda: chain((3, 4, 4, 2), L.ConvLSTM2D(3, 3, dropout=0.3), L.Flatten())


def make(name):
    """The network with weights that are the same on every back end."""
    model = NETWORKS[name]()
    size = (4,) if name == "written" else model.input_shape[1:]
    rows = np.random.default_rng(1).normal(size=(3, *size)).astype("float32")
    model(rows)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=w.shape) * 0.5 for w in model.weights]
    model.set_weights([abs(v) + 0.5 if "variance" in w.path else v for v, w in zip(values, model.weights, strict=True)])
    return model, rows


def state(model):
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in model.variables]


def brute_force(model, row):
    """Keras' own dropout: every copy of a row in a batch gets a mask of its own."""
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.trainable = False  # the way of Keras to keep its statistics where training=True
        if isinstance(layer, L.GaussianNoise):
            layer.stddev = 0.0
        if isinstance(layer, (L.RandomFlip, L.RandomBrightness)):
            layer.call = lambda data, training=None: data
    out = keras.ops.convert_to_numpy(model(np.repeat(row, COPIES, axis=0), training=True))
    return out.mean(0).tolist(), out.var(0).tolist()


def look(name):
    model, rows = make(name)
    x = torch.tensor(rows)
    at_rest = np.array(keras.ops.convert_to_numpy(model(rows, training=False)))
    before = state(model)
    sampler = caveat.interop.keras_mc_dropout(model, output=caveat.Mean())
    pred = caveat.predict(sampler, x, DRAWS, seed=0)
    alone = caveat.draws(sampler, x[1:2], 4, seed=0)[:, 0]
    found = {
        "moved": [v.path for v, a, b in zip(model.variables, before, state(model), strict=True) if (a != b).any()],
        "at rest": float(abs(np.array(keras.ops.convert_to_numpy(model(rows, training=False))) - at_rest).max()),
        "left": [layer.name for layer in model._flatten_layers() if "call" in vars(layer)],
        "alone": float((alone - caveat.draws(sampler, x, 4, seed=0)[:, 1]).abs().max()),
        "draws": caveat.draws(sampler, x, 3, seed=7).tolist(),
        "mean": pred.mean[0].tolist(),
        "variance": pred.epistemic_variance[0].tolist(),
    }
    if name == "dropout":
        check_sampler(sampler, x, n=3, gradients=False)
    found["brute mean"], found["brute variance"] = brute_force(model, rows[:1])
    return found


class Switched(ByHand):
    """Drops only when its own switch is on."""

    on = False

    def call(self, x, training=False):
        return super().call(x, training=training and self.on)


def switched():
    """The spread of draws before and after a layer's switch is set."""
    layer = Switched()
    model = chain((4,), L.Dropout(0.2), L.Dense(9), layer)
    sampler = caveat.interop.keras_mc_dropout(model, output=caveat.Mean())
    x = torch.ones(2, 4)
    off = caveat.draws(sampler, x, 20)
    layer.on = True
    return bool((off != caveat.draws(sampler, x, 20)).any())


def message(call):
    try:
        call()
    except caveat.errors.CaveatError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def errors():
    """What is said of models that cannot be drawn from."""

    def predict(model):
        sampler = caveat.interop.keras_mc_dropout(model, output=caveat.Mean())
        return lambda: caveat.predict(sampler, torch.zeros(3, 4), 5)

    unbuilt = keras.Sequential([L.Dense(3), L.Dropout(0.5)])
    return {
        "without dropout": message(predict(chain((4,), L.Dense(5)))),
        "rate 1": message(predict(chain((4,), L.Dropout(1.0)))),
        "unbuilt": message(lambda: caveat.interop.keras_mc_dropout(unbuilt, output=caveat.Mean())),
        "no model": message(lambda: caveat.interop.keras_mc_dropout(torch.nn.Linear(2, 2), output=caveat.Mean())),
        "only noise": message(predict(chain((4,), L.GaussianNoise(0.9)))),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    networks = {name: look(name) for name in NETWORKS}
    sys.stdout.write(json.dumps({"networks": networks, "errors": errors(), "switched": switched()}))
