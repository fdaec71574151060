"""fastai's learners for pictures, texts and tables, beside a loop over torch's own dropout; nothing is downloaded."""

from __future__ import annotations

import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import caveat
from caveat.errors import InvalidArgumentError, NothingRandomError
from caveat.interop import fastai_predict
from caveat.testing import check_sampler

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore"),  # fastai's own, of pandas and of torch
]

DRAWS = 400


def brute_force(learner: Any, dl: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of what is activated, row by row in the order of ``dl``, by torch's own dropout."""
    model = learner.model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    batches = [batch[: dl.n_inp] for batch in dl]
    torch.manual_seed(0)

    def activated(returned: Any) -> torch.Tensor:
        logits = returned[0] if isinstance(returned, tuple) else returned
        return learner.loss_func.activation(logits.detach().as_subclass(torch.Tensor))

    with torch.no_grad():
        draws = torch.stack([torch.cat([activated(model(*x)) for x in batches]) for _ in range(DRAWS)])
    model.eval()
    return draws.mean(0), draws.var(0)


def assert_same_law(pred: Any, truth: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, variance = truth
    error = (2 * variance / DRAWS).sqrt() + 1e-6
    assert pred.mean.shape == mean.shape
    assert ((pred.mean - mean).abs() < 5 * error).all()
    ours = pred.epistemic_variance if isinstance(pred, caveat.Gaussian) else pred.standard_error() ** 2 * DRAWS
    assert float((ours.mean() / variance.mean()).log().abs()) < 0.25


def fastai(part: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"fastai.{part}.all")


def table(targets: str) -> Any:
    import pandas as pd

    f, rng = fastai("tabular"), np.random.default_rng(0)
    columns = {"size": rng.normal(size=48), "color": rng.choice(["red", "green", "blue"], 48)}
    frame = pd.DataFrame({**columns, "price": rng.normal(size=48), "kind": rng.choice(["u", "v"], 48)})
    block = f.RegressionBlock() if targets == "price" else f.CategoryBlock()
    torch.manual_seed(0)
    dls = f.TabularDataLoaders.from_df(
        frame, procs=[f.Categorify, f.Normalize], cat_names=["color"], cont_names=["size"], y_names=targets,
        y_block=block, bs=16, valid_idx=list(range(20)),
    )  # fmt: skip
    config = f.tabular_config(ps=[0.3, 0.2], embed_p=0.2)
    learner = f.tabular_learner(dls, layers=[20, 10], config=config, n_out=1 if targets == "price" else 2)
    with torch.no_grad():
        learner.model.layers[-1][0].weight.mul_(4)
    return learner, frame


@pytest.mark.parametrize("targets", ["price", "kind"])
def test_table_with_embeddings(targets: str) -> None:
    learner, _ = table(targets)
    pred = fastai_predict(learner, n=DRAWS)
    assert type(pred) is (caveat.Gaussian if targets == "price" else caveat.Categorical)
    assert_same_law(pred, brute_force(learner, learner.dls.valid))
    sites = {site.path for site in caveat.audit(learner.model, tuple(learner.dls.one_batch()[:2])).sites if site.live}
    assert {"emb_drop", "layers.0.3", "layers.1.3"} <= sites


def test_rows_of_a_new_table_do_not_depend_on_the_batch() -> None:
    learner, frame = table("price")
    whole = fastai_predict(learner, learner.dls.test_dl(frame), n=20, seed=3)
    some = fastai_predict(learner, learner.dls.test_dl(frame.iloc[5:9]), n=20, seed=3)
    torch.testing.assert_close(whole.mean[5:9], some.mean)
    assert len(whole.mean) == len(frame)


def pictures() -> Any:
    f, rng = fastai("vision"), np.random.default_rng(0)
    torch.manual_seed(0)
    images = [f.PILImage.create(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(12)]
    block = f.DataBlock(
        blocks=(f.ImageBlock, f.CategoryBlock), get_x=lambda i: images[i], get_y=lambda i: "ab"[i % 2],
        splitter=f.IndexSplitter([0, 1, 2, 3]),
    )  # fmt: skip
    dls = block.dataloaders(list(range(12)), bs=4, num_workers=0)
    body = f.nn.Sequential(f.ConvLayer(3, 8, stride=2), f.ConvLayer(8, 8, stride=2))
    return f.Learner(dls, f.nn.Sequential(body, f.create_head(8, 2, lin_ftrs=[16])), loss_func=f.CrossEntropyLossFlat())


def test_pictures_with_batch_norm_left_alone() -> None:
    learner = pictures()
    pred = fastai_predict(learner, n=DRAWS)
    assert_same_law(pred, brute_force(learner, learner.dls.valid))
    x = learner.dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    check_sampler(caveat.mc_dropout(learner.model, output=caveat.Logits()), x, n=3, only="state")


def texts() -> Any:
    import pandas as pd

    f = fastai("text")
    torch.manual_seed(0)
    config = f.awd_lstm_clas_config.copy()
    config.update(emb_sz=10, n_hid=12, n_layers=2)
    said = ["good day to all of you", "bad night", "so so", "no way man , never again , not with me"] * 4
    frame = pd.DataFrame({"text": said, "label": ["p", "n", "p", "n"] * 4, "valid": [True] * 4 + [False] * 12})
    dls = f.TextDataLoaders.from_df(frame, text_col="text", label_col="label", valid_col="valid", bs=4, n_workers=0)
    return f.text_classifier_learner(dls, f.AWD_LSTM, config=config, pretrained=False, n_out=2)


def test_texts_keep_the_order_of_the_data_set() -> None:
    learner = texts()
    pred = fastai_predict(learner, n=DRAWS)
    order = torch.tensor(learner.dls.valid.get_idxs()).argsort()
    assert order.tolist() != list(range(4))  # the loader sorts by length
    mean, variance = brute_force(learner, learner.dls.valid)
    assert_same_law(pred, (mean[order], variance[order]))


def test_what_is_no_learner_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="learner must be a fastai Learner"):
        fastai_predict(nn.Linear(2, 2))


def held(model: nn.Module, loss: Any) -> Any:
    """The least that a learner is."""
    rows = [(torch.zeros(3, 2), torch.zeros(3))]
    return SimpleNamespace(model=model, loss_func=loss, dls=SimpleNamespace(valid=rows))


def test_model_without_dropout_is_named() -> None:
    with pytest.raises(NothingRandomError, match="able to vary"):
        fastai_predict(held(nn.Linear(2, 2), nn.CrossEntropyLoss()))


class Resettable(nn.Sequential):
    """Has the method that networks of fastai for texts have, and returns a tensor."""

    def reset(self) -> None:
        pass


def test_a_network_with_reset_that_returns_a_tensor_is_read_whole() -> None:
    pred = fastai_predict(held(Resettable(nn.Dropout(), nn.Linear(2, 2)), nn.CrossEntropyLoss()), n=5)
    assert pred.mean.shape == (3, 2)


def test_loss_that_says_nothing_is_named() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    with pytest.raises(InvalidArgumentError, match="The loss must say"):
        fastai_predict(held(model, lambda p, y: p))
    assert fastai_predict(held(model, lambda p, y: p), output=caveat.Logits(), n=5).mean.shape == (3, 2)
    assert fastai_predict(held(model, nn.BCEWithLogitsLoss()), n=5).mean.shape == (3, 2)
