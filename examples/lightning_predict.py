"""PyTorch Lightning: calibration logged in validation, and ``Trainer.predict`` that gives predictives.

Run it with ``python examples/lightning_predict.py``; it needs ``pip install ".[lightning]"``.
"""

import logging
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import caveat
from caveat.interop import lightning_calibration, lightning_predictive

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(pl.LightningModule):
    """Two interleaved half-moons; nothing in it is about uncertainty but its dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)


pl.seed_everything(0, verbose=False)
angle, y = torch.rand(600) * torch.pi, torch.arange(600) % 2
x = torch.stack((angle.cos() + y, (0.5 - y) * 2 * angle.sin() + 0.3 * y), 1) + 0.15 * torch.randn(600, 2)
train, val = (DataLoader(TensorDataset(x[rows], y[rows]), batch_size=64) for rows in (slice(400), slice(400, 600)))

callbacks = [lightning_calibration(caveat.Logits(), n=20), lightning_predictive(caveat.Logits(), n=100)]
trainer = pl.Trainer(
    max_epochs=20, callbacks=callbacks, accelerator="cpu", logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(Classifier(), train, val)
for name, value in trainer.callback_metrics.items():
    print(f"{name:32} {value:.3f}")

preds: Any = trainer.predict(trainer.lightning_module, val)  # a predictive for each batch
epistemic = torch.cat([caveat.mutual_information(pred) for pred in preds])
print(f"{len(preds)} batches; mutual information {epistemic.mean():.3f} nats, at most {epistemic.max():.3f}")
