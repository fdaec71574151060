"""A Hugging Face text classifier: its own dropout, attention's too, is all the randomness it needs.

The model is tiny and its weights are random, so that nothing is downloaded; put your own in its place.
Run: python examples/hugging_face_text.py    (needs transformers: pip install "caveat[zoo]")
"""

from __future__ import annotations

import torch
from transformers import BertConfig, BertForSequenceClassification

import caveat


def tiny_bert() -> BertForSequenceClassification:
    """Two layers, 32 wide, three classes, with the usual dropout of 0.1."""
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=3,
        initializer_range=0.3,  # larger than usual, so that random weights have something to say
    )
    return BertForSequenceClassification(config).eval()


def main() -> None:
    torch.manual_seed(0)
    model = tiny_bert()
    tokens = torch.randint(0, 100, (4, 12))
    x = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    print(caveat.audit(model, x))  # every place that draws: embeddings, attention, feed-forward, classifier

    sampler = caveat.mc_dropout(model, output=caveat.Logits())  # reads `.logits` of what the model returns
    pred = caveat.predict(sampler, x, n=50, seed=0)

    parts = caveat.decompose(pred)
    print("\nsentence  class  total  aleatoric  epistemic   (entropies in nats)")
    for row in range(4):
        answer = int(pred.mean[row].argmax())
        in_all, noise, model_s = (parts[part][row].item() for part in ("total", "aleatoric", "epistemic"))
        print(f"{row:8d}  {answer:5d}  {in_all:5.3f}  {noise:9.3f}  {model_s:9.3f}")


if __name__ == "__main__":
    main()
