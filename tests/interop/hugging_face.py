"""Tiny models of transformers with random weights, and the truth about them: torch's own dropout, pass after pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WORDS = [
    "the", "a", "red", "blue", "cat", "dog", "sat", "ran", "on",
    "under", "mat", "tree", "and", "then", "it", "was", "very", "happy",
]  # fmt: skip
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "the red cat sat on the mat and then it was very happy",
    "a dog ran",
    "the blue dog sat under a tree",
    "cat",
    "it was the cat and the dog and the tree",
]
LABELS = {0: "good", 1: "bad", 2: "ugly"}
_AT_ONCE = 50
SIZE: dict[str, Any] = {
    "vocab_size": len(WORDS) + len(SPECIAL),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "id2label": LABELS,
    "pad_token_id": 0,
}


def tokenizer(**settings: Any) -> Any:
    """A tokenizer of whole words, made here."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: at for at, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names: dict[str, Any] = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    names["model_input_names"] = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, **{**names, **settings})


def made(cls: Any, config: Any) -> Any:
    """A model with the same random weights each time, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(config).eval()


def brute_force(model: nn.Module, read: Callable[[Any], Tensor], n: int, **inputs: Tensor) -> Tensor:
    """``read`` of n passes of a twin in train mode, whose dropout is all that this changes: (n, B, ...).

    Torch's dropout draws anew for each row, so the passes of a batch are so many rows of one pass.
    """
    twin = copy.deepcopy(model).train()
    many = {name: value.repeat(_AT_ONCE, *[1] * (value.ndim - 1)) for name, value in inputs.items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        passes = [read(twin(**many)).unflatten(0, (_AT_ONCE, -1)) for _ in range(-(-n // _AT_ONCE))]
    return torch.cat(passes)


def same_law(ours: Tensor, theirs: Tensor, sigmas: float = 5.0) -> None:
    """Two sets of draws (S, ...) agree in mean and standard deviation within Monte-Carlo error."""
    for moment in (1, 2):
        a, b = ours.double(), theirs.double()
        if moment == 2:
            a, b = (a - a.mean(0)).square(), (b - b.mean(0)).square()
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        far = ((a.mean(0) - b.mean(0)).abs() / error.clamp(min=1e-12)).max()
        assert far < sigmas, f"moment {moment}: {far:.1f} standard errors apart"
