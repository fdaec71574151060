"""The demo's numbers as JSON: what the report and the table show, to compute with."""

from __future__ import annotations

import dataclasses
from typing import Any

from caveat.cli._demo._findings import SHOWN
from caveat.cli._demo._readings import RULE, Readings, says
from caveat.cli._demo._story import Result
from caveat.cli._demo._turn import FULL_TURN, Turn

SCHEMA = "caveat-demo-1"


def as_json(result: Result) -> dict[str, Any]:
    """Everything found, as plain Python values; entropies in nats, the same for the same settings."""
    with_draws, single = result.accuracies
    order = result.by_surety()
    return {
        "schema": SCHEMA,
        "rule": RULE,
        "data": {
            "name": result.digits.name,
            "train": len(result.digits.train_labels),
            "test": len(result.digits.test_labels),
        },
        "seed": result.settings.seed,
        **dataclasses.asdict(result.plan),
        "accuracy": {"mean_of_draws": with_draws, "single_pass": single},
        "turn": {
            **_turn(result.turn),
            "angles": [
                {"degrees": angle, **_image(result.turn.readings, row)} for row, angle in enumerate(FULL_TURN)
            ],
        },
        "one_of_each_class": [_turn(turn) for turn in result.ten],
        "surest_test_images": [_test_image(result, i) for i in order[:SHOWN]],
        "least_sure_test_images": [_test_image(result, i) for i in reversed(order[-SHOWN:])],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "test_image": turn.index,
        "label": turn.label,
        "chosen_by": turn.rule,
        "tally": _tally(turn.tally(turn.readings.mean)),
        "tally_single_pass": _tally(turn.tally(turn.readings.single)),
    }


def _tally(counts: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("right", "not_sure", "other"), counts, strict=True))


def _test_image(result: Result, index: int) -> dict[str, Any]:
    label = int(result.digits.test_labels[index])
    return {"test_image": index, "label": label, **_image(result.test, index)}


def _image(readings: Readings, row: int) -> dict[str, Any]:
    return {
        **dataclasses.asdict(says(readings.mean[row])),
        "mean": readings.mean[row].tolist(),
        "sd": readings.sd[row].tolist(),
        "predictive_entropy": float(readings.entropy[row]),
        "mutual_information": float(readings.information[row]),
        "single_pass": {
            **dataclasses.asdict(says(readings.single[row])),
            "softmax": readings.single[row].tolist(),
        },
    }
