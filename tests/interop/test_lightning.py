"""Lightning's own trainer with caveat's callbacks, beside a plain loop over torch's dropout."""

from __future__ import annotations

import copy
import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import caveat
from caveat.errors import InvalidArgumentError, MissingExtraError, NothingRandomError, OutputMismatchError
from caveat.interop import lightning_calibration, lightning_predictive
from caveat.metrics import METRICS, expected_calibration_error

FRAMEWORKS = ["lightning.pytorch", "pytorch_lightning"]
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
# Lightning asks for more workers than a small machine has, and calls torch by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")


def made(pl: Any, outputs: int = 3, rate: float = 0.4) -> Any:
    """A module with batch normalization and dropout; its forward takes the inputs alone."""

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(rate))
            self.last = nn.Linear(32, outputs)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.hidden(x))

        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch[:2]
            return F.cross_entropy(self(x), y) if outputs > 1 else F.mse_loss(self(x)[:, 0], y.flatten())

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.05)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Module()


def own_step(pl: Any) -> Any:
    """A module whose predict_step takes the batch apart and gives probabilities by name."""
    base = type(made(pl))

    class Module(base):
        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            x, _ = batch
            return {"probabilities": self(x).softmax(-1)}

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Module()


def loader(y: Tensor = Y, size: int = 16) -> DataLoader[Any]:
    data: Dataset[Any] = TensorDataset(X, y)
    return DataLoader(data, batch_size=size)


def loop(module: Any, n: int) -> Tensor:
    """n passes of a copy in eval mode whose dropout alone is on, as people write it: (n, B, C) probabilities."""
    twin = copy.deepcopy(module).eval()
    for part in twin.modules():
        if isinstance(part, nn.Dropout):
            part.train()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        return torch.stack([twin(X).softmax(-1) for _ in range(n)])


def state_of(module: nn.Module) -> tuple[Any, ...]:
    flags = [part.training for part in module.modules()]
    return flags, sorted(vars(module)), {name: value.clone() for name, value in module.state_dict().items()}


def assert_untouched(module: nn.Module, before: tuple[Any, ...]) -> None:
    flags, names, state = state_of(module)
    assert (flags, names) == before[:2]
    assert all(torch.equal(value, before[2][name]) for name, value in state.items())


@pytest.fixture(params=FRAMEWORKS)
def pl(request: pytest.FixtureRequest) -> ModuleType:
    pytest.importorskip(request.param)
    return importlib.import_module(request.param)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["forward", "predict_step"])
def test_predictions_are_those_of_a_plain_loop(pl: Any, kind: str) -> None:
    if kind == "forward":
        module, output = made(pl), caveat.Logits()
    else:
        module, output = own_step(pl), caveat.Probabilities(select="probabilities")
    module.hidden[1].running_mean.normal_()  # statistics that a batch of its own would not have
    trainer = pl.Trainer(callbacks=[lightning_predictive(output, n=1000)], **QUIET)
    trainer.predict(module, loader())  # Lightning notes its trainer on the module at the first call
    before = state_of(module)
    found = trainer.predict(module, loader())
    assert [type(pred) for pred in found] == [caveat.Categorical] * 4
    assert_untouched(module, before)
    truth, n = loop(module, 3000), 1000
    mean, spread = torch.cat([p.mean for p in found]), torch.cat([p.variance for p in found]).sqrt()
    error = truth.std(0) * (1 / n + 1 / 3000) ** 0.5
    assert ((mean - truth.mean(0)) / error).abs().max() < 4.5
    torch.testing.assert_close(spread, truth.std(0), rtol=0.15, atol=1e-4)
    whole = caveat.predict(caveat.mc_dropout(module, output=caveat.Logits()), X, n)
    torch.testing.assert_close(mean, whole.mean, rtol=0, atol=1e-6)  # the same functions, however they are asked for


@pytest.mark.heavy
def test_an_exception_leaves_the_module_as_it_was(pl: Any) -> None:
    module = made(pl)
    module.predict_step = own = lambda batch: module(batch[0])
    trainer = pl.Trainer(callbacks=[lightning_predictive(caveat.Mean(select="no_such_head"))], **QUIET)
    before = state_of(module)
    with pytest.raises(OutputMismatchError):
        trainer.predict(module, loader())
    assert vars(module)["predict_step"] is own
    assert all(torch.equal(value, before[2][name]) for name, value in module.state_dict().items())


@pytest.mark.heavy
def test_a_module_without_dropout_is_refused(pl: Any) -> None:
    callbacks = [lightning_predictive(caveat.Logits())]
    with pytest.raises(NothingRandomError, match="rate 0"):
        pl.Trainer(callbacks=callbacks, **QUIET).predict(made(pl, rate=0.0), loader())


@pytest.mark.heavy
def test_paths_are_those_of_the_module() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    callbacks = [lightning_predictive(caveat.Probabilities(select="probabilities"), n=5, live=caveat.paths("hidden.3"))]
    assert pl.Trainer(callbacks=callbacks, **QUIET).predict(own_step(pl), loader())[0].count == 5


@pytest.mark.heavy
def test_several_loaders_give_a_list_each() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    trainer = pl.Trainer(callbacks=[lightning_predictive(caveat.Logits(), n=5)], **QUIET)
    first, second = trainer.predict(made(pl), [loader(), loader(size=25)])
    assert [len(first), len(second)] == [4, 2]
    torch.testing.assert_close(first[0].mean, second[0].mean[:16], rtol=0, atol=1e-6)


@pytest.mark.heavy
def test_a_checkpoint_is_predicted_with(tmp_path: Any) -> None:
    pl = pytest.importorskip("lightning.pytorch")
    trained = made(pl)
    trainer = pl.Trainer(max_epochs=1, **QUIET)
    trainer.fit(trained, loader(), loader())
    trainer.save_checkpoint(tmp_path / "trained.ckpt")
    callbacks = [lightning_predictive(caveat.Logits(), n=5)]
    found = pl.Trainer(callbacks=callbacks, **QUIET).predict(made(pl), loader(), ckpt_path=tmp_path / "trained.ckpt")
    wanted = caveat.predict(caveat.mc_dropout(trained, output=caveat.Logits()), X[:16], 5)
    torch.testing.assert_close(found[0].mean, wanted.mean, rtol=0, atol=1e-6)


@pytest.mark.heavy
def test_a_batch_that_is_a_dict_is_one_argument() -> None:
    pl = pytest.importorskip("lightning.pytorch")

    class OfDicts(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = made(pl)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.net(batch["x"])

    rows = [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)]
    module, data = OfDicts(), DataLoader(rows, batch_size=16)  # type: ignore[arg-type]
    calibration = lightning_calibration(caveat.Logits(), n=5, targets=lambda batch: batch["y"])
    module.validation_step = lambda batch: None
    trainer = pl.Trainer(callbacks=[lightning_predictive(caveat.Logits(), n=5), calibration], **QUIET)
    found = trainer.predict(module, data)
    wanted = caveat.predict(caveat.mc_dropout(module, output=caveat.Logits()), ({"x": X},), 5)
    torch.testing.assert_close(torch.cat([pred.mean for pred in found]), wanted.mean, rtol=0, atol=1e-6)
    trainer.validate(module, data, verbose=False)
    brier = METRICS["brier_score"].function(wanted, Y).item()
    assert trainer.callback_metrics["val_brier_score"].item() == pytest.approx(brier, abs=1e-5)


@pytest.mark.heavy
def test_data_modules_and_writers_get_predictives() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.callbacks import BasePredictionWriter

    written: list[Any] = []

    class Writer(BasePredictionWriter):
        def write_on_batch_end(self, trainer: Any, module: Any, prediction: Any, rows: Any, *rest: Any) -> None:
            written.append((prediction, rows))

    class Rows(pl.LightningDataModule):
        def predict_dataloader(self) -> Any:
            return loader()

    callbacks = [lightning_predictive(caveat.Logits(), n=5), Writer("batch")]
    trainer = pl.Trainer(callbacks=callbacks, **QUIET)
    assert trainer.predict(made(pl), datamodule=Rows(), return_predictions=False) is None
    assert [type(pred) for pred, _ in written] == [caveat.Categorical] * 4
    assert written[1][1] == list(range(16, 32))


# -- calibration in validation -----------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_calibration_of_classes_is_that_of_all_rows(pl: Any) -> None:
    module = made(pl)
    trainer = pl.Trainer(max_epochs=2, callbacks=[lightning_calibration(caveat.Logits(), n=10)], **QUIET)
    trainer.fit(module, loader(), loader())
    assert all(part.training for part in module.modules())
    pred = caveat.predict(caveat.mc_dropout(module, output=caveat.Logits()), X, 10)
    wanted = {
        "val_expected_calibration_error": expected_calibration_error(pred, Y),
        "val_negative_log_likelihood": METRICS["negative_log_likelihood"].function(pred, Y),
        "val_brier_score": METRICS["brier_score"].function(pred, Y),
        "val_mutual_information": caveat.mutual_information(pred).mean(),
    }
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name != "val_loss"}
    assert logged == pytest.approx({name: value.item() for name, value in wanted.items()}, abs=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("columns", [False, True])
def test_calibration_of_targets_is_that_of_all_rows(columns: bool) -> None:
    pl = pytest.importorskip("lightning.pytorch")
    module, y = made(pl, outputs=1), X[:, 0] - X[:, 1]
    output = caveat.Mean(noise_variance=0.25)
    trainer = pl.Trainer(callbacks=[lightning_calibration(output, n=10, level=0.8, prefix="")], **QUIET)
    trainer.validate(module, loader(y[:, None] if columns else y), verbose=False)
    pred = caveat.predict(caveat.mc_dropout(module, output=output), X, 10)
    low, high = pred.interval(0.8)
    wanted = {
        "gaussian_negative_log_likelihood": METRICS["gaussian_negative_log_likelihood"].function(pred, y),
        "interval_coverage": ((low[:, 0] <= y) & (y <= high[:, 0])).float().mean(),
        "mean_interval_width": (high - low).mean(),
        "epistemic_variance": pred.epistemic_variance.mean(),
    }
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name != "val_loss"}
    assert logged == pytest.approx({name: value.item() for name, value in wanted.items()}, abs=1e-5)


@pytest.mark.heavy
def test_each_loader_has_its_own_values() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    module = own_step(pl)
    output = caveat.Probabilities(select="probabilities")
    trainer = pl.Trainer(callbacks=[lightning_calibration(output, n=10)], **QUIET)
    trainer.validate(module, [loader(), loader((Y + 1) % 3)], verbose=False)
    logged = trainer.callback_metrics
    assert len(logged) == 2 * (4 + 1)
    assert logged["val_brier_score/dataloader_idx_0"] != logged["val_brier_score/dataloader_idx_1"]
    name = "val_mutual_information/dataloader_idx_"
    torch.testing.assert_close(logged[name + "0"], logged[name + "1"])


@pytest.mark.heavy
def test_what_the_labels_are_is_not_guessed() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    three: Dataset[Any] = TensorDataset(X, Y, Y)
    module = made(pl)
    trainer = pl.Trainer(callbacks=[lightning_calibration(caveat.Logits(), n=2)], **QUIET)
    with pytest.raises(InvalidArgumentError, match="targets=lambda batch"):
        trainer.validate(module, DataLoader(three, batch_size=16), verbose=False)
    chosen = lightning_calibration(caveat.Logits(), n=2, targets=lambda batch: batch[1])
    trainer = pl.Trainer(callbacks=[chosen], **QUIET)
    trainer.validate(module, DataLoader(three, batch_size=16), verbose=False)
    assert "val_brier_score" in trainer.callback_metrics


# -- without Lightning -------------------------------------------------------------------------------------------------


def hide(monkeypatch: pytest.MonkeyPatch, name: str, instead: ModuleType | None = None) -> None:
    """Take a package and all that is loaded of it away; ``None`` in its place is an import that fails."""
    for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, instead)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lightning_predictive, lightning_calibration])
def test_a_missing_lightning_is_named_with_its_pip_line(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "lightning")
    hide(monkeypatch, "pytorch_lightning")
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[lightning\]"'):
        make(caveat.Logits())


def test_an_old_lightning_is_named_with_the_version_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("lightning")
    old.__dict__.update(__version__="1.9.5", __path__=[], __spec__=ModuleSpec("lightning", None))
    hide(monkeypatch, "lightning", old)
    hide(monkeypatch, "pytorch_lightning")
    for name in ("lightning.pytorch", "lightning.pytorch.callbacks"):
        part = ModuleType(name)
        part.__dict__.update(__path__=[])
        monkeypatch.setitem(sys.modules, name, part)
    with pytest.raises(MissingExtraError, match=r"lightning 2.4 or newer is needed here[^$]*1\.9\.5[^$]*--upgrade"):
        lightning_predictive(caveat.Logits())
