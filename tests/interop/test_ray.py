"""Ray: rows, draws and members on workers, beside what one process gives; workers that are killed in the middle."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import caveat
from caveat.errors import InvalidArgumentError, InvalidModelError, MissingExtraError
from caveat.interop import ray as on_ray
from caveat.tabular import Regressor

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and logs of Ray's that outlive a test
]
ROWS = 3000


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    found = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    found.init(
        num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False, logging_level="ERROR"
    )
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(0)
    x, group = numbers.normal(size=ROWS), numbers.choice(["a", "b"], ROWS)
    return {"id": np.arange(ROWS), "x": x, "group": group, "y": 3 * x + numbers.normal(size=ROWS) * (group == "a")}


@pytest.fixture(scope="module")
def folder(table: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ray") / "model"
    columns = {name: table[name][:600] for name in ("x", "group")}
    Regressor(method="mc_dropout", epochs=3, draws=8).fit(columns, table["y"][:600]).save(place)
    return place


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3)).eval()


def once(flag: Path) -> bool:
    """Whether this is the first call with the flag, in any process."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def first_columns(batch: dict[str, Any]) -> torch.Tensor:
    return torch.from_numpy(batch["features"]).float()


def first_columns_dying_once(batch: dict[str, Any], flag: Path) -> torch.Tensor:
    if 500 in batch["id"] and once(flag):
        os._exit(1)
    return first_columns(batch)


# -- rows ------------------------------------------------------------------------------------------------------------


def test_rows_of_a_folder_are_those_of_the_estimator(ray: Any, table: Any, folder: Path) -> None:
    dataset = ray.data.from_numpy(np.arange(ROWS)).map_batches(partial(columns_of_batch, table=table))
    found = on_ray.predict(dataset, folder, keep=["id"], workers=2, batch_size=500).to_pandas().sort_values("id")
    assert found["id"].tolist() == list(range(ROWS))
    mean = Regressor.load(folder).predict({name: table[name] for name in ("x", "group")})
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5, atol=1e-6)
    assert set(found) == {"id", "mean", "std", "low", "high", "epistemic", "aleatoric", "decision"}


def columns_of_batch(batch: dict[str, Any], table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: table[name][batch["data"]] for name in ("id", "x", "group")}


def test_rows_of_a_sampler_are_those_of_one_process(ray: Any) -> None:
    x = np.random.default_rng(1).normal(size=(700, 4))
    sampler = caveat.mc_dropout(network(), output=caveat.Logits())
    dataset = ray.data.from_items([{"id": k, "features": row} for k, row in enumerate(x)], override_num_blocks=7)
    rows = on_ray.predict(dataset, sampler, inputs=first_columns, draws=20, seed=3, keep=["id"], workers=2).take_all()
    expected = caveat.predict(sampler, torch.from_numpy(x).float(), 20, seed=3)
    parts = caveat.decompose(expected)
    rows.sort(key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(700))
    np.testing.assert_allclose(np.stack([row["mean"] for row in rows]), expected.mean, atol=1e-6)
    np.testing.assert_allclose([row["epistemic"] for row in rows], parts["epistemic"], atol=1e-6)


def test_a_worker_killed_in_the_middle_loses_and_doubles_no_row(ray: Any, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(1000, 4))
    inputs = partial(first_columns_dying_once, flag=tmp_path / "died")
    sampler = caveat.mc_dropout(network(), output=caveat.Logits())
    dataset = ray.data.from_items([{"id": k, "features": row} for k, row in enumerate(x)], override_num_blocks=10)
    rows = on_ray.predict(dataset, sampler, inputs=inputs, draws=5, keep=["id"], workers=2, batch_size=50).take_all()
    assert (tmp_path / "died").exists()
    assert sorted(row["id"] for row in rows) == list(range(1000))
    rows.sort(key=lambda row: row["id"])
    expected = caveat.predict(sampler, torch.from_numpy(x).float(), 5).mean
    np.testing.assert_allclose(np.stack([row["mean"] for row in rows]), expected, atol=1e-6)


# -- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strata", [None, 8])
def test_draws_split_over_workers_are_those_of_one_process(ray: Any, strata: int | None) -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    sampler = caveat.mc_dropout(network(), output=caveat.Logits(), strata=strata)
    one, many = caveat.predict(sampler, x, 50, seed=4), on_ray.predict_draws(sampler, x, 50, seed=4, workers=3)
    assert int(many.count) == 50
    for name in ("mean", "variance"):
        torch.testing.assert_close(getattr(many, name), getattr(one, name), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(many.standard_error(), one.standard_error(), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(caveat.mutual_information(many), caveat.mutual_information(one), atol=1e-7, rtol=1e-5)


def test_members_split_over_workers_are_all_of_them_once(ray: Any) -> None:
    x = torch.randn(6, 4)
    networks = [nn.Linear(4, 3) for _ in range(5)]
    sampler = caveat.ensemble(networks, output=caveat.Logits())
    one = caveat.predict(sampler, x)  # what the ensemble recorded of its members stays at home
    many = on_ray.predict_draws(sampler, x, workers=2)
    torch.testing.assert_close(many.mean, one.mean, rtol=1e-6, atol=1e-9)
    assert int(many.count) == 5


# -- members ---------------------------------------------------------------------------------------------------------


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.linspace(-1, 1, 80)[:, None]
    return x, x**2


def loss_dying_once(returned: torch.Tensor, target: torch.Tensor, *, folder: Path) -> torch.Tensor:
    """The square error; notes each call, and ends the process at the 20th call of a first life of a member."""
    with (folder / f"calls-{os.getpid()}").open("a") as file:
        file.write(".")
    if (folder / f"calls-{os.getpid()}").stat().st_size == 20 and once(folder / "died"):
        os._exit(1)
    return nn.functional.mse_loss(returned, target)


def test_members_trained_on_the_cluster_are_those_of_one_process(ray: Any) -> None:
    settings: dict[str, Any] = {"members": 3, "epochs": 4, "seed": 7, "progress": False}
    here = caveat.fit_ensemble(build, nn.MSELoss(), data(), backend="loop", **settings)
    there = caveat.fit_ensemble(build, nn.MSELoss(), data(), map=on_ray.ray_map(), **settings)
    for a, b in zip(here, there, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_member_killed_in_training_goes_on_from_its_checkpoint(ray: Any, tmp_path: Path) -> None:
    loss = partial(loss_dying_once, folder=tmp_path)
    settings: dict[str, Any] = {"members": 1, "epochs": 12, "seed": 7, "progress": False, "validation": None}
    settings |= {"batch_size": 40, "patience": None}
    here = caveat.fit_ensemble(build, nn.MSELoss(), data(), backend="loop", **settings)
    checkpoint = tmp_path / "checkpoints"
    there = caveat.fit_ensemble(build, loss, data(), map=on_ray.ray_map(), checkpoint=checkpoint, **settings)
    assert all(torch.equal(p, q) for p, q in zip(here[0].parameters(), there[0].parameters(), strict=True))
    calls = sorted(file.stat().st_size for file in tmp_path.glob("calls-*"))
    assert len(calls) == 2
    assert sum(calls) < 24 + 20  # 12 epochs of two steps, and not all 20 of the first life again


# -- mistakes --------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_model_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"caveat\.json"):
        on_ray.predict(None, tmp_path)


def test_arguments_are_checked_before_the_work(folder: Path) -> None:
    sampler = caveat.mc_dropout(network(), output=caveat.Logits())
    for match, model, settings in (
        ("which part of a batch", sampler, {}),
        ("inputs is for a sampler", folder, {"inputs": first_columns}),
        ("level must lie", folder, {"level": 1.5}),
        ("level must lie", folder, {"level": 0.9999999}),
        ("draws must", folder, {"draws": 1}),
        ("batch_size", folder, {"batch_size": 0}),
    ):
        with pytest.raises(InvalidArgumentError, match=match):
            on_ray.predict(None, model, **settings)


def test_without_ray_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[ray\]"'):
        list(on_ray.ray_map()(str, [1]))
