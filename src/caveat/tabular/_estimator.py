"""The estimators of tables, and what both share: how X is opened, and the names of its columns."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from caveat._estimators import ClassifierBase, Estimator, RegressorBase, validation
from caveat._tables import (
    Columns,
    DoubtfulColumnWarning,
    ImpossibleDates,
    InvalidTableError,
    Table,
    TrainingTable,
    as_columns,
    learn_table,
    row_place,
)
from caveat.tabular._kind import KIND
from caveat.tabular._settings import Settings


@dataclass(kw_only=True, eq=False, repr=False)
class TableEstimator(Estimator, Settings):
    """An estimator of a table X of B rows: a data frame, an Arrow table, an array (B, F) or a dict of columns."""

    kind = KIND
    _input_tags = ("string", "categorical", "allow_nan")

    categorical: Collection[str | int] = ()

    def open_rows(self, X: Any, *, training: bool) -> tuple[Table, int]:
        """Returns the columns, and the number of rows; the columns must be those of training.

        Dates of later rows that do not exist are warned of.

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
        if not training:
            dates = ImpossibleDates(self.model_.reader.schema)
            dates.count(columns, row_place)
            for note in dates.notes():
                warnings.warn(f"{note[0].upper()}{note[1:]}.", DoubtfulColumnWarning, stacklevel=4)
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


@dataclass(kw_only=True, eq=False, repr=False)
class Regressor(TableEstimator, RegressorBase):
    """Numbers from a table, each with its uncertainty: a scikit-learn regressor for one target or several.

    Columns may be numbers, categories, booleans and dates, with missing values. Outside of what training showed, at a
    category never seen or a number out of range, draws disagree: epistemic uncertainty rises.

    Args:
        method: "ensemble" (networks trained apart, each with dropout on while drawing), "mc_dropout" (one such
            network), "concrete_dropout" (its rates learned) or "sngp" (a Gaussian process as the last layer).
        members: networks of an ensemble.
        draws: functions that a prediction summarizes.
        width, depth: of the perceptron.
        dropout: its rate; 0.1, of a classifier 0.25, if None.
        epochs: at most so many passes; by the number of rows if None, as are the next two.
        batch_size: rows of a step.
        patience: epochs to wait for a gain on held-out rows.
        learning_rate, weight_decay: AdamW's.
        calibration: the share of rows that is not trained on but calibrates; 0 for none. Tables too small to spare 20
            rows are calibrated by five folds, which train five times more; those of fewer than 20 rows are not.
        categorical: names (or numbers) of columns that hold categories although they look like numbers.
        random_state: the same one and the same rows, in any order, give the same model.
        verbose: show a bar, where the standard error is a terminal.

    Example:
        >>> import numpy as np
        >>> X = np.linspace(0, 1, 60)[:, None]
        >>> model = Regressor(members=2, epochs=20, width=16).fit(X, 3 * X[:, 0])
        >>> mean, std = model.predict([[0.5], [9.0]], return_std=True)
        >>> bool(std[1] > 3 * std[0])
        True
    """


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(TableEstimator, ClassifierBase):
    """Classes from a table, with probabilities that can be relied on: a scikit-learn classifier.

    Columns may be numbers, categories, booleans and dates, with missing values. Outside of what training showed, at a
    category never seen or a number out of range, draws disagree: epistemic uncertainty rises.

    All settings but ``class_weight`` are those of ``Regressor``.

    Args:
        class_weight: None, "balanced", or a dict of weights by class.

    Example:
        >>> import numpy as np
        >>> X = {"size": np.linspace(0, 1, 60), "color": np.array(["red", "blue"] * 30)}
        >>> model = Classifier(members=2, epochs=20, width=16).fit(X, ["ripe", "not yet"] * 30)
        >>> model.predict({"size": [0.2], "color": ["red"]})
        array(['ripe'], dtype='<U7')
    """
