"""Tiny, randomly initialized networks of ``transformers``: text encoders and decoders, eager and fused
attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..entry import Entry, entry, keep_mask, kwargs, tokens, whole

DRAWS, FOLD = 3000, 50
SLOW: dict[str, Any] = {"draws": 500}
"""Fused attention under a causal mask takes a pass per draw."""


def states(out: Any) -> Tensor:
    """The states after every layer, side by side: each site shows in the first states after it."""
    return torch.cat(out.hidden_states[1:], 1)


def states_of_both(out: Any) -> Tensor:
    return torch.cat([*out.encoder_hidden_states[1:], *out.decoder_hidden_states[1:]], 1)


def hf(
    name: str,
    model: str,
    config: dict[str, Any],
    inputs: Callable[[int], Any],
    sites: int,
    attention: str | None = "eager",
    head: str = "Model",
    **rest: Any,
) -> Entry:
    """An entry built from the class ``<model><head>`` and ``<model>Config(**config)``."""

    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, f"{model}Config")(**{"initializer_range": 0.3, "return_dict": True} | config)
        if attention is not None:
            made._attn_implementation = attention
        network = getattr(transformers, model + head)(made)
        for parameter in network.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, parameter.detach().mean().item(), 0.1)
        return network

    rest = {"needs": "transformers", "reference": whole, "draws": DRAWS, "fold": FOLD} | rest
    return entry(f"hf_{name}", build, inputs, sites, **rest)


def both(name: str, model: str, config: dict[str, Any], inputs: Any, sites: int, **rest: Any) -> list[Entry]:
    """The same network with eager and with fused attention."""
    return [hf(f"{name}_{kind}", model, config, inputs, sites, kind, **rest) for kind in ("eager", "sdpa")]


SIZE: dict[str, Any] = {
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
}
RATES: dict[str, Any] = {"hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.4}
TEXT: dict[str, Any] = {"vocab_size": 13, "max_position_embeddings": 12, "pad_token_id": 0}
SEEN: dict[str, Any] = {"output_hidden_states": True}
BERT = SIZE | RATES | TEXT

IDS = tokens(4, 13, low=3)
PADDED = kwargs(input_ids=IDS, attention_mask=keep_mask(4))
NO_MASK = kwargs(input_ids=IDS)
SEQ2SEQ = PADDED_BOTH = kwargs(
    input_ids=IDS, attention_mask=keep_mask(4), decoder_input_ids=tokens(2, 13, seed=60, low=3)
)

GPT2: dict[str, Any] = {
    "vocab_size": 13, "n_positions": 12, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_inner": 12,
    "use_cache": False,
    "resid_pdrop": 0.25, "embd_pdrop": 0.2, "attn_pdrop": 0.4, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
NEOX = SIZE | {
    "vocab_size": 13, "max_position_embeddings": 12, "hidden_dropout": 0.25, "attention_dropout": 0.4,
    "use_cache": False, "num_hidden_layers": 1, "bos_token_id": 1, "eos_token_id": 2, "rotary_pct": 0.5,
}  # fmt: skip
OPT: dict[str, Any] = {
    "vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 1, "ffn_dim": 12, "num_attention_heads": 2,
    "max_position_embeddings": 12, "word_embed_proj_dim": 8, "dropout": 0.25, "attention_dropout": 0.4,
    "layerdrop": 0.5, "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "init_std": 0.6,
}  # fmt: skip
LLAMA = SIZE | {
    "vocab_size": 13, "max_position_embeddings": 12, "attention_dropout": 0.4, "num_key_value_heads": 1,
    "num_hidden_layers": 2, "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": 13, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2, "dropout_rate":
    0.3,
    "initializer_factor": 1.0, "use_cache": False, "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": 13, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "max_position_embeddings": 12,
    "dropout": 0.25, "attention_dropout": 0.4, "activation_dropout": 0.3, "init_std": 0.6, "use_cache": False,
    "encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
    "forced_eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
XLNET: dict[str, Any] = {
    "vocab_size": 13, "d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 12, "dropout": 0.3,
    "use_mems_eval": False,
    "use_mems_train": False, "pad_token_id": 0,
}  # fmt: skip
FUNNEL: dict[str, Any] = {
    "vocab_size": 13, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 8, "n_head": 2, "d_head": 4,
    "d_inner": 12, "hidden_dropout": 0.2, "attention_dropout": 0.3, "activation_dropout": 0.2,
    "initializer_range": 0.3,
}  # fmt: skip


def without_layerdrop(model: nn.Module) -> nn.Module:
    """Train mode, with the layer drop (which only train mode does) at rate zero."""
    for module in model.modules():
        if hasattr(module, "layerdrop"):
            module.layerdrop = 0.0
    return model.train()


ENTRIES: list[Entry] = [
    *both("bert", "Bert", BERT | SEEN, PADDED, 7, select=states),
    hf(
        "bert_classifier",
        "Bert",
        BERT | {"num_labels": 3, "num_hidden_layers": 1},
        PADDED,
        5,
        "sdpa",
        "ForSequenceClassification",
    ),
    hf(
        "bert_tagger",
        "Bert",
        BERT | {"num_labels": 3, "num_hidden_layers": 1},
        PADDED,
        5,
        "eager",
        "ForTokenClassification",
        select="logits",
    ),
    *both(
        "roberta",
        "Roberta",
        BERT | SEEN | {"num_hidden_layers": 1, "pad_token_id": 1},
        PADDED,
        4,
        select=states,
    ),
    *both(
        "distilbert",
        "DistilBert",
        TEXT
        | SEEN
        | {
            "dim": 8,
            "n_heads": 2,
            "n_layers": 1,
            "hidden_dim": 12,
            "dropout": 0.25,
            "attention_dropout": 0.4,
        },
        PADDED,
        3,
        select=states,
    ),
    hf(
        "electra",
        "Electra",
        BERT | SEEN | {"num_hidden_layers": 1, "embedding_size": 6},
        PADDED,
        4,
        select=states,
    ),
    *both("albert", "Albert", BERT | SEEN | {"embedding_size": 6}, PADDED, 5, select=states),
    hf(
        "deberta_v2",
        "DebertaV2",
        BERT
        | SEEN
        | {
            "num_hidden_layers": 1,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 4,
            "max_relative_positions": 8,
        },
        PADDED,
        5,
        None,
        select=states,
        fold=1,
        draws=1000,
    ),
    hf(
        "mpnet",
        "MPNet",
        BERT | SEEN | {"num_hidden_layers": 1, "pad_token_id": 1},
        PADDED,
        4,
        None,
        select=states,
    ),
    hf("gpt2_eager", "GPT2", GPT2 | SEEN | {"n_layer": 2}, PADDED, 7, select=states),
    hf("gpt2_sdpa", "GPT2", GPT2 | SEEN | {"n_layer": 2}, PADDED, 7, "sdpa", select=states, **SLOW),
    hf("gpt2_language_model", "GPT2", GPT2, NO_MASK, 4, "sdpa", "LMHeadModel", draws=300),
    *both("gpt_neox", "GPTNeoX", NEOX | SEEN, PADDED, 4, select=states, **SLOW),
    *both("opt", "OPT", OPT | SEEN, PADDED, 3, select=states, **SLOW, reference=without_layerdrop),
    *both("llama", "Llama", LLAMA | SEEN, PADDED, 2, select=states, **SLOW),
    hf(
        "mistral",
        "Mistral",
        LLAMA | {"sliding_window": 2},
        NO_MASK,
        2,
        "sdpa",
        select="last_hidden_state",
        draws=300,
    ),
    hf("t5_encoder", "T5", T5 | SEEN | {"num_layers": 2}, PADDED, 10, None, "EncoderModel", select=states),
    hf("t5", "T5", T5 | SEEN, SEQ2SEQ, 14, None, select=states_of_both),
    *both("bart", "Bart", BART | SEEN, SEQ2SEQ, 12, select=states_of_both, reference=without_layerdrop),
    hf(
        "bart_language_model",
        "Bart",
        BART,
        PADDED_BOTH,
        12,
        "sdpa",
        "ForConditionalGeneration",
        reference=without_layerdrop,
    ),
    hf("xlnet", "XLNet", XLNET | SEEN, PADDED, 7, None, select=states),
    hf("funnel", "Funnel", FUNNEL, PADDED, 17, None, select="last_hidden_state", fold=1, draws=600),
]
