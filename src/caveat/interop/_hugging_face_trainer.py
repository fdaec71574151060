"""Predictives from a ``transformers.Trainer``, and their calibration in its log at each evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from caveat._checks import describe, require_integer
from caveat._engine import predict
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError
from caveat.interop._hugging_face import attention_mask_of, labels_of, logits_of
from caveat.interop._hugging_face_inputs import right_padded, transformers_library
from caveat.measures import mutual_information
from caveat.metrics import expected_calibration_error, negative_log_likelihood
from caveat.predictive import Categorical, Logits, concatenate
from caveat.samplers import mc_dropout

_NO_LABEL = -100  # what collators put where there is none, and losses leave out


def predict_with_trainer(
    trainer: Any, dataset: Any, n: int | None = None, *, seed: int = 0, **settings: Any
) -> tuple[Categorical, Tensor | None]:
    """Class probabilities and labels of a dataset, with the trainer's model, data collator and batch size.

    ``Trainer.predict`` switches dropout off, also where a callback has called ``model.train()``. Here rows are in the
    dataset's order, also with ``group_by_length``, and in every process all of them.

    Args:
        trainer: Trainer of a model that classifies sequences, images or tokens.
        dataset: what ``Trainer.predict`` takes.
        n: Number of draws.
        seed: Random seed of the draws.
        settings: the arguments of ``caveat.mc_dropout``, such as ``live=``.

    Returns:
        A predictive (B, C) and its labels (B,), None where the dataset has none. Of a model that labels tokens the
        rows are all tokens that have a label (not -100), or, without labels, all that are not padding.

    Raises:
        MissingExtraError: transformers is not installed, or too old.
        InvalidArgumentError: not a trainer, a dataset without rows, a model that does not choose one class, or tokens
            of which neither labels nor an attention mask say which are padding.
        OutputMismatchError: the model has another head.
    """
    if not isinstance(trainer, transformers_library().Trainer):
        raise InvalidArgumentError(
            "trainer must be a transformers.Trainer.",
            got=describe(trainer),
            cause="the model, or a trainer of another library",
            fix="predict_with_trainer(trainer, dataset), or hugging_face_classifier(model, tokenizer)",
        )
    model = trainer.model
    sampler = mc_dropout(model, output=Logits(select=logits_of(len(labels_of(model)))), **settings)
    preds, labels = list[Categorical](), list[Tensor]()
    for inputs, given in _batches(trainer, dataset):
        pred = predict(sampler, inputs, n, seed=seed)
        if pred.mean.ndim == 3:  # a label for each token
            where = attention_mask_of(inputs).bool() if given is None else given != _NO_LABEL
            pred, given = pred.rows(where), None if given is None else given[where]
        preds.append(pred)
        labels += [] if given is None else [given.to(pred.votes.device)]
    if not preds:
        raise InvalidArgumentError(
            "The dataset must have at least one row.", got="none", fix="look at len(dataset) before"
        )
    return concatenate(preds), torch.cat(labels) if labels else None


def hugging_face_calibration(trainer: Any, *, n: int = 50, seed: int = 0, bins: int = 15, **settings: Any) -> Any:
    """Adds a ``TrainerCallback`` to the trainer that logs the calibration of the mean of draws at each evaluation.

    Logged beside the trainer's own, and part of what ``trainer.evaluate()`` returns, so that
    ``metric_for_best_model`` takes them: ``eval_expected_calibration_error`` of the mean probabilities, 0 to 1;
    ``eval_negative_log_likelihood``, in nats; ``eval_mutual_information``, the mean over rows, in nats. Training goes
    on bit for bit as without the callback.

    Args:
        trainer: Trainer of a model that classifies sequences, images or tokens, with a labeled dataset to evaluate on.
        n: Number of draws.
        seed: Random seed of the draws, the same at each evaluation.
        bins: Number of bins of the calibration error.
        settings: the arguments of ``caveat.mc_dropout``.

    Returns:
        The callback, for ``trainer.remove_callback``.

    Raises:
        MissingExtraError: transformers is not installed, or too old.
        InvalidArgumentError: a model that does not choose one class, n or bins below one; while evaluating, a dataset
            without labels.
        OutputMismatchError: while evaluating, the model has another head.
    """
    base = transformers_library().TrainerCallback
    require_integer(n, "n", 1)
    require_integer(bins, "bins", 1)
    check_seed(seed)
    labels_of(trainer.model)

    def on_evaluate(_: Any, args: Any, state: Any, control: Any, metrics: dict[str, float], **others: Any) -> None:
        dataset = others["eval_dataloader"].dataset
        pred, labels = predict_with_trainer(trainer, dataset, n, seed=seed, **settings)
        if labels is None:
            raise InvalidArgumentError(
                "Calibration is measured on rows with labels.",
                got=f"an evaluation dataset without {' or '.join(trainer.label_names)}",
                fix="add the labels, or trainer.remove_callback(callback)",
            )
        prefix = next(name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime"))
        found = {
            f"{prefix}_expected_calibration_error": float(expected_calibration_error(pred.mean, labels, bins=bins)),
            f"{prefix}_negative_log_likelihood": float(negative_log_likelihood(pred.mean, labels)),
            f"{prefix}_mutual_information": float(mutual_information(pred).mean()),
        }
        metrics.update(found)
        trainer.log(found)

    callback = type("CalibrationCallback", (base,), {"on_evaluate": on_evaluate})()
    trainer.add_callback(callback)
    return callback


def _batches(trainer: Any, dataset: Any) -> Iterator[tuple[dict[str, Any], Tensor | None]]:
    """Batches as the trainer's collator makes them, in order, their padding on the right; and their labels."""
    made = trainer.get_test_dataloader(dataset)
    names = set(trainer.label_names)
    apart = torch.Generator()  # a loader takes a number of the process's own, which training would miss
    size = trainer.args.eval_batch_size
    for batch in DataLoader(made.dataset, batch_size=size, collate_fn=made.collate_fn, generator=apart):
        inputs = right_padded(dict(cast("Mapping[str, Any]", batch)))
        given = [inputs.pop(name) for name in list(inputs) if name in names]
        yield inputs, given[0] if given else None
