"""What both estimators of sentences share: how X is opened, and an encoder that is saved with them or apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from caveat._estimators import Estimator, load_model, save_model, validation
from caveat.text._kind import KIND, encoder_files
from caveat.text._reader import Sentences
from caveat.text._sentences import as_sentences


@dataclass(kw_only=True, eq=False, repr=False)
class SentenceEstimator(Estimator):
    """An estimator of B sentences X: a list, an array or a series of strings."""

    kind = KIND

    encoder: str | Path | None = None
    fine_tune: bool = False
    pooling: str = "mean"
    local_files_only: bool = False
    method: str | None = None
    members: int = 5
    draws: int = 100
    max_length: int | None = None
    vocabulary: int = 20_000
    width: int | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    validation: float | None = None
    calibration: float = 0.15
    random_state: int = 0
    verbose: bool = False
    device: str | None = None

    def open_rows(self, X: Any, *, training: bool) -> tuple[list[str], int]:
        """Returns the sentences, and the number of them.

        Raises:
            InvalidTextError: A row that is no sentence; the message names it.
        """
        sentences = as_sentences(X)
        return sentences, len(sentences)

    def training_rows(self, opened: list[str], chosen: Any) -> Sentences:
        """Returns some of the sentences to train on."""
        return Sentences(opened).take(chosen)

    def save(self, folder: str | Path, *, with_encoder: bool = False) -> None:
        """Writes the model as a folder: weights, ``caveat.json`` and a model card; no pickle.

        Args:
            folder: New folder, or one that holds a model.
            with_encoder: Whether to write a frozen encoder into it too; if not, its path or name is noted with a
                fingerprint of its weights. A fine-tuned one is always within.
        """
        validation.check_is_fitted(self, "model_")
        model, more = encoder_files(self.model_, with_encoder)
        save_model(model, folder, more=more)

    @classmethod
    def load(cls, folder: str | Path, *, encoder: str | Path | None = None) -> Self:
        """Returns the estimator of a folder that ``save`` wrote.

        Args:
            folder: Folder that was given to ``save``.
            encoder: Place of the frozen encoder now, if it was moved.

        Raises:
            InvalidModelError: No such model, or one that was changed, cut short, or made by a newer version; or another
                encoder than it was trained with.
        """
        return cls.of_model(load_model(cls.kind, folder, encoder=None if encoder is None else str(encoder)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
