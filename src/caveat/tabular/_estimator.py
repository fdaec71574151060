"""What both estimators of tables share: how X is opened, and the names of its columns."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from caveat._estimators import Estimator, validation
from caveat._tables import (
    Columns,
    DoubtfulColumnWarning,
    InvalidTableError,
    Table,
    TrainingTable,
    as_columns,
    learn_table,
    row_place,
)
from caveat.tabular._kind import KIND


@dataclass(kw_only=True, eq=False, repr=False)
class TableEstimator(Estimator):
    """An estimator of a table X of B rows: a data frame, an Arrow table, an array (B, F) or a dict of columns."""

    kind = KIND

    method: str = "ensemble"
    members: int = 5
    draws: int = 100
    width: int = 128
    depth: int = 2
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    calibration: float = 0.15
    categorical: Collection[str | int] = ()
    random_state: int = 0
    verbose: bool = False

    def open_rows(self, X: Any, *, training: bool) -> tuple[Table, int]:
        """Returns the columns, and the number of rows; the columns must be those of training.

        Raises:
            InvalidTableError: No table, no rows, or other columns than in training.
        """
        columns = as_columns(X)
        self._check_names(X, columns, reset=training)
        table = Table(columns, row_place)
        if training and table.rows < 2:
            raise InvalidTableError(
                f"Found array with {table.rows} sample(s) while a minimum of 2 is required to train "
                f"(n_samples = {table.rows})."
            )
        if table.rows == 0:
            raise InvalidTableError("Found array with 0 sample(s) while a minimum of 1 is required.")
        return table, table.rows

    def training_rows(self, opened: Table, chosen: Any) -> TrainingTable:
        """Returns some of the rows to train on, and warns of columns that could be read in two ways.

        Raises:
            InvalidTableError: A value that does not fit its column; the message names the column and the row.
        """
        table = opened.take(chosen)
        names = dict(enumerate(table.columns))
        categorical = {names.get(one, str(one)) if isinstance(one, int) else one for one in self.categorical}
        schema, typed = learn_table(table.columns, categorical, table.place)
        for column in schema.columns:
            if column.note:
                warnings.warn(f"Column {column.name!r}: {column.note}.", DoubtfulColumnWarning, stacklevel=3)
        return TrainingTable.of(schema, typed)

    def _restored(self) -> None:
        super()._restored()
        names = self.model_.reader.schema.names
        self.n_features_in_ = len(names)
        if not all(name == f"x{number}" for number, name in enumerate(names)):
            self.feature_names_in_ = np.array(names, dtype=object)

    def _check_names(self, X: Any, columns: Columns, *, reset: bool) -> None:
        """Note the columns, or check them: as scikit-learn does of arrays and pandas, by name of all else."""
        if not isinstance(X, Mapping) and hasattr(X, "shape") and (hasattr(X, "iloc") or not hasattr(X, "columns")):
            validation.validate_data(self, X, reset=reset, skip_check_array=True)
        elif reset:
            self.n_features_in_ = len(columns)
            if isinstance(X, Mapping) or hasattr(X, "columns"):
                self.feature_names_in_ = np.array(list(columns), dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
