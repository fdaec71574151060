"""What is learned of a table, and how rows become numbers: missing, unseen and far values, in any order of columns."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caveat._plain import from_plain
from caveat._tables._columns import as_columns, as_objects
from caveat._tables._reading import learn_table
from caveat._tables._schema import ABSENT, FIRST, UNKNOWN, CategoryColumn, Column, Schema, parse_columns
from caveat.errors import InvalidDataError


def table() -> dict[str, np.ndarray]:
    return {
        "size": np.array([1.0, 2.0, 3.0, 4.0, np.nan]),
        "color": np.array(["red", "red", "blue", "blue", None], dtype=object),
        "day": np.array(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"], dtype="datetime64[s]"),
    }


def encode(schema: Schema, columns: dict[str, np.ndarray]) -> torch.Tensor:
    return schema.encode(parse_columns(schema, columns))


def test_a_schema_comes_back_from_json() -> None:
    schema = learn_table(table())[0]
    stored = json.loads(json.dumps([asdict(column) for column in schema.columns]))
    assert Schema(from_plain(tuple[Column, ...], stored, "schema")) == schema
    assert [column.kind for column in schema.columns] == ["number", "category", "date"]


def test_encoded_rows_by_hand() -> None:
    # size has mean 2.5 and sd sqrt(1.25); one training row had no size, so a missing one is unfamiliar by 1 / (1 + 1).
    schema = learn_table({name: table()[name] for name in ("size", "color")})[0]
    rows = {"size": np.array([2.5, np.nan, 4.0 + 1.25**0.5]), "color": np.array(["red", None, "green"], dtype=object)}
    expected = [
        [0.0, 0.0, FIRST + 1, 0.0, 1 / 3],
        [0.0, 1.0, UNKNOWN, 0.5, 0.5],
        [1.5 / 1.25**0.5, 0.0, UNKNOWN, 1.0, 1.0],
    ]
    torch.testing.assert_close(encode(schema, rows), torch.tensor(expected))
    torch.testing.assert_close(schema.unfamiliarity(encode(schema, rows)), torch.tensor([e[3:] for e in expected]))


@pytest.mark.parametrize("far", [1e9, -1e12, 1e300])
def test_one_far_value_leaves_the_others_their_digits(far: float) -> None:
    values = np.r_[np.linspace(0, 1, 400), far]
    schema = learn_table({"size": values})[0]
    encoded = encode(schema, {"size": values})
    assert len(encoded[:, 0].unique()) == 401
    assert bool((encoded[:400, 0].diff() > 0).all())
    assert float(encoded[:400, 0].std()) > 0.3
    assert bool((encoded[:, 0].abs() < 1000).all())
    assert float(schema.unfamiliarity(encoded).max()) == 0
    strange = encode(schema, {"size": np.array([-np.sign(far) * 1e5])})
    assert float(schema.unfamiliarity(strange)) > 5


def test_a_missing_category_has_a_code_of_its_own_once_it_was_learned() -> None:
    schema = learn_table({"color": np.array(["red", "red", None, None], dtype=object)})[0]
    assert encode(schema, {"color": np.array([None], dtype=object)})[0].tolist() == pytest.approx([ABSENT, 1 / 3])


def test_columns_are_found_by_name_and_others_are_left_alone() -> None:
    schema, columns = learn_table(table())[0], table()
    turned = {"extra": np.zeros(5), **dict(reversed(list(columns.items())))}
    assert torch.equal(encode(schema, columns), encode(schema, turned))


def test_a_renamed_column_is_named() -> None:
    columns = table()
    columns["Size"] = columns.pop("size")
    with pytest.raises(InvalidDataError, match=r"no column 'size'; columns that the model does not know: Size"):
        encode(learn_table(table())[0], columns)


def test_a_column_that_is_named_as_categorical_must_exist() -> None:
    with pytest.raises(InvalidDataError, match="'shape'"):
        learn_table(table(), categorical=["shape"])[0]


def test_codes_that_look_like_numbers_are_categories_if_said_so() -> None:
    schema = learn_table({"code": np.array([10, 20, 10])}, categorical=["code"])[0]
    assert schema.categories[0].categories == ("10", "20")


@given(st.lists(st.floats(-1e300, 1e300, allow_nan=False), min_size=1, max_size=30), st.floats(-1e300, 1e300))
def test_encoding_is_finite_whatever_the_numbers(values: list[float], other: float) -> None:
    schema = learn_table({"x": np.array(values)})[0]
    found = encode(schema, {"x": np.array([*values, other])})
    assert bool(found.isfinite().all())
    assert bool((found[: len(values), -1] == 0).all())


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_unfamiliarity_grows_with_the_distance(a: float, b: float) -> None:
    schema = learn_table({"x": np.array([-1.0, 0.0, 1.0])})[0]
    near, far = sorted((a, b))
    found = encode(schema, {"x": np.array([1 + near, 1 + far])})[:, -1]
    assert found[0] <= found[1]


@pytest.mark.parametrize("first", [[True, False] * 2, [1, 0] * 2, ["1", "0"] * 2])
@pytest.mark.parametrize("later", [[True, False], ["true", "FALSE"], [1, 0], [1.0, 0.0], ["1", "0"]])
def test_true_and_false_are_1_and_0_however_a_later_file_writes_them(first: list[object], later: list[object]) -> None:
    schema, typed = learn_table({"smokes": as_objects(first)}, categorical=["smokes"])
    expected = schema.encode(typed)[:2]
    assert torch.equal(encode(schema, {"smokes": as_columns({"smokes": later})["smokes"]}), expected)
    assert schema.unfamiliarity(encode(schema, {"smokes": as_objects(["2", None])})).tolist() == [[1.0], [1.0]]


def test_true_false_1_and_0_in_one_column_are_two_categories() -> None:
    schema, typed = learn_table({"smokes": as_objects([True, 1, 0, None, False])})
    assert schema.categories[0].categories == ("False", "True")
    assert typed.categories["smokes"].tolist() == ["True", "True", "False", None, "False"]


@pytest.mark.parametrize(
    ("known", "cell"), [(["0", "1", "2"], True), (["0", "1", "False", "True"], True), (["no", "yes"], 1)]
)
def test_true_is_1_only_where_nothing_else_is_meant(known: list[object], cell: object) -> None:
    schema = Schema((CategoryColumn("x", tuple(map(str, known)), (5,) * len(known), 0),))
    assert parse_columns(schema, {"x": as_objects([cell])}).categories["x"].tolist() == [str(cell)]


def test_a_row_of_training_is_as_unfamiliar_as_without_it() -> None:
    columns = table()
    schema = learn_table(columns)[0]
    as_new = schema.unfamiliarity(schema.as_new(encode(schema, columns)))
    for row in range(5):
        others = learn_table({name: np.delete(values, row) for name, values in columns.items()})[0]
        one = others.unfamiliarity(encode(others, {name: values[row : row + 1] for name, values in columns.items()}))
        columns_alike = [0, -1] if row == 4 else [-1]  # the missing size; the color
        torch.testing.assert_close(as_new[row, columns_alike], one[0, columns_alike])
