"""Parameters out of range are refused by the range that holds."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sklearn")

from caveat.errors import InvalidArgumentError
from caveat.tabular._settings import Settings, check_settings


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"calibration": 2.0}, "calibration must be a number at least 0 and below 1."),
        ({"calibration": -0.1}, "calibration must be a number at least 0 and below 1."),
        ({"dropout": 0}, "dropout must be a number above 0 and below 1."),
        ({"learning_rate": "fast"}, "learning_rate must be a number above 0 and below 1e+06."),
    ],
    ids=str,
)
def test_the_range_that_is_said_is_the_one_that_holds(parameters: dict[str, Any], said: str) -> None:
    assert check_settings(Settings(calibration=0)).calibration == 0
    with pytest.raises(InvalidArgumentError) as error:
        check_settings(Settings(**parameters))
    assert str(error.value).startswith(said)
