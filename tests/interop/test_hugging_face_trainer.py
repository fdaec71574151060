"""A trainer's model draws on the trainer's own batches, and its log holds the calibration of what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
import transformers

import caveat
from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.interop import (
    hugging_face_calibration,
    hugging_face_classifier,
    hugging_face_token_classifier,
    predict_with_trainer,
)
from caveat.metrics import expected_calibration_error, negative_log_likelihood

from .hugging_face import SIZE, TEXTS, made, tokenizer

pytestmark = pytest.mark.heavy
ROWS = TEXTS * 3
LABELS = [k % 3 for k in range(len(ROWS))]


def trainer(folder: Path, head: str = "SequenceClassification", collator: Any = None, **settings: Any) -> Any:
    reader = tokenizer()
    model = made(getattr(transformers, f"BertFor{head}"), transformers.BertConfig(**SIZE))
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "per_device_eval_batch_size": 4}
    arguments = transformers.TrainingArguments(output_dir=str(folder), **{**quiet, **settings})
    collator = collator or transformers.DataCollatorWithPadding(reader)
    rows = sentences()
    data = {"data_collator": collator, "train_dataset": rows, "eval_dataset": rows, "processing_class": reader}
    return transformers.Trainer(model=model, args=arguments, **data)


def sentences(labels: bool = True) -> list[dict[str, Any]]:
    rows = [dict(tokenizer()(text)) for text in ROWS]
    return [{**row, "label": label} for row, label in zip(rows, LABELS, strict=True)] if labels else rows


def tagged() -> list[dict[str, Any]]:
    """Rows whose special tokens have no label."""
    rows = [dict(tokenizer()(text)) for text in TEXTS]
    for row in rows:
        row["labels"] = [-100, *(token % 3 for token in row["input_ids"][1:-1]), -100]
    return rows


@pytest.mark.parametrize("by_length", [False, True])
def test_a_dataset_is_predicted_in_its_order(tmp_path: Path, by_length: bool) -> None:
    run = trainer(tmp_path, group_by_length=by_length)
    pred, labels = predict_with_trainer(run, sentences(), n=8, seed=3)
    assert labels is not None
    assert labels.tolist() == LABELS
    wanted = hugging_face_classifier(run.model, tokenizer())(ROWS, n=8, seed=3)
    torch.testing.assert_close(pred.mean, wanted.mean, rtol=1e-4, atol=1e-5)
    assert not run.model.training


def test_a_dataset_without_labels_has_none(tmp_path: Path) -> None:
    pred, labels = predict_with_trainer(trainer(tmp_path), sentences(labels=False), n=4)
    assert labels is None
    assert pred.mean.shape == (len(ROWS), 3)


def test_tokens_with_a_label_are_the_rows(tmp_path: Path) -> None:
    reader = tokenizer(padding_side="left")
    collator = transformers.DataCollatorForTokenClassification(reader)
    run = trainer(tmp_path, "TokenClassification", collator)
    pred, labels = predict_with_trainer(run, tagged(), n=8)
    assert labels is not None
    assert labels.tolist() == [token % 3 for text in TEXTS for token in reader(text)["input_ids"][1:-1]]
    preds = hugging_face_token_classifier(run.model, reader)(TEXTS, n=8)
    wanted = torch.cat([one.mean[1:-1] for one in preds])
    torch.testing.assert_close(pred.mean, wanted, rtol=1e-4, atol=1e-5)


def test_a_tagger_is_known_by_its_logits_and_not_by_its_name(tmp_path: Path) -> None:
    class Tagger(transformers.BertForTokenClassification):
        """A class of one's own."""

    reader = tokenizer()
    run = trainer(tmp_path, "TokenClassification", transformers.DataCollatorForTokenClassification(reader))
    wanted, _ = predict_with_trainer(run, tagged(), n=4)
    run.model.__class__ = Tagger
    pred, labels = predict_with_trainer(run, tagged(), n=4)
    assert labels is not None
    assert pred.mean.shape == (len(labels), 3)
    torch.testing.assert_close(pred.mean, wanted.mean)


def test_each_evaluation_logs_the_calibration(tmp_path: Path) -> None:
    run = trainer(tmp_path, eval_strategy="epoch", num_train_epochs=2, save_strategy="no", logging_strategy="no")
    callback = hugging_face_calibration(run, n=8, seed=1)
    run.train()
    logged = [entry for entry in run.state.log_history if "eval_expected_calibration_error" in entry]
    assert [entry["epoch"] for entry in logged] == [1.0, 2.0]
    metrics = run.evaluate()
    pred, labels = predict_with_trainer(run, run.eval_dataset, n=8, seed=1)
    assert labels is not None
    wanted = {
        "eval_expected_calibration_error": expected_calibration_error(pred.mean, labels),
        "eval_negative_log_likelihood": negative_log_likelihood(pred.mean, labels),
        "eval_mutual_information": caveat.mutual_information(pred).mean(),
    }
    assert {name: metrics[name] for name in wanted} == pytest.approx(
        {name: float(value) for name, value in wanted.items()}, abs=1e-6
    )
    assert metrics["eval_negative_log_likelihood"] == logged[-1]["eval_negative_log_likelihood"]  # the same weights
    run.remove_callback(callback)
    assert "eval_expected_calibration_error" not in run.evaluate()


def test_each_of_several_datasets_has_its_own_names(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    hugging_face_calibration(run, n=4)
    metrics = run.evaluate({"near": sentences()[:4], "far": sentences()[4:8]})
    assert {"eval_near_negative_log_likelihood", "eval_far_negative_log_likelihood"} <= set(metrics)


def test_a_trainers_digits_are_those_of_a_run_without_the_callback(tmp_path: Path) -> None:
    weights = []
    for logged in (False, True):
        run = trainer(tmp_path, eval_strategy="steps", eval_steps=1, max_steps=3, save_strategy="no")
        if logged:
            hugging_face_calibration(run, n=4)
        run.train()
        weights.append({name: value.clone() for name, value in run.model.state_dict().items()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_bad_calls_are_named(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"transformers\.Trainer"):
        predict_with_trainer(run.model, sentences(), n=4)
    with pytest.raises(InvalidArgumentError, match="at least one row"):
        predict_with_trainer(run, [], n=4)
    with pytest.raises(InvalidArgumentError, match="n must be"):
        hugging_face_calibration(run, n=0)
    hugging_face_calibration(run, n=4)
    run.eval_dataset = sentences(labels=False)
    with pytest.raises(InvalidArgumentError, match="rows with labels"):
        run.evaluate()
    tagger = trainer(tmp_path, "TokenClassification", lambda rows: {"input_ids": torch.tensor(rows)})
    with pytest.raises(InvalidArgumentError, match="attention_mask"):
        predict_with_trainer(tagger, [[5, 6, 7], [7, 6, 5]], n=4)
    other = trainer(tmp_path, "MaskedLM")
    with pytest.raises(OutputMismatchError, match="AutoModelForSequenceClassification"):
        predict_with_trainer(other, sentences(labels=False), n=4)
