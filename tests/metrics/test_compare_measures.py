"""Measures ranked on the user's rows: the numbers are the metrics', and who is best is told from chance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from caveat.errors import InvalidArgumentError
from caveat.measures import MEASURES
from caveat.metrics import aurc, auroc, compare_measures, excess_aurc, out_of_distribution
from caveat.predictive import BinaryLogit, Categorical, Gaussian, Heads, Logits, Mean


def classifier(rows: int = 200, classes: int = 3, *, noise: float = 1.0, seed: int = 0) -> tuple[Categorical, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    logits = 2 * nn.functional.one_hot(labels, classes) + torch.randn(rows, classes, generator=generator)
    return Logits().summarize(logits + noise * torch.randn(8, rows, classes, generator=generator)), labels


def regression(rows: int = 200) -> tuple[Gaussian, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y, spread = torch.randn(rows, 1, generator=generator), torch.rand(rows, 1, generator=generator)
    return Mean(noise_variance=0.1).summarize(y + spread * torch.randn(5, rows, 1, generator=generator)), y


def test_scores_are_those_of_the_metrics_for_every_measure_of_classes() -> None:
    pred, labels = classifier()
    strange, _ = classifier(150, noise=3.0, seed=1)
    found = compare_measures(pred, labels, strange, resamples=5)
    wrong = pred.predicted != labels
    assert set(found.scores) == {one.name for one in MEASURES.values() if one.kind == "classification"}
    for name, scores in found.scores.items():
        by, other = (MEASURES[name].uncertainty(one).double() for one in (pred, strange))
        assert scores["error_auroc"].value == pytest.approx(float(auroc(by, wrong)))
        assert scores["aurc"].value == pytest.approx(float(aurc(by, wrong.double())))
        assert scores["excess_aurc"].value == pytest.approx(float(excess_aurc(by, wrong.double())), abs=1e-12)
        assert scores["strange_auroc"].value == pytest.approx(float(out_of_distribution(by, other).auroc))
    ranked = [scores["error_auroc"].value for scores in found.scores.values()]
    assert ranked == sorted(ranked, reverse=True)
    assert found.best("error_auroc") == next(iter(found.scores))


def test_intervals_hold_the_values_and_the_best_is_not_clearly_worse() -> None:
    pred, labels = classifier()
    found = compare_measures(pred, labels, resamples=200)
    for criterion in ("error_auroc", "aurc", "excess_aurc"):
        scores = [one[criterion] for one in found.scores.values()]
        assert all(score.low <= score.value <= score.high for score in scores)
        assert not found.scores[found.best(criterion)][criterion].clearly_worse


def test_a_measure_that_is_blind_to_strange_rows_is_clearly_worse() -> None:
    """Draws that disagree on strange rows, each as sure as on usual ones: no aleatoric measure sees them."""
    usual = 6 * nn.functional.one_hot(torch.zeros(8, 300, dtype=torch.int64), 3).float()
    strange = 6 * nn.functional.one_hot(torch.arange(8).remainder(3)[:, None].expand(8, 300), 3).float()
    noise = torch.randn(2, 8, 300, 3, generator=torch.Generator().manual_seed(0))
    known, unknown = (Logits().summarize(one + 0.3 * n) for one, n in zip((usual, strange), noise, strict=True))
    found = compare_measures(known, torch.zeros(300, dtype=torch.int64), unknown, resamples=100).scores
    assert "error_auroc" not in found["margin"]  # every answer is right
    assert not found["mutual_information"]["strange_auroc"].clearly_worse
    assert found["expected_entropy"]["strange_auroc"].clearly_worse


def test_numbers_are_wrong_beyond_a_tolerance() -> None:
    pred, y = regression()
    error = (pred.moments.mean - y).abs()[:, 0]
    without = compare_measures(pred, y[:, 0], resamples=5).scores["total_variance"]
    assert "error_auroc" not in without
    by = pred.variance.double()[:, 0]
    assert without["aurc"].value == pytest.approx(float(aurc(by, error)))
    judged = compare_measures(pred, y, tolerance=0.3, resamples=5).scores["total_variance"]
    assert judged["error_auroc"].value == pytest.approx(float(auroc(by, error > 0.3)))


def test_yes_or_no_and_pixels_are_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    yes = BinaryLogit().summarize(torch.randn(4, 60, generator=generator))
    labels = torch.randint(2, (60,), generator=generator)
    assert compare_measures(yes, labels.float(), yes, resamples=5).scores["margin"]["strange_auroc"].value == 0.5
    pixels = Logits().summarize(torch.randn(4, 6, 5, 5, 2, generator=generator))
    found = compare_measures(pixels, torch.zeros(6, 5, 5, dtype=torch.int64), pixels, resamples=5)
    assert (found.rows, found.strange) == (6, 6)


def test_the_table_shows_every_measure() -> None:
    pred, labels = classifier()
    found = compare_measures(pred, labels.numpy(), resamples=5)
    assert all(name in repr(found) and name in found._repr_html_() for name in found.scores)
    assert "AUROC of strange rows" not in repr(found)
    with pytest.raises(InvalidArgumentError, match="criterion must be one of error_auroc, aurc"):
        found.best("strange_auroc")


def test_what_does_not_go_together_is_said() -> None:
    pred, labels = classifier()
    numbers, y = regression()
    for arguments, words in (
        ((pred, labels, numbers), "one kind"),
        ((Heads({"a": pred}), labels), "one head"),
        ((pred, labels[:7]), "must be"),
        ((numbers, y[:7]), "same shape"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            compare_measures(*arguments)  # pyright: ignore
    with pytest.raises(InvalidArgumentError, match="tolerance"):
        compare_measures(numbers, y, tolerance=-1)
