"""Tiny networks of ``transformers`` for images, sound and two modalities; their train-only habits must
stay off."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..entry import Entry, keep_mask, kwargs, normal, tokens, whole
from .huggingface import BERT, RATES, SEEN, SIZE, both, hf, states, without_layerdrop

IMAGES = kwargs(pixel_values=normal(2, 4, 4))
VISION = SIZE | RATES | {"image_size": 4, "patch_size": 2, "num_channels": 2, "num_hidden_layers": 1}
CLIP = SIZE | {
    "vocab_size": 13, "max_position_embeddings": 12, "attention_dropout": 0.4, "num_hidden_layers": 2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 12, "projection_dim": 8,
}  # fmt: skip
WAV2VEC2 = SIZE | {
    "num_hidden_layers": 2, "conv_dim": [4, 4], "conv_kernel": [4, 2], "conv_stride": [2, 2],
    "conv_bias": True,
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 2, "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.2, "attention_dropout": 0.3, "activation_dropout": 0.2, "feat_proj_dropout": 0.2,
    "layerdrop": 0.5, "apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2,
    "mask_feature_prob": 0.4, "mask_feature_length": 2, "vocab_size": 13,
}  # fmt: skip
WHISPER: dict[str, Any] = {
    "vocab_size": 13, "num_mel_bins": 4, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1,
    "use_cache": False,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12,
    "max_source_positions": 4, "max_target_positions": 8, "dropout": 0.25, "attention_dropout": 0.4,
    "activation_dropout": 0.2, "encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5, "init_std": 0.6,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2, "suppress_tokens": None,
    "begin_suppress_tokens": None,
}  # fmt: skip
CONVNEXT: dict[str, Any] = {
    "num_channels": 2, "patch_size": 2, "num_stages": 2, "hidden_sizes": [4, 6], "depths": [1, 1],
    "image_size": 4,
    "drop_path_rate": 0.5,
}  # fmt: skip


def without_augmentation(model: nn.Module) -> nn.Module:
    """Train mode with masking of the input and dropping of layers at rate zero."""
    config: Any = model.config
    config.apply_spec_augment = False
    config.layerdrop = 0.0
    return without_layerdrop(model)


def without_drop_path(model: nn.Module) -> nn.Module:
    """Train mode with stochastic depth off."""
    model.train()
    for name, module in model.named_modules():
        if name.endswith("drop_path"):
            module.eval()
    return model


class Classifier(nn.Module):
    """What users write around a backbone: pooled states, dropout, a head; here around a ConvNeXt without
    dropout."""

    def __init__(self) -> None:
        super().__init__()
        import transformers

        self.backbone = transformers.ConvNextModel(transformers.ConvNextConfig(**CONVNEXT))
        self.drop, self.head = nn.Dropout(0.4), nn.Linear(6, 3)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(self.drop(self.backbone(pixel_values).pooler_output))


def both_sides(out: Any) -> Tensor:
    return torch.cat([out.encoder_last_hidden_state, out.last_hidden_state], 1)


SOUND = kwargs(input_values=normal(26))
SPECTRA = kwargs(input_features=normal(4, 8), decoder_input_ids=tokens(2, 13, seed=60, low=3))
WORDS = kwargs(input_ids=tokens(4, 13, low=3), attention_mask=keep_mask(4))


def classifier() -> Entry:
    from ..entry import entry

    return entry("hf_convnext_with_head", Classifier, IMAGES, 1, needs="transformers")


ENTRIES: list[Entry] = [
    *both("vit", "ViT", VISION | SEEN, IMAGES, 4, select=states),
    hf("vit_classifier", "ViT", VISION | {"num_labels": 3}, IMAGES, 4, "sdpa", "ForImageClassification"),
    *both("deit", "DeiT", VISION | SEEN, IMAGES, 4, select=states),
    *both(
        "beit",
        "Beit",
        VISION
        | SEEN
        | {
            "drop_path_rate": 0.5,
            "use_mask_token": False,
            "layer_scale_init_value": 1.0,
            "use_relative_position_bias": True,
            "num_hidden_layers": 2,
        },
        IMAGES,
        7,
        select=states,
        reference=without_drop_path,
    ),
    classifier(),
    hf(
        "timesformer",
        "Timesformer",
        VISION | {"num_frames": 2},
        kwargs(pixel_values=normal(2, 2, 4, 4)),
        8,
        None,
        select="last_hidden_state",
        fold=1,
        quirk="the class token of row k is that of the k-th of all frames, which are alike but for what is dropped",
    ),
    *both("wav2vec2", "Wav2Vec2", WAV2VEC2 | SEEN, SOUND, 10, select=states, reference=without_augmentation),
    *both("whisper", "Whisper", WHISPER, SPECTRA, 12, select=both_sides, reference=without_augmentation),
    *both("clip_text", "CLIPText", CLIP | SEEN, WORDS, 2, select=states),
    hf(
        "bert_causal",
        "Bert",
        BERT | SEEN | {"num_hidden_layers": 1, "is_decoder": True, "use_cache": False},
        WORDS,
        4,
        "sdpa",
        "LMHeadModel",
        select=states,
        reference=whole,
    ),
]
