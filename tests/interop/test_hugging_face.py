"""Classifiers of transformers with their tokenizers: the law of torch's own dropout, and rows that know no padding."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
import transformers

import caveat
from caveat.errors import InvalidArgumentError, MissingExtraError, NothingRandomError, OutputMismatchError
from caveat.interop import hugging_face_classifier, hugging_face_token_classifier

from .hugging_face import LABELS, SIZE, TEXTS, WORDS, brute_force, made, same_law, tokenizer

pytestmark = pytest.mark.heavy
N = 1500


def bert(head: str = "SequenceClassification", **settings: Any) -> Any:
    return made(getattr(transformers, f"BertFor{head}"), transformers.BertConfig(**{**SIZE, **settings}))


def gpt2(**settings: Any) -> Any:
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": SIZE["vocab_size"], "n_positions": 64}
    more = {"id2label": LABELS, "initializer_range": 0.3, "pad_token_id": 0}
    return made(transformers.GPT2ForSequenceClassification, transformers.GPT2Config(**{**size, **more, **settings}))


def vit() -> Any:
    size = {**SIZE, "image_size": 16, "patch_size": 8, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    return made(transformers.ViTForImageClassification, transformers.ViTConfig(**size))


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# -- the law -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bert, gpt2], ids=["bert", "gpt2"])
def test_texts_have_the_law_of_torchs_own_dropout(make: Any) -> None:
    model, reader = make(), tokenizer()
    before, modes = state(model), [part.training for part in model.modules()]
    pred = hugging_face_classifier(model, reader)(TEXTS, n=N, seed=0, keep=True)
    assert pred.mean.shape == (len(TEXTS), 3)
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert modes == [part.training for part in model.modules()]
    for row, text in enumerate(TEXTS[:3]):
        inputs = dict(reader(text, return_tensors="pt"))
        theirs = brute_force(model, lambda out: out.logits.softmax(-1), N, **inputs)[:, 0]
        same_law(pred.draws[:, row], theirs)


def test_tokens_have_the_law_of_torchs_own_dropout() -> None:
    model, reader = bert("TokenClassification"), tokenizer()
    preds = hugging_face_token_classifier(model, reader)(TEXTS, n=N, seed=0, keep=True)
    assert [len(pred.mean) for pred in preds] == [len(ids) for ids in reader(TEXTS)["input_ids"]]
    inputs = dict(reader(TEXTS[2], return_tensors="pt"))
    same_law(preds[2].draws, brute_force(model, lambda out: out.logits.softmax(-1), N, **inputs)[:, 0])


def test_pictures_have_the_law_of_torchs_own_dropout() -> None:
    model = vit()
    pictures = [np.random.default_rng(k).integers(0, 255, (20, 18, 3), dtype=np.uint8) for k in range(3)]
    reader = transformers.ViTImageProcessor(size={"height": 16, "width": 16})
    pred = hugging_face_classifier(model, reader, batch_size=2)(pictures, n=N, seed=0, keep=True)
    x = reader(images=pictures, return_tensors="pt")["pixel_values"]
    theirs = brute_force(model, lambda out: out.logits.softmax(-1), N, pixel_values=x)
    same_law(pred.draws, theirs)
    tensors = hugging_face_classifier(model)(x, n=N, seed=0, keep=True)
    torch.testing.assert_close(tensors.draws, pred.draws, rtol=1e-4, atol=1e-5)


# -- padding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("make", [bert, gpt2], ids=["bert", "gpt2"])
def test_a_rows_draws_do_not_depend_on_padding(make: Any, side: str) -> None:
    model, reader = make(), tokenizer(padding_side=side)
    together = hugging_face_classifier(model, reader)(TEXTS, n=8, keep=True)
    for batch_size in (1, 2):
        pred = hugging_face_classifier(model, reader, batch_size=batch_size)(TEXTS, n=8, keep=True)
        torch.testing.assert_close(pred.draws, together.draws, rtol=1e-4, atol=1e-5)
    alone = hugging_face_classifier(model, reader)([TEXTS[1]], n=8, keep=True)
    torch.testing.assert_close(alone.draws[:, 0], together.draws[:, 1], rtol=1e-4, atol=1e-5)
    batch = reader(TEXTS, padding="max_length", max_length=40, return_tensors="pt")
    padded = hugging_face_classifier(model)(batch, n=8, keep=True)
    torch.testing.assert_close(padded.draws, together.draws, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_tokens_draws_do_not_depend_on_padding(side: str) -> None:
    model, reader = bert("TokenClassification"), tokenizer(padding_side=side)
    together = hugging_face_token_classifier(model, reader)(TEXTS, n=8, keep=True)
    alone = hugging_face_token_classifier(model, reader)([TEXTS[3]], n=8, keep=True)[0]
    torch.testing.assert_close(alone.draws, together[3].draws, rtol=1e-4, atol=1e-5)
    batch = reader(TEXTS, padding="max_length", max_length=40, return_tensors="pt")
    padded = hugging_face_token_classifier(model)(batch, n=8, keep=True)
    for one, other in zip(padded, together, strict=True):
        torch.testing.assert_close(one.draws, other.draws, rtol=1e-4, atol=1e-5)


def test_texts_are_padded_with_texts_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert()
    shapes: list[tuple[int, ...]] = []
    forward = type(model).forward

    def seen(self: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", seen)
    hugging_face_classifier(model, tokenizer(), batch_size=2)(TEXTS, n=4)
    assert {shape[1] for shape in shapes} == {8, 16}  # 3 and 5 tokens together; 9, 12 and 15 in others


def test_draws_stop_row_by_row_for_tokens() -> None:
    reader = tokenizer()
    predict = hugging_face_token_classifier(bert("TokenClassification"), reader)
    preds = predict(TEXTS, n="auto", tolerance=0.018, min_draws=8, max_draws=2000)
    assert all(pred.mean.shape == (len(ids), 3) for pred, ids in zip(preds, reader(TEXTS)["input_ids"], strict=True))
    assert {tuple(pred.count.shape) for pred in preds} == {(len(pred.mean),) for pred in preds}
    assert len({int(pred.count.max()) for pred in preds}) > 1
    assert all(int(pred.count.min()) >= 8 and int(pred.count.max()) <= 2000 for pred in preds)
    assert all(caveat.mutual_information(pred).shape == (len(pred.mean),) for pred in preds)


def test_pairs_and_long_texts_are_read_as_the_tokenizer_reads_them() -> None:
    model, reader = bert(), tokenizer()
    pairs = [("the cat", "a red dog ran"), ("dog", "cat")]
    pred = hugging_face_classifier(model, reader)(pairs, n=8, keep=True)
    batch = reader([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    given = hugging_face_classifier(model)(batch, n=8, keep=True)
    torch.testing.assert_close(pred.draws, given.draws, rtol=1e-4, atol=1e-5)
    cut = hugging_face_classifier(model, reader, max_length=5)([TEXTS[0]], n=4)
    short = reader([TEXTS[0]], truncation=True, max_length=5, return_tensors="pt")
    torch.testing.assert_close(cut.mean, hugging_face_classifier(model)(short, n=4).mean, rtol=1e-4, atol=1e-5)


def test_labels_are_those_of_the_model() -> None:
    predict = hugging_face_classifier(bert(), tokenizer())
    assert predict.labels == ("good", "bad", "ugly")
    pred = predict(TEXTS, n=4)
    assert predict.labels[int(pred.predicted[0])] == LABELS[int(pred.mean[0].argmax())]


# -- adapters ----------------------------------------------------------------------------------------------------------


def with_lora(model: Any, kind: str = "SEQ_CLS", rate: float = 0.4) -> Any:
    peft = pytest.importorskip("peft")
    where = ["query", "value"]
    config = peft.LoraConfig(task_type=kind, r=4, lora_alpha=16, lora_dropout=rate, target_modules=where)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adapted = peft.get_peft_model(model, config)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    return adapted.eval()


def test_the_dropout_of_adapters_draws_alone_and_leaves_them_as_they_are() -> None:
    calm = bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model, reader = with_lora(calm), tokenizer()
    before = state(model)
    pred = hugging_face_classifier(model, reader)(TEXTS[:2], n=N, keep=True)
    sites = [site.path for site in caveat.audit(model, dict(reader(TEXTS[:1], return_tensors="pt"))).sites if site.live]
    assert len(sites) == 4
    assert all("lora_dropout" in path for path in sites)
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.active_adapters == ["default"]
    for row in range(2):
        inputs = dict(reader(TEXTS[row], return_tensors="pt"))
        same_law(pred.draws[:, row], brute_force(model, lambda out: out.logits.softmax(-1), N, **inputs)[:, 0])


def test_adapters_draw_with_the_models_own_dropout() -> None:
    model, reader = with_lora(bert("TokenClassification"), "TOKEN_CLS"), tokenizer()
    preds = hugging_face_token_classifier(model, reader)(TEXTS[2:3], n=N, keep=True)
    inputs = dict(reader(TEXTS[2], return_tensors="pt"))
    same_law(preds[0].draws, brute_force(model, lambda out: out.logits.softmax(-1), N, **inputs)[:, 0])


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_missing_library_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[encoders\]"'):
        hugging_face_classifier(model)


def test_an_old_library_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bert()
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "4.38.2")
    with pytest.raises(MissingExtraError, match=r"Got: transformers 4\.38\.2"):
        hugging_face_classifier(model)


def test_a_model_without_dropout_says_so() -> None:
    model = bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with pytest.raises(NothingRandomError):
        hugging_face_classifier(model, tokenizer())(TEXTS, n=4)


def test_a_tokenizer_without_a_padding_token_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"pad_token = tokenizer\.eos_token"):
        hugging_face_classifier(gpt2(), tokenizer(pad_token=None))
    with pytest.raises(InvalidArgumentError, match=r"model\.config\.pad_token_id = tokenizer\.pad_token_id"):
        hugging_face_classifier(gpt2(pad_token_id=None), tokenizer())


@pytest.mark.parametrize(
    ("head", "classify", "fix"),
    [
        ("MaskedLM", hugging_face_classifier, "AutoModelForSequenceClassification"),
        ("QuestionAnswering", hugging_face_classifier, "AutoModelForSequenceClassification"),
        ("TokenClassification", hugging_face_classifier, "hugging_face_token_classifier"),
        ("SequenceClassification", hugging_face_token_classifier, r"hugging_face_classifier\("),
        ("MaskedLM", hugging_face_token_classifier, "AutoModelForTokenClassification"),
    ],
)
def test_another_head_is_refused(head: str, classify: Any, fix: str) -> None:
    with pytest.raises(OutputMismatchError, match=f"Fix: .*{fix}"):
        classify(bert(head, id2label={0: "no", 1: "yes"}), tokenizer())(TEXTS, n=4)


def test_what_is_no_classifier_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="id2label"):
        hugging_face_classifier(torch.nn.Linear(2, 2))
    with pytest.raises(InvalidArgumentError, match=r"torch\.nn\.Module"):
        hugging_face_classifier("bert-base-cased")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"caveat\.Mean\(\)"):
        hugging_face_classifier(bert(id2label={0: "score"}))
    with pytest.raises(InvalidArgumentError, match=r"caveat\.BinaryLogit\(\)"):
        hugging_face_classifier(bert(problem_type="multi_label_classification"))
    with pytest.raises(InvalidArgumentError, match="reader"):
        hugging_face_classifier(bert(), "bert-base-cased")


@pytest.mark.parametrize("rows", ["a text", [], ["a", None], [("a", "b", "c")], ["a", ("a", "b")], 3])
def test_rows_that_are_no_texts_are_refused(rows: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="texts"):
        hugging_face_classifier(bert(), tokenizer())(rows, n=4)


def test_rows_that_are_no_tensors_are_refused_without_a_reader() -> None:
    with pytest.raises(InvalidArgumentError, match="must hold a tensor"):
        hugging_face_classifier(bert())({}, 2)
    with pytest.raises(InvalidArgumentError, match="must be tensors"):
        hugging_face_classifier(bert())(TEXTS, n=4)
    ids = torch.randint(5, len(WORDS), (2, 4))
    with pytest.raises(InvalidArgumentError, match="attention_mask"):
        hugging_face_token_classifier(bert("TokenClassification"))({"input_ids": ids}, n=4)
    with pytest.raises(InvalidArgumentError, match="list of pictures"):
        hugging_face_classifier(vit(), transformers.ViTImageProcessor())(np.zeros((4, 4, 3)), n=4)


def test_a_copy_of_the_tokenizer_is_not_changed() -> None:
    reader = tokenizer(padding_side="left")
    before = copy.deepcopy(reader.__dict__.get("deprecation_warnings")), reader.padding_side
    hugging_face_classifier(bert(), reader)(TEXTS, n=4)
    assert (reader.__dict__.get("deprecation_warnings"), reader.padding_side) == before

