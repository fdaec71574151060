"""The estimators of tables, and what both share: how X is opened, and the names of its columns."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caveat._estimators import ClassifierBase, Estimator, RegressorBase, validation
from caveat._tables import Columns, ImpossibleDates, Schema, Table, TrainingTable, as_columns, learn_table, row_place
from caveat.errors import DoubtfulDataWarning, InvalidArgumentError, InvalidDataError
from caveat.tabular._kind import KIND
from caveat.tabular._settings import Settings


@dataclass(kw_only=True, eq=False, repr=False)
class TableEstimator(Estimator, Settings):
    """An estimator of a table X of B rows: a data frame, an Arrow table, an array (B, F) or a dict of columns."""

    kind = KIND
    _input_tags = ("string", "categorical", "allow_nan")

    categorical: Collection[str | int] = ()

    def open_rows(self, X: Any, *, training: bool) -> Table:
        """Returns the columns, which must be those of training.

        Dates of later rows that do not exist are warned of.

        Raises:
            InvalidDataError: No table, no rows, or other columns than in training.
        """
        columns = as_columns(X)
        self._check_names(X, columns, reset=training)
        categorical = names_of_categories(self.categorical, X, list(columns)) if training else ()
        table = Table(columns, row_place, categorical)
        if training and len(table) < 2:
            raise InvalidDataError(
                f"Found array with {len(table)} sample(s) while a minimum of 2 is required to train "
                f"(n_samples = {len(table)})."
            )
        if not len(table):
            raise InvalidDataError("Found array with 0 sample(s) while a minimum of 1 is required.")
        if not training:
            dates = ImpossibleDates(self.model_.reader.schema)
            dates.count(columns, row_place)
            for note in dates.notes():
                warnings.warn(f"{note[0].upper()}{note[1:]}.", DoubtfulDataWarning, stacklevel=4)
        return table

    def training_rows(self, opened: Table, chosen: Any) -> TrainingTable:
        """Returns some of the rows to train on, and warns of columns that could be read in two ways.

        Raises:
            InvalidDataError: A value that does not fit its column; the message names the column and the row.
        """
        table = opened.take(chosen)
        schema, typed = learn_table(table.columns, table.categorical, table.place)
        for column in schema.columns:
            if column.note:
                warnings.warn(f"Column {column.name!r}: {column.note}.", DoubtfulDataWarning, stacklevel=4)
        return TrainingTable(schema, typed.numbers, schema.encode(typed))

    def _restored(self) -> None:
        super()._restored()
        schema: Schema = self.model_.reader.schema
        names, self.categorical = schema.names, tuple(column.name for column in schema.categories)
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


def names_of_categories(given: Any, X: Any, names: Sequence[str]) -> set[str]:
    """Returns the names of the columns that ``categorical`` is of: names, places from 0, or a mask of all columns.

    A whole number is a name where a data frame calls a column by it.

    Raises:
        InvalidArgumentError: Text in place of a list, or a mask of another length.
    """
    listed: list[Any] = [] if isinstance(given, str) else np.asarray(list(given), dtype=object).tolist()
    mask = bool(listed) and all(isinstance(one, (bool, np.bool_)) for one in listed)
    if isinstance(given, str) or (mask and len(listed) != len(names)):
        raise InvalidArgumentError(
            "categorical must be a list of columns, by name or place, or a mask of all of them.",
            got=f"categorical={given!r}" + (f" for {len(names)} columns" if mask else ""),
            cause="one name that is not in a list, or a mask of another table",
            fix=f"categorical=[{names[0]!r}]",
        )
    if mask:
        return {name for name, marked in zip(names, listed, strict=True) if marked}
    called: set[Any] = set(getattr(X, "column_names", getattr(X, "columns", ())))  # of Arrow, or of a data frame
    places: dict[Any, str] = dict(enumerate(names))
    return {str(one) if one in called else places.get(one, str(one)) for one in listed}


@dataclass(kw_only=True, eq=False, repr=False)
class Regressor(TableEstimator, RegressorBase):
    """Numbers from a table, each with its uncertainty: a scikit-learn regressor for one target or several.

    Columns may be numbers, categories, booleans and dates, with missing values. Outside what training showed, at a
    category never seen or a number out of range, draws disagree: epistemic uncertainty rises.

    Args:
        method: "ensemble" (networks trained apart, each with dropout on while drawing), "mc_dropout" (one such
            network), "concrete_dropout" (its rates learned) or "sngp" (a Gaussian process as the last layer).
        members: The number of networks of an ensemble.
        draws: The number of functions that a prediction summarizes.
        width, depth: Width and depth of the perceptron.
        dropout: Rate of dropout; 0.1, of a classifier 0.25, if None.
        epochs: Largest number of passes over the rows; by the number of rows if None, as are the next two.
        batch_size: Number of rows of a step.
        patience: The number of epochs to wait for a gain on held-out rows.
        learning_rate, weight_decay: Settings of AdamW; a decay of 0.01 if None.
        calibration: Fraction of rows that only calibrates; 0 for none. Tables too small to spare 20
            rows are calibrated by five folds, which train five times more; those of fewer than 20 rows are not.
        categorical: Names (or numbers) of columns that hold categories although they look like numbers.
        random_state: Random seed: the same one and the same rows, in any order, give the same model.
        verbose: Whether to show a bar, where the standard error is a terminal.

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

    Columns may be numbers, categories, booleans and dates, with missing values. Outside what training showed, at a
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
