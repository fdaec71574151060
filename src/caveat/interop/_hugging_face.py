"""Classifiers of transformers with their tokenizer or image processor: text or pictures in, predictives out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, final

import torch
from torch import Tensor, nn

from caveat._checks import describe, require_integer, require_model
from caveat._engine import Sampler, predict
from caveat.errors import InvalidArgumentError, OutputMismatchError, explain
from caveat.interop._hugging_face_inputs import (
    Batch,
    check_padding,
    encoded_texts,
    padded_batches,
    right_padded,
    transformers_library,
)
from caveat.predictive import Categorical, Logits, concatenate
from caveat.samplers import mc_dropout

_AXES = {"sequence": 2, "token": 3}
_Kind = Literal["sequence", "token"]


@final
@dataclass(frozen=True, eq=False)
class HuggingFaceClassifier:
    """A model and what reads its inputs, as one function to a predictive; made by ``hugging_face_classifier``.

    Fields:
        sampler: Sampler of the model's functions, for what ``caveat`` does besides.
        labels: the C names of the classes, from ``model.config.id2label``.
        batches: from rows to what the model takes of them, a batch at a time.
    """

    sampler: Sampler[Categorical]
    labels: tuple[str, ...]
    batches: Callable[[Any], Iterator[Batch]]

    def __call__(
        self, X: Any, n: int | Literal["auto"] | None = None, *, seed: int = 0, **settings: Any
    ) -> Categorical:
        """Class probabilities of each row, (B, C).

        Args:
            X: B texts, or pairs of texts; B pictures; or a mapping of tensors as the model takes them.
            n: Number of draws, as for ``caveat.predict``.
            seed: Random seed of the draws.
            settings: the other arguments of ``caveat.predict``.

        Raises:
            InvalidArgumentError: no rows, or rows that the reader does not take.
            OutputMismatchError: the model has another head.
        """
        rows, preds = list[Tensor](), list[Categorical]()
        for batch in self.batches(X):
            preds.append(predict(self.sampler, batch.inputs, n, seed=seed, **settings))
            rows.append(batch.rows.to(preds[0].votes.device))
        return concatenate(preds, indices=rows)


@final
@dataclass(frozen=True, eq=False)
class HuggingFaceTokenClassifier:
    """A token classifier and its tokenizer, as one function; made by ``hugging_face_token_classifier``."""

    sampler: Sampler[Categorical]
    labels: tuple[str, ...]
    batches: Callable[[Any], Iterator[Batch]]

    def __call__(
        self, X: Any, n: int | Literal["auto"] | None = None, *, seed: int = 0, **settings: Any
    ) -> list[Categorical]:
        """Class probabilities of each token of each row: B predictives of (T, C), without the padding.

        Entry t is token t of ``tokenizer(text)``, its special tokens included. Arguments are those of
        ``HuggingFaceClassifier``; a mapping of tensors needs an ``attention_mask``, which says what is padding.
        """
        found: dict[int, Categorical] = {}
        for batch in self.batches(X):
            there = attention_mask_of(batch.inputs).bool()
            pred = predict(self.sampler, batch.inputs, n, seed=seed, **settings)
            for at, row in enumerate(map(int, batch.rows)):
                only = torch.zeros_like(there)
                only[at] = there[at]
                found[row] = pred.rows(only)
        return [found[row] for row in range(len(found))]


def hugging_face_classifier(
    model: nn.Module,
    reader: Any = None,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    **settings: Any,
) -> HuggingFaceClassifier:
    """Text or image classification with uncertainty, from a model of transformers and its tokenizer or processor.

    Dropout of embeddings, attention, feed-forward layers and adapters (PEFT, LoRA) draws; the model is not changed.
    Texts of like length are padded together, on the right; a row's draws do not depend on how far.

    Args:
        model: with a head for sequence or image classification, such as ``AutoModelForSequenceClassification``.
        reader: Its tokenizer, or its image processor; None for inputs that are tensors already.
        batch_size: rows in one pass.
        max_length: Number of tokens read of a text; the tokenizer's own limit if not given.
        settings: the arguments of ``caveat.mc_dropout``, such as ``live=``.

    Returns:
        A function: ``predict(["a sentence", ...], n=50, seed=0)`` is a ``Categorical`` (B, C); ``predict.labels`` are
        the names of the classes.

    Raises:
        MissingExtraError: transformers is not installed, or too old.
        InvalidArgumentError: not a model of transformers, one output or several labels per row, no padding token.

    Example:
        >>> from transformers import ViTConfig, ViTForImageClassification  # doctest: +SKIP
        >>> predict = hugging_face_classifier(ViTForImageClassification(ViTConfig()))  # doctest: +SKIP
        >>> predict(torch.randn(2, 3, 224, 224), n=20).mean.shape  # doctest: +SKIP
        torch.Size([2, 2])
    """
    return HuggingFaceClassifier(*_parts_of(model, reader, "sequence", batch_size, max_length, settings))


def hugging_face_token_classifier(
    model: nn.Module,
    reader: Any = None,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    **settings: Any,
) -> HuggingFaceTokenClassifier:
    """Token classification with uncertainty, from a model of transformers and its tokenizer.

    Arguments and errors are those of ``hugging_face_classifier``.

    Returns:
        A function: ``predict(["a sentence", ...], n=50, seed=0)`` is a list of B ``Categorical``, each (T, C) of the T
        tokens of its text, padding cut off.
    """
    return HuggingFaceTokenClassifier(*_parts_of(model, reader, "token", batch_size, max_length, settings))


def attention_mask_of(inputs: Mapping[str, Any]) -> Tensor:
    """The mask (B, T) that says which tokens are padding.

    Raises:
        InvalidArgumentError: there is none.
    """
    mask = inputs.get("attention_mask")
    if isinstance(mask, Tensor):
        return mask
    raise InvalidArgumentError(
        "It must be known which tokens are padding.",
        got=f"inputs {', '.join(inputs)}, without attention_mask",
        fix="pass attention_mask (B, T), 1 for a token and 0 for padding",
    )


def labels_of(model: nn.Module) -> tuple[str, ...]:
    """The names of a classifier's classes.

    Raises:
        InvalidArgumentError: not a model of transformers, or one that does not say one of several classes.
    """
    require_model(model)
    config: Any = getattr(model, "config", None)
    names: Any = getattr(config, "id2label", None)
    kind = getattr(config, "problem_type", None)
    if not isinstance(names, Mapping):
        raise InvalidArgumentError(
            "A classifier of transformers has a config with id2label.",
            got=type(model).__name__,
            cause="a network of another library",
            fix="caveat.mc_dropout(model, output=caveat.Logits())",
        )
    classes = dict(cast("Mapping[int, str]", names))
    if len(classes) < 2 or kind not in (None, "single_label_classification"):
        raise InvalidArgumentError(
            "The model must choose one of at least two classes.",
            got=f"{type(model).__name__} with {len(classes)} labels, problem_type={kind!r}",
            cause="a regression, or several labels per row",
            fix="caveat.mc_dropout(model, output=caveat.Mean()), or caveat.BinaryLogit() for several labels",
        )
    return tuple(str(name) for _, name in sorted(classes.items()))


def logits_of(classes: int, kind: _Kind | None = None) -> Callable[[Any], Tensor]:
    """Reads (B, C) or (B, T, C) scores of ``classes`` classes from what a model returned, of one kind or of either."""
    axes = tuple(_AXES.values()) if kind is None else (_AXES[kind],)

    def read(returned: Any) -> Tensor:
        logits = getattr(returned, "logits", None)
        if isinstance(logits, Tensor) and logits.ndim in axes and logits.shape[-1] == classes:
            return logits
        raise OutputMismatchError(_wrong_head(returned, logits, classes, kind or "sequence"))

    return read


def _parts_of(
    model: nn.Module, reader: Any, kind: _Kind, batch_size: int, max_length: int | None, settings: dict[str, Any]
) -> tuple[Sampler[Categorical], tuple[str, ...], Callable[[Any], Iterator[Batch]]]:
    """The fields of a classifier."""
    library = transformers_library()
    require_integer(batch_size, "batch_size", 1)
    require_integer(max_length, "max_length", 1, optional=True)
    labels = labels_of(model)
    if isinstance(reader, library.PreTrainedTokenizerBase):
        check_padding(reader, cast(Any, model).config)
    elif reader is not None and not callable(reader):
        raise InvalidArgumentError(
            "The reader must be a tokenizer or an image processor of transformers, or None.",
            got=describe(reader),
            cause="the name of one, or the rows themselves",
            fix="hugging_face_classifier(model, AutoTokenizer.from_pretrained(name)), then predict(rows)",
        )
    sampler = mc_dropout(model, output=Logits(select=logits_of(len(labels), kind)), **settings)
    return sampler, labels, partial(_batches, model, reader, batch_size, max_length)


def _batches(model: Any, reader: Any, batch_size: int, max_length: int | None, X: Any) -> Iterator[Batch]:
    if isinstance(X, Mapping):
        given = dict(cast("Mapping[str, Any]", X))
        if not given:
            raise InvalidArgumentError(
                "The rows must hold a tensor.", got=describe(given), fix="a mapping of tensors as the model takes them"
            )
        inputs = right_padded(given)
        yield Batch(torch.arange(len(next(iter(inputs.values())))), inputs)
    elif reader is None:
        if not isinstance(X, Tensor):
            raise InvalidArgumentError(
                "Without a tokenizer or processor the rows must be tensors.",
                got=describe(X),
                fix="hugging_face_classifier(model, tokenizer), or a mapping of tensors as the model takes them",
            )
        yield Batch(torch.arange(len(X)), {model.main_input_name: X})
    elif isinstance(reader, transformers_library().PreTrainedTokenizerBase):
        yield from padded_batches(reader, encoded_texts(reader, X, max_length), batch_size, model.config)
    else:
        yield from _picture_batches(reader, X, batch_size)


def _picture_batches(processor: Any, X: Any, batch_size: int) -> Iterator[Batch]:
    pictures = cast("Sequence[Any]", X)
    if not isinstance(X, Sequence) or isinstance(X, str) or not pictures:
        raise InvalidArgumentError(
            "The rows must be a list of pictures.",
            got=describe(pictures),
            cause="one picture that is not in a list",
            fix="predict([picture])",
        )
    for start in range(0, len(pictures), batch_size):
        some = list(pictures[start : start + batch_size])
        yield Batch(torch.arange(start, start + len(some)), dict(processor(images=some, return_tensors="pt")))


def _wrong_head(returned: Any, logits: Any, classes: int, kind: _Kind) -> str:
    name = {"sequence": "hugging_face_classifier", "token": "hugging_face_token_classifier"}[kind]
    other = {2: "hugging_face_classifier", 3: "hugging_face_token_classifier"}
    seen = f"logits of {describe(logits)}" if isinstance(logits, Tensor) else "no logits"
    fits = isinstance(logits, Tensor) and logits.shape[-1] == classes and logits.ndim in other
    head = {"sequence": "AutoModelForSequenceClassification", "token": "AutoModelForTokenClassification"}[kind]
    fix = f"{other[cast(Tensor, logits).ndim]}(model, ...)" if fits else f"load the model with {head}"
    return explain(
        f"{name} reads logits of {_AXES[kind]} axes with the {classes} classes of id2label last.",
        got=f"a {type(returned).__name__} with {seen}",
        cause="a model with another head, or with none",
        fix=fix,
    )
