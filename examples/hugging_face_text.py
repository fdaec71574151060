"""A Hugging Face text classifier: its own dropout, attention's too, is all the randomness it needs.

The model is tiny and its weights are random, so that nothing is downloaded; put your own in its place.
Run: python examples/hugging_face_text.py    (needs transformers: pip install ".[encoders]")
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import caveat

TEXTS = ["the food was cold", "good food and good service", "nobody came and the service was slow", "food"]
LABELS = {0: "complaint", 1: "praise", 2: "neither"}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, those of the texts."""
    words = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")


def tiny_bert(words: int) -> BertForSequenceClassification:
    """Two layers, 32 wide, with the usual dropout of 0.1; larger weights than usual, which have something to say."""
    config = BertConfig(
        vocab_size=words,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        id2label=LABELS,
        initializer_range=0.3,
    )
    return BertForSequenceClassification(config)


def main() -> None:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer))
    print(caveat.audit(model, dict(tokenizer(TEXTS[:1], return_tensors="pt"))))  # every place that draws

    predict = caveat.interop.hugging_face_classifier(model, tokenizer)
    pred = predict(TEXTS, n=50, seed=0)

    parts = caveat.decompose(pred)
    print("\ntotal  aleatoric  epistemic   (entropies in nats)")
    for row, text in enumerate(TEXTS):
        total, noise, doubt = (parts[part][row].item() for part in ("total", "aleatoric", "epistemic"))
        print(f"{total:5.3f}  {noise:9.3f}  {doubt:9.3f}   {predict.labels[int(pred.predicted[row])]:9}  {text}")


if __name__ == "__main__":
    main()
