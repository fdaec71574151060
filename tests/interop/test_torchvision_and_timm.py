"""Small networks of torchvision and timm with random weights, beside their own dropout in train mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import caveat
from caveat.errors import NothingRandomError, OutputMismatchError

pytestmark = pytest.mark.frameworks

DRAWS, COPIES = 300, 600
PICTURES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def assert_law_of_train_mode(model: nn.Module, pred: Any, read: Any = lambda returned: returned) -> None:
    """The mean and the spread are those of torch's own masks, of which every copy of a row in a batch has its own."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([read(model(row.expand(COPIES, -1, -1, -1))) for row in PICTURES], 1)
    model.eval()
    error = (draws.var(0) * (1 / DRAWS + 1 / COPIES)).sqrt()
    assert (error > 1e-7).any()
    assert ((pred.mean - draws.mean(0)).abs() < 5 * error + 1e-6).all()
    assert 0.7 < float(pred.epistemic_variance.mean() / draws.var(0).mean()) < 1.4


def predict(model: nn.Module, live: Any = caveat.all_dropout) -> Any:
    sampler = caveat.mc_dropout(model.eval(), output=caveat.Mean(), live=live)
    return caveat.predict(sampler, PICTURES, DRAWS)


def convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    torch.manual_seed(0)
    blocks = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 2)]
    return ConvNeXt(blocks, stochastic_depth_prob=0.5, layer_scale=1.0, num_classes=3)


def transformer(**rates: float) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        img_size=32, patch_size=16, embed_dim=16, depth=2, num_heads=2, num_classes=3, weight_init="", **rates
    )  # fmt: skip


def swin() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    rates = {"dropout": 0.2, "attention_dropout": 0.2, "stochastic_depth_prob": 0.4}
    return SwinTransformer([2, 2], 16, [2, 2], [2, 2], [2, 2], num_classes=3, **rates)


@pytest.mark.parametrize(
    "make",
    [convnext, swin, lambda: transformer(drop_rate=0.2, proj_drop_rate=0.2, attn_drop_rate=0.2, drop_path_rate=0.4)],
    ids=["torchvision ConvNeXt", "torchvision Swin", "timm ViT"],
)
def test_stochastic_depth_fires_on_request(make: Any) -> None:
    model = make()
    assert_law_of_train_mode(model, predict(model, caveat.with_stochastic_depth))


def test_stochastic_depth_of_torchvision_stays_off_by_default() -> None:
    with pytest.raises(NothingRandomError):
        predict(convnext())


def test_stochastic_depth_of_timm_stays_off_by_default() -> None:
    both, alone = transformer(drop_rate=0.2, drop_path_rate=0.4), transformer(drop_rate=0.2)
    torch.testing.assert_close(predict(both).mean, predict(alone).mean)


def test_audit_says_how_to_ask_for_stochastic_depth() -> None:
    text = str(caveat.audit(transformer(drop_rate=0.2, drop_path_rate=0.4), PICTURES))
    assert "drop whole branches (stochastic depth)" in text


# -- dense heads -------------------------------------------------------------------------------------------------------


def segmentation() -> nn.Module:
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    backbone = IntermediateLayerGetter(nn.Sequential(first, second), {"0": "aux", "1": "out"})
    return FCN(backbone, FCNHead(8, 3), FCNHead(8, 3)).eval()


def test_a_dense_head_is_read_by_its_key() -> None:
    model = segmentation()
    sampler = caveat.mc_dropout(model, output=caveat.Logits(class_dim=1, select="out"))
    pred = caveat.predict(sampler, PICTURES, 50)
    assert pred.mean.shape == (2, 32, 32, 3)
    assert (caveat.mutual_information(pred) > 0).any()
    logits = caveat.mc_dropout(model, output=caveat.Mean(select="out"))
    assert_law_of_train_mode(model, caveat.predict(logits, PICTURES, DRAWS), lambda returned: returned["out"])


def test_both_dense_heads_are_read_at_once() -> None:
    heads = {name: caveat.Logits(class_dim=1) for name in ("out", "aux")}
    pred = caveat.predict(caveat.mc_dropout(segmentation(), output=heads), PICTURES, 20)
    alone = caveat.mc_dropout(segmentation(), output=caveat.Logits(class_dim=1, select="aux"))
    torch.testing.assert_close(pred["aux"].mean, caveat.predict(alone, PICTURES, 20).mean)


def test_a_dense_head_without_its_key_is_named() -> None:
    sampler = caveat.mc_dropout(segmentation(), output=caveat.Logits(class_dim=1))
    with pytest.raises(OutputMismatchError, match="out"):
        caveat.predict(sampler, PICTURES, 5)


# -- auxiliary heads ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torchvision's, about its way to make weights
@pytest.mark.parametrize(("name", "size"), [("googlenet", 48), ("inception_v3", 80)])
def test_auxiliary_heads_are_left_alone(name: str, size: int) -> None:
    import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None, num_classes=3, aux_logits=True, init_weights=False).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    x = torch.randn(2, 3, size, size)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    draws = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 200)  # one tensor: no auxiliary logits
    with torch.no_grad():
        at_rest = model(x)
    spread = draws.std(0)
    assert (spread > 0).all()
    # Dropout comes before the last linear layer alone, so the mean over draws is the network without dropout.
    assert ((draws.mean(0) - at_rest).abs() < 5 * spread / 200**0.5).all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
