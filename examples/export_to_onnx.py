"""A dropout network as one ONNX file that draws by itself: the same numbers from ONNX Runtime as from Python.

Run: python examples/export_to_onnx.py
It writes curve.onnx, which onnx_page/index.html shows in a browser (python -m http.server in a folder with both).
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from torch import nn

import caveat

RATE, NOISE_SD = 0.1, 0.1


def trained_network() -> nn.Module:
    """Learns a noisy sine, of which it sees [-2, 2] only."""
    x = 4 * torch.rand(200, 1) - 2
    y = torch.sin(2 * x) + NOISE_SD * torch.randn(200, 1)
    model = nn.Sequential(
        *(nn.Linear(1, 64), nn.ReLU(), nn.Dropout(RATE)),
        *(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(RATE)),
        nn.Linear(64, 1),
    )
    return caveat.fit(model, nn.MSELoss(), (x, y), validation=None, epochs=300, progress=False).model


def main() -> None:
    torch.manual_seed(0)
    sampler = caveat.mc_dropout(trained_network(), output=caveat.Mean(noise_variance=NOISE_SD**2))
    path = caveat.export_onnx(sampler, torch.zeros(2, 1), "curve.onnx")
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")

    x = torch.linspace(-4, 4, 9)[:, None]
    pred = caveat.predict(sampler, x, n=100, seed=7)
    session = onnxruntime.InferenceSession(path)
    given = {"input": x.numpy(), "seed": np.array(7), "n": np.array(100)}
    mean, variance = map(np.asarray, session.run(["mean", "epistemic_variance"], given))
    print("     x   mean and sd of the networks: in Python   in ONNX Runtime")
    rows = zip(x, pred.mean, pred.epistemic_variance.sqrt(), mean, np.sqrt(variance), strict=True)
    for at, python_mean, python_sd, onnx_mean, onnx_sd in rows:
        there = f"{python_mean.item():6.3f}  {python_sd.item():5.3f}"
        print(f"{at.item():6.1f}{there:>42}{onnx_mean.item():11.3f}  {onnx_sd.item():5.3f}")


if __name__ == "__main__":
    main()
