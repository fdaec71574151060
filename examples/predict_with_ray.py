"""Rows, draws and members over a cluster by Ray; here the cluster is two cores of this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
import torch
from torch import nn

import caveat
from caveat.interop.ray import predict, predict_draws, ray_map


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))


def inputs_of(batch: dict[str, Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack([batch["a"], batch["b"]], 1)).float()


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(400, 2, generator=generator) * 2 - 1
    y = (x[:, :1] * x[:, 1:]).sin() + 0.05 * torch.randn(400, 1, generator=generator)

    # Three members, each trained on a worker: the networks of one process, whatever happens to the workers.
    networks = caveat.fit_ensemble(build, nn.MSELoss(), (x, y), members=3, epochs=20, map=ray_map(), progress=False)
    both = caveat.samplers.mixture([caveat.mc_dropout(network, output=caveat.Mean(0.05**2)) for network in networks])

    # The draws of one batch, split over the workers and merged.
    grid = torch.tensor([[0.5, 0.5], [3.0, 3.0]])
    many, one = predict_draws(both, grid, 300, workers=2), caveat.predict(both, grid, 300)
    print(f"as one process gives, to rounding: {torch.allclose(many.mean, one.mean)}")
    print(f"standard deviations at (0.5, 0.5) and (3, 3): {many.variance.sqrt().flatten().tolist()}")

    # The rows of a dataset, block by block; "id" tells them apart, since they come in any order.
    rows = [{"id": k, "a": float(a), "b": float(b)} for k, (a, b) in enumerate(x.tolist())]
    dataset = ray.data.from_items(rows, override_num_blocks=4)
    found = predict(dataset, both, inputs=inputs_of, draws=100, keep=["id"], workers=2).to_pandas()
    print(f"{len(found)} rows, each once: {sorted(found['id']) == list(range(400))}")
    ray.shutdown()


if __name__ == "__main__":
    main()
